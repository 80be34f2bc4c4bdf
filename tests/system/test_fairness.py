"""Two groups of tasks behind each other: real workers share their slots by the weights."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.system.fleet import FleetUnderTest, balanced_pair
from tests.waiting import wait_until

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]

HINTS = {"tests.step": {"cpu": 0.1}, "tests.gate": {"cpu": 1.0}}


@pytest.fixture
def two(module_redis_url: str, tmp_path: Any) -> Iterator[FleetUnderTest]:
    with balanced_pair(module_redis_url, tmp_path, HINTS) as under_test:
        yield under_test


def test_a_group_of_three_times_the_weight_has_three_times_the_slots(two: FleetUnderTest, tasks: Any) -> None:
    gates = [tasks.gate.delay("fair") for _ in range(2)]
    wait_until(lambda: all(two.ledger.llen(f"started:{g.id}") for g in gates), "all slots are taken", 60)
    # First come, first served: without weights all of these would be done before the others begin.
    plain = [tasks.step.apply_async((0,), {"wait_s": 0.1}) for _ in range(60)]
    gold = [tasks.step.apply_async((0,), {"wait_s": 0.1}, group="gold") for _ in range(120)]
    two.ledger.set("open:fair", 1)

    def done(results: list[Any]) -> int:
        return int(two.ledger.exists(*(f"finished:{r.id}" for r in results)))

    wait_until(lambda: done(plain) >= 38, "38 of the others are done", 60)
    # The others may be ahead by some seconds of their share before that counts, about 25 tasks.
    assert done(gold) >= 20
