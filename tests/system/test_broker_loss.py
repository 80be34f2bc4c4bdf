"""Redis goes away under running, reserved and waiting tasks: workers come back, each task ends once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from kombu import Connection

from balancer.adapters.embedded_redis import EmbeddedRedis
from balancer.routing import direct_queue
from tests.system.fleet import FleetUnderTest, fleet
from tests.system.lasting_redis import LastingRedis
from tests.waiting import wait_until

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

WORKERS = {"prefork": 2, "threads": 2}


@pytest.fixture
def lasting(tmp_path: Path) -> Iterator[LastingRedis]:
    with LastingRedis(tmp_path) as server:
        yield server


@pytest.fixture
def shaken(lasting: LastingRedis, system_server: EmbeddedRedis, tmp_path: Path) -> Iterator[FleetUnderTest]:
    """Two workers over a Redis that will go away; their ledger is elsewhere."""
    with fleet(lasting.url, tmp_path, ledger_url=f"{system_server.url.rsplit('/', 1)[0]}/2") as under_test:
        for pool, slots in WORKERS.items():
            under_test.worker(pool, pool=pool, slots=slots, prefetch=2)
        under_test.ready(*WORKERS)
        yield under_test


def publish(under_test: FleetUnderTest, task: Any, queue: str, *args: Any) -> str:
    with Connection(under_test.url) as connection:
        return str(task.apply_async(args, queue=queue, connection=connection).id)


def value_of(under_test: FleetUnderTest, task_id: str) -> Any:
    raw = under_test.client.get(f"celery-task-meta-{task_id}")
    document = json.loads(raw) if raw else {}
    return document.get("result") if document.get("status") == "SUCCESS" else None


@pytest.mark.parametrize("what", ["restart", "cut"])
def test_what_ran_and_what_waited_ends_once(
    shaken: FleetUnderTest, lasting: LastingRedis, tasks: ModuleType, what: str
) -> None:
    expected: dict[str, int] = {}
    for pool, slots in WORKERS.items():
        queue = direct_queue(f"{pool}@test")
        running = [publish(shaken, tasks.step, queue, number, 60) for number in range(slots)]
        wait_until(lambda: all(shaken.runs_on(i, pool) for i in running), "every slot is held")  # noqa: B023
        reserved = [publish(shaken, tasks.add, queue, number) for number in range(slots + 2)]
        wait_until(lambda: shaken.waiting(queue) == 2, "its credit is used up")  # noqa: B023
        expected |= {i: number + 60 for number, i in enumerate(running)}
        expected |= dict(zip(reserved, range(slots + 2), strict=True))
    unserved = publish(shaken, tasks.add, "bal.class.nobody", 1)
    disturb(shaken, lasting, what)
    for task_id, value in expected.items():
        wait_until(
            lambda: value_of(shaken, task_id) == value,  # noqa: B023
            f"{task_id} ends with {value}; {shaken.said(*WORKERS)}",
        )
    wait_until(lambda: not shaken.client.hlen(shaken.keys.unacked), "every delivery is acknowledged")
    for task_id in expected:
        shaken.finished_once(task_id)
        assert shaken.ledger.llen(f"started:{task_id}") == 1
    assert shaken.waiting("bal.class.nobody") == 1
    assert shaken.finishes(unserved) == 0


def disturb(shaken: FleetUnderTest, lasting: LastingRedis, what: str) -> None:
    if what == "restart":
        lasting.stop()
        lasting.start()
        return
    for name in WORKERS:
        log = shaken.logs / f"{name}.log"
        lasting.cut_all()
        wait_until(lambda: "Connection to broker lost" in log.read_text(), f"{name} notices")  # noqa: B023
        wait_until(lambda: shaken.client.hlen(shaken.keys.unacked) >= 8, "what was restored is taken again")
