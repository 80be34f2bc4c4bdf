"""Workers are killed with all they hold, and tasks kill their workers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import chord

from tests.system.fleet import FleetUnderTest, fleet
from tests.system.moving import SCHEMES
from tests.waiting import wait_until

pytestmark = [
    pytest.mark.system,
    pytest.mark.timeout(300),
    # Celery's result backend, which here stores in this process.
    pytest.mark.filterwarnings("ignore:Call to deprecated setex"),
]

#: So that the dead are found soon, and by nothing but what they held.
FAST = {
    "BALANCER_HEARTBEAT_TTL": "1.5",
    "BALANCER_HEARTBEAT_INTERVAL": "0.25",
    "BALANCER_VISIBILITY_TIMEOUT": "0",
}


@pytest.fixture
def empty(module_redis_url: str, tmp_path: Path, tasks: Any) -> Iterator[FleetUnderTest]:
    """A fleet without workers, over an empty Redis."""
    with fleet(module_redis_url, tmp_path) as under_test:
        under_test.client.flushdb()
        under_test.ledger.flushdb()
        tasks.app.conf.task_routes[-1].lanes.forget()
        yield under_test


def start(under_test: FleetUnderTest, *names: str, scheme: str = SCHEMES["stock"], **options: Any) -> None:
    for name in names:
        under_test.worker(name, **{"BALANCER_TEST_SCHEME": scheme, **FAST, **options})


@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES.keys())
def test_all_that_a_killed_worker_held_is_done_once_without_a_beat(
    empty: FleetUnderTest, tasks: Any, scheme: str
) -> None:
    start(empty, "a", scheme=scheme, prefetch=20)
    empty.ready("a")
    running = tasks.step.delay(0, 60)
    wait_until(lambda: empty.ledger.llen(f"step:{running.id}") >= 3, "the first steps are saved")
    reserved = [tasks.add.delay(n) for n in range(3)]
    eta = tasks.add.apply_async((10,), countdown=6)
    limited = [tasks.limited.apply_async((n,), queue="celery") for n in range(3)]
    # Those that are not balanced are known to be held only where our own pop takes them.
    plain = [tasks.plain.delay(n) for n in range(2)] if scheme == SCHEMES["balanced"] else []
    held = [*reserved, eta, *limited, *plain]
    wait_until(lambda: all(empty.reserved_by(one.id, "a") for one in held), "all is held")
    start(empty, "b", scheme=scheme, prefetch=20)
    empty.ready("b")
    empty.kill("a")
    assert running.get(timeout=60) == 60
    assert [one.get(timeout=60) for one in reserved] == [0, 1, 2]
    assert [one.get(timeout=60) for one in plain] == [2 * n for n in range(len(plain))]
    assert eta.get(timeout=60) == 10
    assert limited[0].get(timeout=60) in (0, 1, 2)
    for one in (running, *reserved, eta):
        empty.finished_once(one.id)
    steps = [int(value) for value in empty.ledger.lrange(f"step:{running.id}", 0, -1)]
    assert max(steps.count(n) for n in steps) <= 2
    assert sum(steps.count(n) - 1 for n in set(steps)) <= 1


def test_a_task_that_kills_its_workers_is_set_aside_and_its_neighbours_finish(
    empty: FleetUnderTest, tasks: Any
) -> None:
    names = ("a", "b", "c", "d")
    start(empty, *names, scheme=SCHEMES["balanced"], slots=2, prefetch=2)
    empty.ready(*names)
    beside, killer = tasks.gate.delay("beside"), tasks.poison.delay()
    neighbours = [tasks.step.delay(0, 4) for _ in range(6)]
    member = chord([tasks.add.s(1), tasks.add.s(2)])(tasks.total.s())
    with pytest.raises(Exception, match="workers died while they ran it"):
        killer.get(timeout=60)
    assert [one.get(timeout=60) for one in neighbours] == [4] * 6
    # Celery keeps the place of a worker that died while it published a chord's body for 22 s.
    assert member.get(timeout=60) == 3
    assert empty.ledger.llen(f"started:{killer.id}") == 3
    said = empty.command("failed")
    assert killer.id in said
    assert beside.id not in said
    empty.ledger.set("open:beside", "1")
    assert beside.get(timeout=60) == "beside"
    assert "tests.poison" in said
    empty.ledger.set("cured", "1")
    assert "back in" in empty.command("resend", killer.id)
    assert tasks.app.AsyncResult(killer.id).get(timeout=60) == "cured"
    assert "nothing is set aside" in empty.command("failed")
