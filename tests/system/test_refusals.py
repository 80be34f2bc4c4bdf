"""Redis refuses writes again and again while tasks end (it is full, lacks its replicas): each ends once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from celery import chain, chord

from balancer.adapters.embedded_redis import EmbeddedRedis
from tests.system.fleet import FleetUnderTest, fleet
from tests.system.moving import SCHEMES
from tests.waiting import wait_until

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]

#: What refuses, and what no longer does.
REFUSALS = {"full": ("maxmemory", 1, 0), "without replicas": ("min-replicas-to-write", 1, 0)}

WORKERS = {"prefork": 2, "threads": 2}

@pytest.fixture
def book() -> Iterator[EmbeddedRedis]:
    """The ledger's Redis, which refuses nothing."""
    with EmbeddedRedis() as server:
        yield server


@pytest.fixture(params=SCHEMES)
def working(request: pytest.FixtureRequest, module_redis_url: str, book: EmbeddedRedis,
            tmp_path: Path) -> Iterator[FleetUnderTest]:
    with fleet(module_redis_url, tmp_path, ledger_url=book.url) as under_test:
        under_test.scheme = SCHEMES[request.param]
        for pool, slots in WORKERS.items():
            under_test.worker(pool, pool=pool, slots=slots, prefetch=2)
        serving(under_test, *WORKERS)
        yield under_test


def serving(under_test: FleetUnderTest, *names: str) -> None:
    """Wait until these workers take tasks: one that reports may still be declaring its queues."""
    for name in names:
        log = under_test.logs / f"{name}.log"
        wait_until(lambda: f"{name}@test ready." in log.read_text(), f"{name} serves")  # noqa: B023


def calls_of(tasks: ModuleType) -> dict[Any, int]:
    """Calls of each kind whose end has more than one step, and what they come to."""
    calls: dict[Any, int] = {}
    for number in range(30):
        calls[chain(tasks.add.s(number, 1), tasks.add.s(2)).apply_async()] = number + 3
        members = [tasks.add.s(number, i) for i in range(3)]
        calls[chord(members, tasks.total.s()).apply_async()] = 3 * number + 3
        calls[tasks.step.apply_async((number, 3, 0.02))] = number + 3
    return calls | {tasks.flaky.delay(2): 2 for _ in range(5)}


def refusals(under_test: FleetUnderTest) -> int:
    """How often Redis has refused something, by its own count: reports come and are refused all the time."""
    return sum(one["count"] for one in under_test.client.info("errorstats").values())


@pytest.mark.parametrize("what", REFUSALS)
def test_every_task_ends_once_and_every_worker_goes_on(
    working: FleetUnderTest, tasks: ModuleType, what: str
) -> None:
    option, refusing, willing = REFUSALS[what]
    results = calls_of(tasks)
    refused = 0

    def ended() -> int:
        return sum(call.ready() for call in results)

    try:
        while refused < 10 and ended() < len(results):
            said, done = refusals(working), ended()
            working.client.config_set(option, refusing)
            wait_until(lambda: refusals(working) > said or ended() == len(results), "refused")  # noqa: B023
            refused += refusals(working) > said
            working.client.config_set(option, willing)
            wait_until(lambda: ended() > done, lambda: f"work goes on; {working.said(*WORKERS)}")  # noqa: B023
    finally:
        working.client.config_set(option, willing)
    assert refused > 1
    for call, value in results.items():
        assert call.get(timeout=60) == value
    wait_until(lambda: not working.client.hlen(working.keys.unacked), "every delivery is acknowledged")
    assert [process.poll() for process in working.processes.values()] == [None, None]


def test_a_worker_that_starts_meanwhile_serves_once_redis_lets_it(module_redis_url: str, tasks: ModuleType,
                                                                  tmp_path: Path) -> None:
    with fleet(module_redis_url, tmp_path) as starting:
        starting.scheme = SCHEMES["balanced"]
        starting.client.config_set("maxmemory", 1)
        try:
            starting.worker("late")
            log = starting.logs / "late.log"
            wait_until(lambda: log.exists() and "OutOfMemoryError" in log.read_text(), "it is refused")
        finally:
            starting.client.config_set("maxmemory", 0)
        serving(starting, "late")
        assert tasks.add.delay(1, 2).get(timeout=60) == 3
