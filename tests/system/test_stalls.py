"""The witness by whose word a failed test is tried once more sees a process that was stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from tests.waiting import wait_until

pytestmark = [pytest.mark.system, pytest.mark.timeout(60)]

PROGRAM = """
import sys
from tests.stalls import Witness
witness = Witness()
print("ready", flush=True)
for _ in sys.stdin:
    print(len(witness.since(0.0)), *witness.stalls, sep="; ", flush=True)
"""


def test_a_process_that_was_stopped_is_seen_on_each_processor() -> None:
    with subprocess.Popen([sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          text=True, bufsize=1) as watched:
        assert watched.stdin is not None
        assert watched.stdout is not None

        def answer() -> str:
            watched.stdin.write("?\n")
            return watched.stdout.readline()

        assert watched.stdout.readline() == "ready\n"
        before = int(answer().partition(";")[0])
        os.kill(watched.pid, signal.SIGSTOP)
        with pytest.raises(subprocess.TimeoutExpired):
            watched.wait(timeout=2)
        os.kill(watched.pid, signal.SIGCONT)
        seen = before + len(os.sched_getaffinity(0))
        wait_until(lambda: int(answer().partition(";")[0]) >= seen, "each witness has noticed")
        assert "stood still for" in answer()
        watched.stdin.close()
