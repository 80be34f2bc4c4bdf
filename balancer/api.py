"""The seed's three calls for callers without an event loop, given an app or a running balancer.

    from balancer.api import get_load_balancer_stats
    get_load_balancer_stats(app)

With an app they go to the balancer that runs in this process (beat's thread, `celery balancer
run`); statistics are also there without one, read from what the working balancer has left in Redis.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from celery import Celery

from balancer import wiring
from balancer.errors import BalancerError
from balancer.loop import AdaptiveLoadBalancer
from balancer.service import running_balancer


def get_load_balancer_stats(where: Celery | AdaptiveLoadBalancer) -> dict[str, Any]:
    """Statistics of the balancer and its fleet, in the shape of the seed's metrics JSON and more."""
    balancer = _running(where)
    if balancer is None:
        balancer = wiring.build(where)
        balancer.look()
    return balancer.get_load_balancer_stats()


def handle_task_cancelled_for_migration(where: Celery | AdaptiveLoadBalancer, task_id: str,
                                        source_worker_id: str) -> None:
    """A task was cancelled on its worker so that it can move. Raises `BalancerError` without a balancer."""
    _needed(where).task_cancelled_for_migration(task_id, source_worker_id)


def update_worker_performance(where: Celery | AdaptiveLoadBalancer, worker_id: str,
                              metrics: Mapping[str, Any]) -> None:
    """Metrics of a worker from outside. Raises `BalancerError` for garbage and without a balancer."""
    _needed(where).worker_performance(worker_id, metrics)


def _running(where: Celery | AdaptiveLoadBalancer) -> AdaptiveLoadBalancer | None:
    return where if isinstance(where, AdaptiveLoadBalancer) else running_balancer(where)


def _needed(where: Celery | AdaptiveLoadBalancer) -> AdaptiveLoadBalancer:
    balancer = _running(where)
    if balancer is None:
        raise BalancerError("no balancer runs in this process: call this where beat or "
                            "`celery balancer run` runs, or give the balancer itself")
    return balancer
