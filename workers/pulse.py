"""The pulse of a worker's event loop: a tick that shows it turns, a way to wake it, and what it does again.

kombu asks an order that refused every lane again only when its loop turns, and a pool thread
that acknowledges does not wake the loop by itself: both cost up to a second without this.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from celery import bootsteps
from celery.utils.log import get_logger

logger = get_logger(__name__)

#: Seconds between turns of an idle loop.
TURN_S: Final = 0.1

#: Seconds after which something is tried again.
AGAIN_S: Final = 1.0


class Pulse(bootsteps.StartStopStep):  # type: ignore[misc]
    """Counts the turns of the event loop, can wake it from another thread, and does errands on it."""

    requires = ("celery.worker.consumer.tasks:Tasks",)
    #: The pulse of this process's worker, when it has one.
    current: Pulse | None = None

    def __init__(self, consumer: Any, **options: Any) -> None:
        super().__init__(consumer, **options)
        self.ticks = 0
        self._timer: Any = None
        self._pipe: tuple[int, int] | None = None
        #: When each is due (steady clock, s), and what it is.
        self._errands: deque[tuple[float, Callable[[], None]]] = deque()
        Pulse.current = self

    def start(self, consumer: Any) -> None:
        self._timer = consumer.timer.call_repeatedly(TURN_S, self._turn)
        if consumer.hub is not None and self._pipe is None:
            self._pipe = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC) if hasattr(os, "pipe2") else os.pipe()
        if consumer.hub is not None and self._pipe is not None:
            consumer.hub.add_reader(self._pipe[0], self._drain)

    def stop(self, consumer: Any) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if consumer.hub is not None and self._pipe is not None:
            consumer.hub.remove_reader(self._pipe[0])

    def again(self, errand: Callable[[], None]) -> None:
        """Have the event loop do this in a second. From any thread."""
        self._errands.append((time.monotonic() + AGAIN_S, errand))

    def _turn(self) -> None:
        self.ticks += 1
        now = time.monotonic()
        while self._errands and self._errands[0][0] <= now:
            self._errands.popleft()[1]()

    def _drain(self) -> None:
        assert self._pipe is not None
        try:
            os.read(self._pipe[0], 4096)
        except BlockingIOError:
            logger.debug("the wake-up was drained already")

    def wake(self) -> None:
        """Make the event loop turn now. Safe from any thread."""
        if self._pipe is not None:
            try:
                os.write(self._pipe[1], b".")
            except BlockingIOError:
                logger.debug("the event loop has wake-ups waiting")
