"""Balances tasks whose code one cannot touch: what `balancer_tasks` names.

Called when an app is finalized, and again when a worker has imported its task modules.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from celery import Celery
from celery.utils.log import get_logger

from balancer import wiring
from balancer.settings import Settings
from workers.declared import DECLARATIONS
from workers.task import BalancedMixin

logger = get_logger(__name__)


def balance_declared(app: Celery) -> None:
    """Give the tasks named in `balancer_tasks` the behaviour of balanced ones."""
    settings: Settings = wiring.settings_of(app)
    for name, declared in settings.tasks.items():
        task = app._tasks.get(name)
        if task is not None and not getattr(task, "balanced", False):
            balance(task, declared)


def balance(task: Any, declared: Mapping[str, Any]) -> None:
    """Mix the balanced behaviour into a task whose code one cannot touch."""
    cls = type(task)
    said = {
        key: staticmethod(value) if callable(value) else value
        for key, value in declared.items()
        if key in DECLARATIONS
    }
    task.__class__ = type(
        cls.__name__,
        (BalancedMixin, cls),
        {
            "__module__": cls.__module__,
            "abstract": False,
            **said,
            "acks_late": True,
            "reject_on_worker_lost": True,
            "Request": BalancedMixin.Request,
            "Strategy": BalancedMixin.Strategy,
            "declared_track_started": cls.track_started,
        },
    )
    if not cls.acks_late:
        logger.info("task %s is acknowledged late from now on: a balanced task must be", task.name)
