"""`AdaptiveLoadBalancer` as the seed's coordinator makes it: from itself and the options by name.

    self.load_balancer = AdaptiveLoadBalancer(self, enable_dynamic_thresholds=True)
    self.load_balancer_task = asyncio.create_task(self.load_balancer.start_balancing())
"""

from __future__ import annotations

from typing import Any, Final

from celery import Celery

from balancer import loop, wiring
from balancer.errors import BalancerError
from balancer.standing import Ports

#: Where a coordinator may have its Celery app.
PLACES: Final = ("app", "celery_app")


class AdaptiveLoadBalancer(loop.AdaptiveLoadBalancer):
    """A balancer of the fleet of a Celery app, or of the coordinator that has one.

    Options are those of `balancer.settings` without their prefix; they stand above environment and
    configuration. Over ports, with settings and a strategy, it is the one of `balancer.loop`. Raises
    `SettingError` that names the option, and `StoreError` when Redis does not answer.
    """

    def __init__(self, coordinator: Any, *parts: Any, **options: Any) -> None:
        if isinstance(coordinator, Ports):
            super().__init__(coordinator, *parts, **options)
            return
        if parts:
            raise BalancerError(f"AdaptiveLoadBalancer(…, {parts[0]!r}): give options by their names")
        app = app_of(coordinator)
        settings = wiring.settings_of(app, options)
        strategy = wiring.strategy_of(settings)
        ports = wiring.ports_over(app, wiring.connection_of(app, settings), settings)
        super().__init__(ports, settings, strategy)


def app_of(coordinator: Any) -> Celery:
    """The Celery app that this is or has. Raises `BalancerError`."""
    for found in (coordinator, *(getattr(coordinator, place, None) for place in PLACES)):
        if isinstance(found, Celery):
            return found
    raise BalancerError(f"AdaptiveLoadBalancer({coordinator!r}): the first argument must be the Celery app, "
                        f"or an object that has it as its `{'` or `'.join(PLACES)}`")
