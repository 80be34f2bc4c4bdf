"""The seed's coordinator makes, starts and ends a balancer as its document shows."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

import balancer
from balancer import AdaptiveLoadBalancer, loop
from balancer.adapters.redis_connection import Connection
from balancer.errors import BalancerError, SettingError
from tests.contract.worlds import RedisWorld, worker
from tests.waiting import wait_until


class Coordinator:
    """What the document's `self` is: it has the Celery app, and tasks on its event loop."""

    def __init__(self, app: Celery, **options: Any) -> None:
        self.celery_app = app
        self.load_balancer = AdaptiveLoadBalancer(self, **options)

    async def run(self, until: Any) -> None:
        self.load_balancer_task = asyncio.create_task(self.load_balancer.start_balancing())
        await asyncio.to_thread(wait_until, until, "the balancer works")
        self.load_balancer_task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await self.load_balancer_task


@pytest.fixture
def app(redis_url: str, tmp_path: Path) -> Celery:
    made = Celery("coordinated", broker=redis_url, set_as_current=False)
    made.conf.update(balancer_db_path=str(tmp_path / "ledger.duckdb"), balancer_check_interval=0.5,
                     balancer_price_interval=0.05)
    return made


def test_a_coordinator_makes_it_starts_it_and_ends_it(app: Celery, connection: Connection) -> None:
    world = RedisWorld(connection)
    world.report(worker("cpu@h"))
    made = Coordinator(
        app, enable_dynamic_thresholds=True, enable_predictive_balancing=False,
        enable_cost_benefit_analysis=True, enable_hardware_specific_strategies=True,
        enable_resource_efficiency=True, strategy="adaptive")
    settings = made.load_balancer.settings
    assert (settings.enable_predictive_balancing, settings.check_interval) == (False, 0.5)
    assert made.load_balancer.strategy.name == "adaptive"
    asyncio.run(asyncio.wait_for(made.run(lambda: world.order("cpu-test")), 30))
    assert balancer.get_load_balancer_stats(made.load_balancer)["worker_count"] == 1
    assert not world.client.exists(world.keys.lease), "it has given the lease back"
    assert "balancer" not in [thread.name for thread in threading.enumerate()]


def test_it_ends_when_it_is_stopped_and_says_what_ended_it(app: Celery,
                                                                   monkeypatch: pytest.MonkeyPatch) -> None:
    async def stopped(made: AdaptiveLoadBalancer) -> None:
        running = asyncio.create_task(made.start_balancing())  # type: ignore[arg-type]
        made.stop()
        await asyncio.wait_for(running, 30)

    asyncio.run(stopped(AdaptiveLoadBalancer(app)))
    broken = AdaptiveLoadBalancer(app)
    monkeypatch.setattr(broken, "_take_turn", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        asyncio.run(stopped(broken))


def test_without_an_event_loop_it_blocks_as_ever(app: Celery) -> None:
    made = AdaptiveLoadBalancer(app)
    made.stop()
    assert made.start_balancing() is None


def test_it_is_made_from_ports_as_ever(app: Celery) -> None:
    first = balancer.build(app)
    made = AdaptiveLoadBalancer(first.ports, first.settings, strategy=first.strategy)
    assert isinstance(made, loop.AdaptiveLoadBalancer)
    assert (made.ports, made.settings) == (first.ports, first.settings)


@pytest.mark.parametrize(("options", "says"), [
    ({"check_interval": 0}, "balancer_check_interval = 0: must be a number from 0.1 to 86400 s"),
    ({"enable_dynamic_threshold": True}, "did you mean 'balancer_enable_dynamic_thresholds'"),
    ({"strategy": "adaptiv"}, "did you mean 'adaptive'"),
])
def test_an_impossible_option_is_refused_by_its_name(app: Celery, options: dict[str, Any], says: str) -> None:
    with pytest.raises(SettingError) as refused:
        AdaptiveLoadBalancer(app, **options)
    assert says in str(refused.value)


def test_what_has_no_app_and_what_has_no_name_is_refused(app: Celery) -> None:
    with pytest.raises(BalancerError, match="the first argument must be the Celery app, or an object"):
        AdaptiveLoadBalancer(object())
    with pytest.raises(BalancerError, match="give options by their names"):
        AdaptiveLoadBalancer(app, 30)
