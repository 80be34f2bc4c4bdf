"""How tasks end that do not end well: each has one end, the client hears of it, the fence forgets it."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
from celery.exceptions import TaskRevokedError, TimeLimitExceeded

from balancer.errors import SettingError
from balancer.routing import direct_queue
from tests.system.fleet import FleetUnderTest, fleet
from tests.waiting import wait_until
from workers import BalancedTask

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

POOLS = ["prefork", "threads", "solo"]


@pytest.fixture(scope="module")
def hostile(tasks: ModuleType) -> ModuleType:
    import tests.system.hostile_app as module

    return module


@pytest.fixture(scope="module")
def pools(module_redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FleetUnderTest]:
    """One worker of each pool, named by it."""
    with fleet(module_redis_url, tmp_path_factory.mktemp("logs"), "tests.system.hostile_app") as under_test:
        for pool in POOLS:
            under_test.worker(pool, pool=pool, slots=2 if pool != "solo" else 1, prefetch=2)
        under_test.ready(*POOLS)
        yield under_test


def on(task: Any, pool: str, *args: Any, **options: Any) -> Any:
    return task.apply_async(args, queue=direct_queue(f"{pool}@test"), **options)


def starts(pools: FleetUnderTest, result: Any) -> int:
    return int(pools.ledger.llen(f"started:{result.id}"))


def forgotten(pools: FleetUnderTest, result: Any) -> None:
    """Its fence is done with a time to live, and nothing else of it is left."""
    wait_until(
        lambda: pools.fence(result.id).get("state") == "done",
        f"the fence is closed: {pools.fence(result.id)}; {pools.said(*POOLS)}",
    )
    assert pools.client.ttl(pools.keys.fence(result.id)) > 0
    assert not pools.client.exists(pools.keys.state(result.id), pools.keys.want(result.id))
    wait_until(lambda: not pools.client.hlen(pools.keys.unacked), "its delivery is acknowledged", 15)


def still_works(pools: FleetUnderTest, tasks: ModuleType, pool: str) -> None:
    """The pool did not lose a slot."""
    assert [on(tasks.add, pool, 1).get(timeout=30) for _ in range(3)] == [1, 1, 1], pools.said(pool)


def processes(tasks: ModuleType) -> set[int]:
    """The processes of the prefork pool."""
    (stats,) = tasks.app.control.inspect(destination=["prefork@test"]).stats().values()
    return set(stats["pool"]["processes"])


@pytest.mark.parametrize("pool", POOLS)
def test_a_task_that_exits_fails_once(
    pools: FleetUnderTest, tasks: ModuleType, hostile: ModuleType, pool: str
) -> None:
    result = on(hostile.exits, pool, 3)
    said = "lost its process 5 times" if pool == "prefork" else r"sys\.exit\(3\)"
    with pytest.raises(Exception, match=said):
        result.get(timeout=120)
    assert starts(pools, result) == (5 if pool == "prefork" else 1)
    forgotten(pools, result)
    still_works(pools, tasks, pool)
    kept = pools.client.hget(pools.keys.failed, result.id) or b""
    assert (b"lost its process 5 times" in kept) == (pool == "prefork")


@pytest.mark.parametrize("pool", POOLS)
def test_a_value_that_cannot_be_stored_fails_once(
    pools: FleetUnderTest, hostile: ModuleType, pool: str
) -> None:
    result = on(hostile.strange, pool)
    with pytest.raises(Exception, match="JSON serializable"):
        result.get(timeout=30)
    assert starts(pools, result) == 1
    forgotten(pools, result)


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("pool", POOLS)
def test_a_task_that_overrides_after_return_is_forgotten_too(
    pools: FleetUnderTest, hostile: ModuleType, pool: str, fails: bool
) -> None:
    result = on(hostile.careless, pool, fails)
    wait_until(result.ready, "it ends", 30)
    forgotten(pools, result)
    assert pools.ledger.llen(f"after:{result.id}") == 1


@pytest.mark.parametrize("pool", POOLS)
def test_a_copy_that_comes_after_the_end_does_not_unsay_it(
    pools: FleetUnderTest, tasks: ModuleType, pool: str
) -> None:
    result = on(tasks.broken, pool)
    with pytest.raises(ValueError, match="on purpose"):
        result.get(timeout=30)
    on(tasks.broken, pool, task_id=result.id)
    wait_until(lambda: any(b"Duplicate" in e for e in pools.moved_events(result.id)), "the copy is refused")
    wait_until(lambda: not pools.client.hlen(pools.keys.unacked), "and acknowledged")
    assert tasks.app.AsyncResult(result.id).state == "FAILURE"
    assert starts(pools, result) == 1


@pytest.mark.parametrize(
    "header", ["text", {"epoch": "x", "size": "big", "profile": 7}, {"epoch": -1, "size": float("nan")}, [1]]
)
def test_a_broken_header_silences_no_worker(pools: FleetUnderTest, tasks: ModuleType, header: object) -> None:
    name = f"header-{header}"
    with tasks.app.connection_for_write() as connection:
        message = tasks.app.amqp.as_task_v2("broken-" + name, "tests.gate", (name,))
        tasks.app.amqp.send_task_message(
            tasks.app.amqp.Producer(connection),
            "tests.gate",
            message._replace(headers={**message.headers, "balancer": header}),
            queue=direct_queue("threads@test"),
        )
    wait_until(lambda: pools.ledger.exists(f"started:broken-{name}"), f"it runs; {pools.said('threads')}")
    seen = pools.client.hget(pools.keys.beats, "threads@test")
    wait_until(lambda: pools.client.hget(pools.keys.beats, "threads@test") != seen, "the worker reports on")
    pools.ledger.set(f"open:{name}", 1)
    wait_until(lambda: pools.finishes(f"broken-{name}") == 1, f"it ends; {pools.said('threads')}")


def test_a_client_is_told_that_its_task_has_started(pools: FleetUnderTest, tasks: ModuleType) -> None:
    for task, args in ((tasks.gate, ("told",)), (tasks.add, (1,))):
        assert task.track_started is False
        result = on(task, "threads", *args)
        if task is tasks.gate:
            wait_until(lambda: result.state == "STARTED", "the client is told")  # noqa: B023
            assert "threads@test" in str(result.info)
            pools.ledger.set("open:told", 1)
        assert result.get(timeout=30)


def test_a_hard_time_limit_fails_the_task_once(
    pools: FleetUnderTest, tasks: ModuleType, hostile: ModuleType
) -> None:
    result = on(hostile.hangs, "prefork", 30, time_limit=1)
    with pytest.raises(TimeLimitExceeded):
        result.get(timeout=30)
    forgotten(pools, result)
    still_works(pools, tasks, "prefork")
    assert starts(pools, result) == 1
    assert result.state == "FAILURE"


def test_a_soft_time_limit_fails_the_task_once(
    pools: FleetUnderTest, tasks: ModuleType, hostile: ModuleType
) -> None:
    result = on(hostile.hangs, "prefork", 30, soft_time_limit=1)
    with pytest.raises(Exception, match="SoftTimeLimitExceeded"):
        result.get(timeout=30)
    assert starts(pools, result) == 1
    forgotten(pools, result)


@pytest.mark.parametrize("how", ["exits", "is killed"])
def test_a_task_that_is_to_retry_when_its_process_is_lost_does(
    pools: FleetUnderTest, tasks: ModuleType, hostile: ModuleType, how: str
) -> None:
    result = on(hostile.vanishes, "prefork", how)
    assert result.get(timeout=60) == [1, "half"]
    assert starts(pools, result) == 2
    forgotten(pools, result)
    pools.finished_once(result.id)
    # One that exits does so late: what comes next is not to be given to it.
    lost = int(pools.ledger.get(f"process:{result.id}"))
    wait_until(lambda: lost not in processes(tasks), "the lost process is gone")


@pytest.mark.parametrize("signal", ["SIGTERM", "SIGKILL"])
def test_a_running_task_is_revoked_once(pools: FleetUnderTest, tasks: ModuleType, signal: str) -> None:
    result = on(tasks.step, "prefork", 0, 400)
    wait_until(lambda: pools.ledger.llen(f"step:{result.id}") > 2, "it runs")
    tasks.app.control.revoke(result.id, terminate=True, signal=signal)
    with pytest.raises(TaskRevokedError):
        result.get(timeout=30)
    forgotten(pools, result)
    still_works(pools, tasks, "prefork")
    assert (result.state, starts(pools, result)) == ("REVOKED", 1)


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_waiting_task_is_revoked_and_never_runs(
    pools: FleetUnderTest, tasks: ModuleType, pool: str
) -> None:
    blockers = [on(tasks.gate, pool, f"revoke-{pool}") for _ in range(2)]
    wait_until(lambda: all(pools.runs_on(b.id, pool) for b in blockers), "every slot is held")
    result = on(tasks.add, pool, 1)
    wait_until(lambda: pools.reserved_by(result.id, pool), f"it is reserved: {pools.said(pool)}")
    tasks.app.control.revoke(result.id)
    wait_until(lambda: result.state == "REVOKED", "the client is told")
    pools.ledger.set(f"open:revoke-{pool}", 1)
    assert [b.get(timeout=30) for b in blockers] == [f"revoke-{pool}"] * 2
    still_works(pools, tasks, pool)
    assert starts(pools, result) == 0
    assert pools.fence(result.id)["state"] == "done"
    assert result.state == "REVOKED"


def test_a_task_that_catches_everything_cannot_be_moved_but_ends_once(
    pools: FleetUnderTest, hostile: ModuleType
) -> None:
    result = on(hostile.swallows, "threads", 20)
    wait_until(lambda: starts(pools, result) == 1, "it runs")
    pools.client.hset(
        pools.keys.want(result.id), mapping={"move": "m", "queue": direct_queue("prefork@test")}
    )
    assert result.get(timeout=30) == 20
    pools.finished_once(result.id)
    assert starts(pools, result) == 1
    forgotten(pools, result)


def test_a_memory_error_ends_the_worker_and_the_task_is_not_run_again(
    pools: FleetUnderTest, hostile: ModuleType
) -> None:
    pools.worker("greedy")
    pools.ready("greedy")
    result = on(hostile.greedy, "greedy")
    with pytest.raises(MemoryError, match="too much"):
        result.get(timeout=30)
    process = pools.processes.pop("greedy")
    assert process.wait(timeout=30) != 0
    pools.worker("greedy")
    wait_until(lambda: any(b"Duplicate" in e for e in pools.moved_events(result.id)), "it comes again", 30)
    forgotten(pools, result)
    assert starts(pools, result) == 1
    assert result.state == "FAILURE"
    pools.kill("greedy")


@pytest.mark.parametrize("share", [float("nan"), 1.5, -0.1, "half"])
def test_a_share_that_cannot_be_fails_the_task_and_silences_no_worker(
    pools: FleetUnderTest, hostile: ModuleType, share: Any
) -> None:
    result = on(hostile.boasts, "threads", share)
    with pytest.raises(Exception, match="from 0 to 1"):
        result.get(timeout=30)


def test_a_task_that_is_acknowledged_early_is_refused(hostile: ModuleType) -> None:
    with pytest.raises(SettingError, match="acks_late"):
        type("Early", (BalancedTask,), {"acks_late": False})


def test_eager_and_direct_calls_know_no_fence(pools: FleetUnderTest, tasks: ModuleType) -> None:
    before = pools.client.keys(pools.keys.fence("*"))
    assert tasks.step(5, steps=2) == 7
    assert tasks.step.apply((5,), {"steps": 2}).get() == 7
    tasks.app.conf.task_always_eager = True
    try:
        assert tasks.step.delay(5, steps=2).get() == 7
        assert tasks.flaky.delay(2).get() == 2
    finally:
        tasks.app.conf.task_always_eager = False
    assert pools.client.keys(pools.keys.fence("*")) == before
