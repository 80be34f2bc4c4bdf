"""Draining a worker, from any process that has the app: ask it, and read how far it has come.

    from balancer.draining import drain, progress
    drain(app, "gpu0@host", wait_s=600)
"""

from __future__ import annotations

from typing import Final

from celery import Celery
from kombu.exceptions import OperationalError

from balancer import wiring
from balancer.adapters import redis_drain
from balancer.adapters.redis_drain import DrainReport
from balancer.errors import BalancerError, StoreError

#: Seconds for a worker's answer: its event loop may be busy.
ANSWER_S: Final = 5.0


def drain(app: Celery, worker: str, *, wait_s: float = 600.0, stop: bool = True, queue: str = "",
          answer_s: float = ANSWER_S) -> None:
    """Have a worker take nothing new, hand on what it holds and, with `stop`, end.

    What waits goes to the front of its lane (or of `queue`); running tasks leave at a checkpoint or
    are interrupted where they declare that; what may not be left has `wait_s` seconds to end. Returns
    when the worker has begun (`progress` tells the rest). Raises `BalancerError` when it does not answer,
    `StoreError` when the broker does not.
    """
    _command(app, worker, {"wait_s": wait_s, "stop": stop, "queue": queue, "undo": False}, answer_s)


def undo(app: Celery, worker: str, *, answer_s: float = ANSWER_S) -> None:
    """Have a worker that drains, or has drained without an end, take work again. Raises `BalancerError`."""
    _command(app, worker, {"undo": True}, answer_s)


def progress(app: Celery, worker: str) -> DrainReport | None:
    """How far a worker has come; `None` when it was never asked. Raises `StoreError`."""
    return redis_drain.read(wiring.connection_of(app, wiring.settings_of(app)), worker)


def _command(app: Celery, worker: str, arguments: dict[str, object], answer_s: float) -> None:
    try:
        answers = app.control.broadcast("balancer_drain", arguments=arguments, destination=[worker],
                                        reply=True, timeout=answer_s, limit=1)
    except OperationalError as error:
        raise StoreError(f"no answer from the broker: {error}") from error
    if not answers:
        raise BalancerError(f"no worker {worker!r} answers within {answer_s:g} s; `celery -A PROJ balancer "
                            "status` lists the workers that are there")
    said = next(iter(answers[0].values()))
    if "ok" not in said:
        raise BalancerError(f"{worker}: {said.get('error') or said}")
