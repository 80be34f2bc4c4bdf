"""A short run of the chaos on each transport: nothing is lost, nothing ends twice, work is done again."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from kombu.transport import TRANSPORT_ALIASES

import workers  # noqa: F401  registers the transport of ours
from tests.architecture.sources import ROOT

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]


def chaos(transport: str, keep: Path, *options: str) -> tuple[int, dict[str, Any], str]:
    """The exit code, the counts and the stories of a run."""
    command = [sys.executable, "-m", "tests.chaos", "--transport", transport, "--keep", str(keep), *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=170, check=False)
    assert done.stdout.strip(), done.stderr
    counts = json.loads(done.stdout.strip().splitlines()[-1])
    return done.returncode, counts, "\n".join(line for story in counts["stories"].values() for line in story)


@pytest.mark.parametrize("transport", ["redis", "balanced-redis"])
def test_nothing_is_lost_and_nothing_ends_twice(transport: str, tmp_path: Path) -> None:
    if transport not in TRANSPORT_ALIASES:
        pytest.skip("this kombu is not one that our transport knows")
    options = ("--tasks", "400", "--kills", "5", "--every", "1", "--seeds", "3")
    code, counts, stories = chaos(transport, tmp_path, *options)
    assert counts["finished_twice"] == counts["wrong"] == 0, stories
    assert counts["lost"] == counts["attributed"], stories
    if transport != "redis":
        assert counts["lost"] == 0, stories
    assert code == 0
    assert counts["tasks"] >= 400
    assert counts["kills"] >= 5
    assert counts["left_behind"]["unacked"] == counts["left_behind"]["held"] == 0
