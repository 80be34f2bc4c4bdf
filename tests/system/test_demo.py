"""A short demo as a stranger runs it: what it prints, and that nothing is left of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]

#: The command as `celery -A workers.demo_app balancer demo` runs it, also where nothing is installed.
COMMAND = (
    # A shell starts what is to run in the background with SIGINT ignored.
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
    "from balancer.cli.demo import demo; demo(prog_name='demo')"
)

#: What a reader of the last line may count on.
KEYS = {
    "tasks", "lost", "finished_twice", "makespan_s", "bound_s", "makespan_over_bound", "mean_completion_s",
    "p99_completion_s", "moves_queued", "moves_reserved", "moves_running", "forecast_accuracy", "strategy",
    "emulated",
}


@contextmanager
def running_demo(folder: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A demo in a process of its own; it and all its children are gone afterwards."""
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND, "--keep", str(folder), *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    family: list[psutil.Process] = []
    try:
        yield process
    finally:
        with suppress(psutil.NoSuchProcess):
            family = descendants(process.pid)
        process.kill()
        process.communicate()
        for child in family:
            with suppress(psutil.NoSuchProcess):
                child.kill()


def descendants(pid: int) -> list[psutil.Process]:
    """Every process that this one started, and those they started."""
    return psutil.Process(pid).children(recursive=True)


def alive(processes: Sequence[psutil.Process]) -> list[int]:
    """Those that still run; a zombie that nobody waits for has ended."""
    found = []
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            if process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
    return found


@pytest.mark.system
@pytest.mark.timeout(240)
@pytest.mark.parametrize("extra", [(), ("--kill-beat", "--no-flower"), ("--second-balancer", "--no-flower")])
def test_nothing_is_lost_or_doubled_while_workers_join_slow_down_and_die(
    tmp_path: Path, extra: tuple[str, ...]
) -> None:
    written = tmp_path / "figures.json"
    with running_demo(tmp_path, "--seconds", "24", "--jobs", "40", "--json", str(written), *extra) as process:
        output, _ = process.communicate(timeout=220)
    assert process.returncode == 0, output
    found = json.loads(output.splitlines()[-1])
    assert found == json.loads(written.read_text())
    assert found.keys() >= KEYS
    assert (found["tasks"], found["lost"], found["finished_twice"], found["failed"]) == (40, 0, 0, 0)
    assert found["makespan_s"] >= found["bound_s"] > 0
    assert found["emulated"] is True
    assert {kind for _, kind, _ in found["disturbances"]} >= {"join", "slow", "kill"}
    assert found["runs_cut_off"] >= ("in the middle of a task" in output), "the killed worker's run"
    assert found["runs"] == 40 + found["runs_left"] + found["runs_cut_off"]
    assert Path(found["ledger"]).exists()
    assert "emulated" in output


@pytest.mark.system
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_no_process_outlives_the_demo(tmp_path: Path, number: signal.Signals) -> None:
    with running_demo(tmp_path, "--seconds", "30", "--jobs", "20", "--strategy", "static") as process:
        wait_until(
            lambda: process.poll() is not None or len(descendants(process.pid)) >= 16,
            "Redis, beat, Flower, ten workers and the pools of two of them are there", timeout_s=90,
        )
        assert process.poll() is None
        family = descendants(process.pid)
        process.send_signal(number)
        wait_until(lambda: not alive(family), f"all {len(family)} processes are gone", timeout_s=60)
        assert process.wait(timeout=60) == (130 if number == signal.SIGINT else -signal.SIGKILL)


@pytest.mark.parametrize("option", ["--keep", "--json"])
def test_a_place_that_cannot_be_written_is_refused_at_once(tmp_path: Path, option: str) -> None:
    blocked = tmp_path / "file"
    blocked.touch()
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, "--keep", str(tmp_path), option, str(blocked / "below")],
        capture_output=True, text=True, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert f"cannot write there: [Errno 20] Not a directory: '{blocked / 'below'}'" in done.stderr
    assert list(tmp_path.iterdir()) == [blocked]
