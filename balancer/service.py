"""Runs a balancer in a thread of a process that has another main job, such as beat.

The balancer is built inside the thread, again and again until Redis answers, so that neither a
start without Redis nor a fault of the balancer ever touches the process around it. Nor does its end: an
interpreter that ends while the thread is in the middle of native code aborts or hangs, so a turn
that does not end in time ends the process at once. So does a second signal while it is waited for.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
import weakref
from collections.abc import Callable
from contextlib import suppress
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING, Any, Final, NoReturn

from balancer import unsignalled

if TYPE_CHECKING:
    from balancer.loop import AdaptiveLoadBalancer


log = logging.getLogger("balancer")

#: The services of this process, by the Celery app they balance.
SERVICES: weakref.WeakKeyDictionary[Any, BalancerService] = weakref.WeakKeyDictionary()

#: First and longest pause between tries to build or to go on (s).
FIRST_PAUSE_S: Final = 1.0
LONGEST_PAUSE_S: Final = 30.0

#: How long the turn that is under way may take when the balancer is stopped (s). Waited for twice at most, by
#: `stop` and at the end of the process: in all less than the 30 s that supervisors commonly grant.
PATIENCE_S: Final = 10.0


class BalancerService:
    """A balancer in a daemon thread. `start` and `stop` may be called twice."""

    def __init__(self, build: Callable[[], AdaptiveLoadBalancer], patience_s: float = PATIENCE_S) -> None:
        self._build = build
        self._patience_s = patience_s
        self._lock = Lock()
        self._stopped = Event()
        self._thread: Thread | None = None
        self._balancer: AdaptiveLoadBalancer | None = None

    @property
    def balancer(self) -> AdaptiveLoadBalancer | None:
        """The balancer, once it is built."""
        return self._balancer

    def start(self) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = Thread(target=self._run, name="balancer", daemon=True)
                atexit.register(self._leave)
                unsignalled.start(self._thread)

    def stop(self) -> bool:
        """End the balancer and wait for the turn it is in; `False` when it is still in it."""
        self._stopped.set()
        with self._lock:
            balancer, thread = self._balancer, self._thread
        if balancer is not None:
            balancer.stop()
        if thread is not None:
            thread.join(self._patience_s)
        return thread is None or not thread.is_alive()

    def _leave(self) -> None:
        """The process ends. Python would cut the thread off wherever it next returns to Python, and C++ code
        that it is in (DuckDB's, numpy's) does not survive that: `terminate`, or a lock that is never given
        back. What the turn had not written down is found by the next holder of the lease."""
        try:
            if self.stop():
                return
        except (SystemExit, KeyboardInterrupt):  # a handler's; atexit would swallow it and let the end go on
            _end("the balancer is still in a turn, and the process is told again to end: it ends without it")
        _end(f"the balancer is still in a turn after {self._patience_s:g} s: the process ends without it")

    def _run(self) -> None:
        pause = FIRST_PAUSE_S
        while not self._stopped.is_set():
            try:
                balancer = self._build()
                with self._lock:
                    self._balancer = balancer
                if not self._stopped.is_set():
                    balancer.start_balancing()
            except Exception as error:
                log.error("the balancer cannot run yet (%s: %s); next try in %g s",
                          type(error).__name__, error, pause)
            if self._stopped.wait(pause):
                return
            pause = min(LONGEST_PAUSE_S, 2 * pause)


def running_balancer(app: Any) -> AdaptiveLoadBalancer | None:
    """The balancer that runs for this app in this process."""
    service = SERVICES.get(app)
    return service.balancer if service is not None else None


def _end(why: str) -> NoReturn:
    """End the process at once, with what was said and printed so far."""
    log.error(why)
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):  # whatever a closed or replaced stream raises
            stream.flush()
    os._exit(1)
