"""Leaving a body before its next checkpoint: the signal, as a pool process answers it.

The worker's main process sends SIGUSR2 (`workers.preempt`). The handler leaves only a body that
may be repeated, never one of our own calls to Redis, a claim or a commit; and it reads the wish
again, so that a signal that is late, stray or meant for the task before changes nothing.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from celery import signals
from celery.utils.log import get_task_logger
from redis.exceptions import RedisError

from balancer.errors import BalancerError
from workers import identity
from workers.leaving import Leave

if TYPE_CHECKING:
    from workers.run import Run

logger = get_task_logger(__name__)

#: Never SIGUSR1 (Celery's soft time limit) nor SIGTERM (the end of the process).
SIGNAL: Final = signal.SIGUSR2


@dataclass(slots=True)
class Place:
    """Where the main thread of this pool process is: in a body that may be left, or not."""

    run: Run | None = None
    #: Calls of our own that are under way in the body; a signal waits for their end.
    closed: int = 0
    asked: bool = False


HERE: Final = Place()


@signals.worker_process_init.connect  # type: ignore[untyped-decorator]
def answer_signals(**_: Any) -> None:
    """From now on this pool process answers `SIGNAL`; the solo pool's, the worker's own, does not."""
    if not identity.in_main_process() and threading.current_thread() is threading.main_thread():
        signal.signal(SIGNAL, _signalled)


def enter(run: Run) -> None:
    """The body of `run`, which may be left at any moment, begins."""
    HERE.run, HERE.closed, HERE.asked = run, 0, False


def end() -> None:
    """It has ended, or may not be left any more (it has published its own successor)."""
    HERE.run = None


@contextmanager
def closed() -> Iterator[None]:
    """A call of our own inside the body: a signal that comes meanwhile is answered at its end."""
    if HERE.run is None:
        yield
        return
    HERE.closed += 1
    try:
        yield
    finally:
        HERE.closed -= 1
    if HERE.asked and not HERE.closed:
        _leave_if_wanted()


def _signalled(signum: int, frame: Any) -> None:
    if HERE.run is not None:
        HERE.asked = True
        if not HERE.closed:
            _leave_if_wanted()


def _leave_if_wanted() -> None:
    """Raise `Leave` when there is a wish for the very task whose body runs here."""
    run = HERE.run
    HERE.asked = False
    if run is None:
        return
    HERE.closed += 1
    try:
        key = run.fence.connection.keys.want(run.delivery.task_id)
        move_id, queue = run.fence.connection.client.hmget(key, ["move", "queue"])
        leaves = bool(move_id and queue) and run.may_leave()
    except (RedisError, BalancerError, OSError) as error:
        logger.warning("task %s: its wish to leave cannot be read: %s", run.delivery.task_id, error)
        return
    finally:
        HERE.closed -= 1
    if leaves:
        # Not twice: what comes now is the way out.
        HERE.run = None
        raise Leave(move_id.decode(), queue.decode())
