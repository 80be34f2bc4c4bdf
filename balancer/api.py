"""The seed's three calls for callers without an event loop, given an app or a running balancer.

    from balancer.api import get_load_balancer_stats
    get_load_balancer_stats(app)

With an app they go to the balancer that runs in this process (beat's thread, `celery balancer
run`), and where there is none through Redis: what is told reaches the balancer that works in its
next turn, and statistics are read from what it has left.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from celery import Celery

from balancer import cancelling, draining, wiring
from balancer.adapters import redis_events
from balancer.model import Event, MetricsTold, TaskLeft
from balancer.outside import checked_metrics, checked_name
from balancer.service import running_balancer

if TYPE_CHECKING:
    from balancer.loop import AdaptiveLoadBalancer


def get_load_balancer_stats(where: Celery | AdaptiveLoadBalancer) -> dict[str, Any]:
    """Statistics of the balancer and its fleet, in the shape of the seed's metrics JSON and more."""
    balancer = _running(where)
    if balancer is None or (balancer is not where and balancer.standing.fence is None):
        balancer = wiring.onlooker(where)  # none is here, or another than ours works
    return balancer.get_load_balancer_stats()


def handle_task_cancelled_for_migration(where: Celery | AdaptiveLoadBalancer, task_id: str,
                                        source_worker_id: str) -> None:
    """A task was cancelled on its worker so that it can move: its move counts as handed over.

    Raises `BalancerError` for what is no name."""
    balancer = _running(where)
    if balancer is not None:
        balancer.task_cancelled_for_migration(task_id, source_worker_id)
    else:
        _tell(where, TaskLeft(at=0.0, task_id=checked_name("task_id", task_id),
                              worker=checked_name("source_worker_id", source_worker_id)))


def update_worker_performance(where: Celery | AdaptiveLoadBalancer, worker_id: str,
                              metrics: Mapping[str, Any]) -> None:
    """Metrics of a worker from outside, by the names of `Reading`. Raises `BalancerError` for garbage."""
    balancer = _running(where)
    if balancer is not None:
        balancer.worker_performance(worker_id, metrics)
    else:
        _tell(where, MetricsTold(at=0.0, worker=worker_id, values=checked_metrics(worker_id, metrics)))


def cancel(app: Celery, task_ids: Iterable[str], *, reason: str = "") -> dict[str, str]:
    """Cancel tasks for good, wherever they are; a word for each id (see `balancer.cancelling`): "removed"
    from its queue, "held" by a worker that ends it now, "noted" for when it turns up, "ended" before."""
    return {one.task_id: one.word for one in cancelling.cancel(app, task_ids, reason=reason)}


def undo_cancel(app: Celery, task_ids: Iterable[str]) -> dict[str, str]:
    """Let cancelled tasks run again; a word for each id: "undone", "unknown", "refused", or "ended": it
    was ended before, and does not run again."""
    return {one.task_id: one.word for one in cancelling.undo(app, task_ids)}


def drain(app: Celery, worker: str, *, wait_s: float = 600.0, stop: bool = True, queue: str = "") -> None:
    """Have a worker take nothing new, hand on what it holds and, with `stop`, end (`balancer.draining`)."""
    draining.drain(app, worker, wait_s=wait_s, stop=stop, queue=queue)


def undo_drain(app: Celery, worker: str) -> None:
    """Have a worker that drains take work again. Raises `BalancerError` when it does not answer."""
    draining.undo(app, worker)


def _running(where: Celery | AdaptiveLoadBalancer) -> AdaptiveLoadBalancer | None:
    from balancer.loop import AdaptiveLoadBalancer

    return where if isinstance(where, AdaptiveLoadBalancer) else running_balancer(where)


def _tell(app: Celery, event: Event) -> None:
    """Through Redis: the balancer that works hears it in its next turn."""
    redis_events.tell(wiring.connection_of(app, wiring.settings_of(app)), event)
