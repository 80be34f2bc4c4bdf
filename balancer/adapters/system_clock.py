"""The `Clock` of a real process: wall-clock seconds, and a wait that another thread can end."""

from __future__ import annotations

import time
from threading import Event


class SystemClock:
    """Implements `balancer.ports.Clock`."""

    def __init__(self) -> None:
        self._stopped = Event()

    def now(self) -> float:
        return time.time()

    def wait(self, seconds: float) -> bool:
        return self._stopped.wait(max(0.0, seconds))

    def stop(self) -> None:
        self._stopped.set()
