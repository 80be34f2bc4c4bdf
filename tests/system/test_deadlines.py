"""A task with `expires` behind more work than there is time for: real workers and the balancer meet it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from balancer.adapters.documents import read_order
from balancer.routing import lane_queue
from tests.system.fleet import FleetUnderTest, balanced_pair
from tests.waiting import wait_until

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]

HINTS = {"tests.step": {"cpu": 0.5}, "tests.add": {"cpu": 0.01}, "tests.gate": {"cpu": 1.0}}


@pytest.fixture
def two(module_redis_url: str, tmp_path: Any) -> Iterator[FleetUnderTest]:
    with balanced_pair(module_redis_url, tmp_path, HINTS) as under_test:
        yield under_test


def test_a_task_that_would_expire_in_the_queue_is_run_in_time(two: FleetUnderTest, tasks: Any) -> None:
    gates = [tasks.gate.delay("due") for _ in range(2)]
    wait_until(lambda: all(two.ledger.llen(f"started:{g.id}") for g in gates), "all slots are taken")
    for _ in range(480):
        tasks.step.apply_async((0,), {"steps": 10})
    # Two minutes of work for both workers; the queue is first come, first served.
    urgent = tasks.add.apply_async((1,), {"other": 1}, expires=60, priority=3)

    def goes_first() -> bool:
        raw = two.client.get(two.keys.order("cpu-test"))
        return raw is not None and read_order(raw).groups[:1] == ((lane_queue("tests.add"),),)

    wait_until(goes_first, "the order puts it first")
    two.ledger.set("open:due", 1)
    assert urgent.get(timeout=60) == 2
    assert two.waiting(lane_queue("tests.step")) > 400
