"""A process that has imported Celery and an app once and forks every worker and beat of a run.

The app's module has an `app` and a `become(environment)`. Reads a JSON line
`{"name", "arguments", "environment", "log"}` for each on its standard input and answers with its
process id. So a killed worker is back in a fraction of a second of processor time.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


class Nursery:
    """The controller's end: starts processes and knows their groups."""

    def __init__(self, environment: dict[str, str], module: str = "tests.chaos.app") -> None:
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.nursery", module],
            cwd=ROOT,
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(self, name: str, arguments: list[str], log: Path, **environment: str) -> int:
        """Start `celery ARGUMENTS`; returns its process id, which is its group's, too."""
        wish = {"name": name, "arguments": arguments, "environment": environment, "log": str(log)}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._lock:
            self._process.stdin.write(json.dumps(wish) + "\n")
            self._process.stdin.flush()
            return int(self._process.stdout.readline())

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=20)


def main() -> None:
    module = import_module(sys.argv[1])
    # Children are reaped by the system; each gets the default back before Celery starts its pool.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    born: list[int] = []
    for line in sys.stdin:
        wish = json.loads(line)
        pid = os.fork()
        if pid == 0:
            become(module, wish)
        born.append(pid)
        print(pid, flush=True)
    # Whoever asked for them has gone, or is done with them.
    for pid in born:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)


def become(module: Any, wish: dict[str, Any]) -> None:
    """What the child does: a session, a log and a seed of its own, then Celery until the end."""
    os.setsid()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    random.seed()
    log = os.open(wish["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    null = os.open(os.devnull, os.O_RDONLY)
    for file, number in ((null, 0), (log, 1), (log, 2)):
        os.dup2(file, number)
    os.environ.update(wish["environment"])
    module.become(wish["environment"])
    code = 1
    try:
        module.app.start(wish["arguments"])
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
