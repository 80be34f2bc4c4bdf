"""An adaptive load balancer for Celery on Redis, over unlike hardware.

Importing this costs nothing: the public names are loaded when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from balancer.api import (
        get_load_balancer_stats,
        handle_task_cancelled_for_migration,
        update_worker_performance,
    )
    from balancer.coordinated import AdaptiveLoadBalancer
    from balancer.errors import BalancerError
    from balancer.settings import Settings
    from balancer.wiring import build

__version__ = "0.1.0"

_HOMES = {
    "AdaptiveLoadBalancer": "balancer.coordinated",
    "BalancerError": "balancer.errors",
    "Settings": "balancer.settings",
    "build": "balancer.wiring",
    "get_load_balancer_stats": "balancer.api",
    "handle_task_cancelled_for_migration": "balancer.api",
    "update_worker_performance": "balancer.api",
}

__all__ = [
    "AdaptiveLoadBalancer",
    "BalancerError",
    "Settings",
    "__version__",
    "build",
    "get_load_balancer_stats",
    "handle_task_cancelled_for_migration",
    "update_worker_performance",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'balancer' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
