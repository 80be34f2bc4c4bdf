"""The hot path on real workers: nothing is claimed or committed in a step of its own, all of it holds."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from types import ModuleType
from typing import Any

import pytest
import redis
from kombu.exceptions import EncodeError

from balancer.adapters.embedded_redis import EmbeddedRedis
from tests.system.fleet import FleetUnderTest, fleet
from tests.waiting import wait_until

COUNT = 60


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedRedis]:
    """A Redis that nobody else counts the commands of."""
    with EmbeddedRedis() as one:
        yield one


@pytest.fixture(scope="module")
def tasks(server: EmbeddedRedis) -> ModuleType:
    os.environ["BALANCER_TEST_URL"] = server.url
    import tests.system.quick_app as module

    return module


@pytest.fixture(scope="module", params=["", "balanced-"], ids=["stock", "balanced"])
def quick(
    request: pytest.FixtureRequest,
    server: EmbeddedRedis,
    tasks: ModuleType,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[FleetUnderTest]:
    """One worker of two processes, on the stock transport and on ours."""
    tasks.app.conf.task_routes[-1].lanes.forget()
    with fleet(server.url, tmp_path_factory.mktemp("logs"), "tests.system.quick_app") as under_test:
        under_test.client.flushall()
        under_test.scheme = request.param
        under_test.worker("q", slots=2, prefetch=4)
        under_test.ready("q")
        yield under_test


def commands(client: redis.Redis) -> Counter[str]:
    stats: dict[str, Any] = client.info("commandstats")
    return Counter({name.removeprefix("cmdstat_"): one["calls"] for name, one in stats.items()})


def settled(quick: FleetUnderTest, results: list[Any]) -> None:
    """All have ended, in the fence and in the broker."""
    wait_until(lambda: all(quick.fence(r.id).get("state") == "done" for r in results), "all end")
    wait_until(lambda: not quick.client.hlen(quick.keys.unacked), "all is acknowledged")
    assert not quick.client.keys(quick.keys.held("*"))


def ends(quick: FleetUnderTest) -> list[dict[str, Any]]:
    """What was told of runs that ended well."""
    events = [json.loads(fields[b"e"]) for _, fields in quick.client.xrange(quick.keys.events)]
    return [e for e in events if e["type"] == "RunFinished" and e["outcome"] == "success"]


def told(quick: FleetUnderTest) -> Counter[str]:
    return Counter(e["task_id"] for e in ends(quick))


def test_a_result_comes_with_its_commit(quick: FleetUnderTest, tasks: ModuleType) -> None:
    tasks.stored.delay(0).get(timeout=60)
    before = commands(quick.client)
    results = [tasks.stored.delay({"n": number}) for number in range(COUNT)]
    assert [r.get(timeout=60) for r in results] == [{"n": number} for number in range(COUNT)]
    settled(quick, results)
    spent = commands(quick.client) - before
    # Receive, end and ack, on our transport in fewer; what runs beside (orders, reports) is a few more.
    assert spent["evalsha"] >= (3 if not quick.scheme else 1) * COUNT
    assert spent["setex"] == COUNT
    # No result is stored in a step of its own; what kombu asks of its queues and bindings now and then is.
    assert spent["multi"] < COUNT / 2
    counted = told(quick)
    assert {counted[r.id] for r in results} == {1}


def test_a_fused_result_is_what_celery_stores(quick: FleetUnderTest, tasks: ModuleType) -> None:
    result = tasks.stored.delay("x")
    assert result.get(timeout=60) == "x"
    raw = quick.client.get(f"celery-task-meta-{result.id}")
    meta = json.loads(raw or b"{}")
    assert meta.keys() >= {"status", "result", "traceback", "children", "date_done", "task_id", "args"}
    assert (meta["status"], meta["worker"], meta["name"]) == ("SUCCESS", "q@test", "quick.stored")
    assert 0 < quick.client.ttl(f"celery-task-meta-{result.id}") <= 500


def test_without_a_result_the_ack_is_the_commit(quick: FleetUnderTest, tasks: ModuleType) -> None:
    results = [tasks.ignored.delay(number) for number in range(COUNT)]
    settled(quick, results)
    counted = told(quick)
    assert {counted[r.id] for r in results} == {1}
    assert not any(quick.client.exists(f"celery-task-meta-{r.id}") for r in results)


def test_every_end_tells_when_its_task_was_published_or_due(quick: FleetUnderTest, tasks: ModuleType) -> None:
    eta = datetime.now(UTC) + timedelta(seconds=2)
    sent = [tasks.stored.delay(0), tasks.ignored.delay(0)]
    held = [task.apply_async((0,), eta=eta) for task in (tasks.stored, tasks.ignored)]
    settled(quick, [*sent, *held])
    ready = {e["task_id"]: e["ready_at"] for e in ends(quick)}
    assert [ready[r.id] == pytest.approx(eta.timestamp(), abs=1e-3) for r in held] == [True, True]
    assert [0 < ready[r.id] < eta.timestamp() for r in sent] == [True, True]


def test_a_body_that_wants_no_result_and_a_call_of_its_own_end_once(
    quick: FleetUnderTest, tasks: ModuleType
) -> None:
    mute, own = tasks.silenced.delay(1), tasks.own_call.delay(2)
    assert own.get(timeout=60) == 2
    settled(quick, [mute, own])


def test_a_value_that_cannot_be_stored_fails_its_task(quick: FleetUnderTest, tasks: ModuleType) -> None:
    result = tasks.unstorable.delay()
    with pytest.raises(EncodeError):
        result.get(timeout=60)
    settled(quick, [result])


def test_a_chain_commits_before_its_next_link(quick: FleetUnderTest, tasks: ModuleType) -> None:
    assert (tasks.stored.s(3) | tasks.stored.s()).delay().get(timeout=60) == 3
