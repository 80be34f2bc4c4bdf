"""The processes of a demo: started together, logged apart, and gone when the demo is gone.

Each child has a session of its own, so that Ctrl-C in a terminal reaches only the demo, which
then ends them in order; on Linux the kernel ends them when the demo is killed with -9.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

#: Option of prctl(2): the signal a process gets when the thread that started it ends.
PR_SET_PDEATHSIG: Final = 1

#: Seconds that children have to end by themselves before they are killed.
GRACE_S: Final = 8.0

#: One thread for each process's linear algebra: a slot is a slot.
ONE_THREAD: Final = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")

#: Options that a demo sets itself; the environment of the person who starts it must not override them.
OURS: Final = ("BALANCER_STRATEGY", "BALANCER_DB_PATH", "BALANCER_HINTS", "BALANCER_REDIS_URL")


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """A process of ours and the file its output goes to."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def kill(self) -> None:
        """kill -9 of this process and of what it started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


class Children:
    """Starts children and ends every one of them."""

    def __init__(self, app: str, environment: Mapping[str, str], folder: Path) -> None:
        self.app = app
        inherited = {name: value for name, value in os.environ.items() if name not in OURS}
        self.environment = {**inherited, **ONE_THREAD, **environment}
        self.folder = folder
        self.all: list[Child] = []

    def start(self, name: str, *arguments: str, **environment: str) -> Child:
        """`celery -A <app> <arguments>` as a child; call it from the main thread only (PR_SET_PDEATHSIG)."""
        log = self.folder / f"{name.partition('@')[0]}.log"
        parent = os.getpid()
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "celery", "-A", self.app, *arguments],
                stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                env={**self.environment, **environment},
                start_new_session=True, preexec_fn=lambda: die_with_parent(parent),
            )
        child = Child(name=name, process=process, log=log)
        self.all.append(child)
        return child

    def stop(self, children: Sequence[Child] | None = None, grace_s: float = GRACE_S) -> list[str]:
        """End these (all when not said): asked at first, killed after `grace_s`. Returns who was killed."""
        ending = [child for child in (self.all if children is None else children) if child.alive]
        for child in ending:
            with contextlib.suppress(ProcessLookupError):
                child.process.terminate()
        deadline = time.monotonic() + grace_s
        killed = []
        for child in ending:
            try:
                child.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                killed.append(child.name)
            child.kill()
        return killed


def die_with_parent(parent: int) -> None:
    """Have this process killed when its parent's thread ends (Linux; elsewhere nothing)."""
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
