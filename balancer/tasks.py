"""Turns of the balancer as Celery tasks, for those who schedule them without our beat.

    app.conf.beat_schedule = {"tick": {"task": "balancer.tick", "schedule": 30.0}}

They take the same lease as a balancer in beat does: while one runs, they change nothing.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final

from celery import Celery

from balancer import wiring

if TYPE_CHECKING:
    from balancer.loop import AdaptiveLoadBalancer

#: Names under which the tasks are registered: the whole tick, and prices and orders alone.
TICK: Final = "balancer.tick"
PRICE: Final = "balancer.price"

_BALANCERS: dict[tuple[int, int], AdaptiveLoadBalancer] = {}


def register(app: Celery) -> None:
    """Add the two tasks to `app`. Twice is once."""
    if getattr(app, "balancer_tasks", False):
        return
    app.balancer_tasks = True
    for name, whole in ((TICK, True), (PRICE, False)):
        _add(app, name, whole)


def run_turn(app: Celery, *, whole: bool) -> dict[str, Any]:
    """One turn of this process's balancer; the lease is given back, since the next may run elsewhere."""
    balancer = _balancer_of(app)
    worked = balancer.turn(whole=whole)
    holder = None if worked else balancer.ports.lease.holder()
    if worked:
        balancer.ports.lease.release()
    return {"worked": worked, "holder": holder}


def _balancer_of(app: Celery) -> AdaptiveLoadBalancer:
    """Made once a process: a child of a fork has its own connections."""
    place = (os.getpid(), id(app))
    if place not in _BALANCERS:
        _BALANCERS.clear()
        _BALANCERS[place] = wiring.build(app)
    return _BALANCERS[place]


def _add(app: Celery, name: str, whole: bool) -> None:
    def turn() -> dict[str, Any]:
        return run_turn(app, whole=whole)

    # A turn that waited for its worker is worth nothing: the next one is due.
    app.task(turn, name=name, shared=False, ignore_result=True, expires=60)
