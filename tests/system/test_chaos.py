"""A short run of the chaos rig; `python -m tests.system.chaos` takes longer ones."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]


def test_nothing_is_lost_and_nothing_ends_twice_while_workers_are_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.system.chaos", "--tasks", "80", "--kills", "3", "--seed", "11"]
    done = subprocess.run(
        [*command, "--logs", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=170,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr
    counts = json.loads(done.stdout.splitlines()[-1])
    assert counts["kills"] == 3
    assert counts["tasks"] >= 80
    # What the broker's own BRPOP loses is told apart; see docs/moving.md.
    assert counts["ended"] + counts["lost_in_pop"] >= counts["calls"], counts
    for wrong in ("wrong", "keys_without_ttl"):
        assert counts[wrong] == 0, counts
    for which in ("lost_unexplained", "committed_twice", "finished_twice"):
        assert counts[which] == [], counts
