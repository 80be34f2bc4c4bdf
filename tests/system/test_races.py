"""Two things at once to one task: moves, retries, revokes, takeovers; and what is left in Redis after."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
from celery.exceptions import TaskRevokedError

from balancer.routing import class_queue, direct_queue
from tests.system.fleet import FleetUnderTest, fleet
from tests.system.moving import ask, starts, told
from tests.waiting import wait_until

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def trio(module_redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FleetUnderTest]:
    """`a` has one slot and room for more; `b` and `c` take what is sent to them."""
    with fleet(module_redis_url, tmp_path_factory.mktemp("logs")) as under_test:
        under_test.worker("a", prefetch=4)
        under_test.worker("b", slots=2, pool="threads")
        under_test.worker("c", slots=2)
        under_test.ready("a", "b", "c")
        yield under_test


def on_a(task: Any, *args: Any, **options: Any) -> Any:
    return task.apply_async(args, queue=direct_queue("a@test"), **options)


def test_two_moves_of_a_reserved_task(trio: FleetUnderTest, tasks: ModuleType) -> None:
    blocker = on_a(tasks.gate, "two-reserved")
    wait_until(lambda: trio.runs_on(blocker.id, "a"), "a is busy")
    result = on_a(tasks.add, 1)
    wait_until(lambda: trio.reserved_by(result.id, "a"), "it is reserved")
    for number, target in enumerate("bc"):
        ask(tasks.app, "reserved", result.id, "a", target, number=number)
    assert result.get(timeout=60) == 1
    wait_until(lambda: told(trio, result.id, "Refused") == 1, "the second is refused")
    assert told(trio, result.id, "HandedOver") == 1
    trio.ledger.set("open:two-reserved", 1)
    assert blocker.get(timeout=60) == "two-reserved"
    trio.finished_once(result.id)
    assert len(starts(trio, result.id)) == 1


def test_two_moves_of_a_running_task(trio: FleetUnderTest, tasks: ModuleType) -> None:
    result = on_a(tasks.step, 0, 30)
    wait_until(lambda: trio.runs_on(result.id, "a"), "it runs")
    for number, target in enumerate("bc"):
        ask(tasks.app, "running", result.id, "a", target, number=number)
    assert result.get(timeout=60) == 30
    trio.finished_once(result.id)
    # The second wish finds it on `a`, or already on `b`: either way each hand-over is one more run.
    assert len(starts(trio, result.id)) == 1 + told(trio, result.id, "HandedOver")
    assert 1 <= told(trio, result.id, "HandedOver") <= 2


def test_a_wish_for_a_task_that_retries_instead(trio: FleetUnderTest, tasks: ModuleType) -> None:
    result = on_a(tasks.flaky, 3)
    ask(tasks.app, "running", result.id, "a", "b")
    assert result.get(timeout=60) == 3
    trio.finished_once(result.id)
    assert len(starts(trio, result.id)) == 4
    wait_until(lambda: not trio.client.exists(trio.keys.want(result.id)), "the wish is forgotten")


def test_a_wish_and_a_retry_at_once(trio: FleetUnderTest, tasks: ModuleType) -> None:
    """The task saves its state once more after the retry was published: the wish is the next run's."""
    result = on_a(tasks.again, 4)
    wait_until(lambda: trio.runs_on(result.id, "a"), "it runs")
    ask(tasks.app, "running", result.id, "a", "b")
    assert result.get(timeout=60) == 4
    trio.finished_once(result.id)


@pytest.mark.parametrize("first", ["move", "revoke"])
def test_a_move_and_a_revoke_at_once(trio: FleetUnderTest, tasks: ModuleType, first: str) -> None:
    result = on_a(tasks.step, 0, 200)
    wait_until(lambda: trio.runs_on(result.id, "a"), "it runs")
    if first == "move":
        ask(tasks.app, "running", result.id, "a", "b")
    tasks.app.control.revoke(result.id, terminate=True)
    if first == "revoke":
        ask(tasks.app, "running", result.id, "a", "b")
    with pytest.raises(TaskRevokedError):
        result.get(timeout=60)
    wait_until(lambda: trio.fence(result.id).get("state") == "done", f"it is closed: {trio.fence(result.id)}")
    wait_until(lambda: not trio.client.hlen(trio.keys.unacked), "its delivery has ended")
    assert trio.waiting(direct_queue("b@test")) == 0
    assert trio.finishes(result.id) == 0
    assert result.state == "REVOKED"
    assert on_a(tasks.add, 3).get(timeout=60) == 3


def test_a_silent_workers_task_is_taken_over_and_ends_once(trio: FleetUnderTest, tasks: ModuleType) -> None:
    """Its reports stop while it lives and works: its delivery lapses, another runs it, one of them ends."""
    shared, quiet = class_queue("cpu-quiet"), {"BALANCER_HEARTBEAT_INTERVAL": "60"}
    quiet |= {"BALANCER_HEARTBEAT_TTL": "120", "BALANCER_VISIBILITY_TIMEOUT": "0"}
    trio.worker("silent", hardware="cpu,model=quiet", **quiet)
    trio.ready("silent")
    result = tasks.gate.apply_async(("silent",), queue=shared)
    wait_until(lambda: trio.runs_on(result.id, "silent"), "it runs on the silent one")
    trio.worker("heir", hardware="cpu,model=quiet")
    wait_until(lambda: trio.runs_on(result.id, "heir"), f"it is taken over; {trio.said('a')}")
    assert starts(trio, result.id) == ["silent@test", "heir@test"]
    trio.ledger.set("open:silent", 1)
    assert result.get(timeout=60) == "silent"
    wait_until(lambda: "not run to its end (stale)" in trio.said("silent"), "the first run is refused")
    trio.finished_once(result.id)
    wait_until(lambda: not trio.client.hlen(trio.keys.unacked), "its delivery is acknowledged")
    for name in ("silent", "heir"):
        trio.kill(name)


def test_nothing_is_left_of_a_thousand_tasks(trio: FleetUnderTest, tasks: ModuleType) -> None:
    before = trio.client.dbsize()
    results = [tasks.add.delay(number) for number in range(900)]
    results += [tasks.step.delay(number, 2, 0.0) for number in range(60)]
    results += [tasks.flaky.delay(1) for _ in range(20)]
    results += [tasks.broken.delay() for _ in range(20)]
    mine = {result.id for result in results}
    wait_until(lambda: all(r.ready() for r in results), "all end", 120)
    wait_until(lambda: not trio.client.hlen(trio.keys.unacked), "all is acknowledged")
    wait_until(lambda: trio.fence(results[-1].id).get("state") == "done", "the last is settled")
    kinds = [
        key
        for what in ("fence", "state", "want")
        for key in trio.client.scan_iter(match=trio.keys.ours(what, "*"), count=1000)
        if key.decode().rpartition(":")[2] in mine
    ]
    assert [key for key in kinds if trio.client.ttl(key) == -1] == []
    assert [key for key in kinds if b":fence:" not in key] == []
    for result in results:
        assert trio.fence(result.id).keys() <= {
            "g",
            "state",
            "owner",
            "n",
            "tag",
            "claim",
            "started",
            "worker",
            "share",
            "share_before",
            "checkpointed",
            "state_bytes",
            "begun",
            "again",
        }
    # A fence and a result for each, both with a time to live; nothing else grows.
    assert trio.client.dbsize() - before <= 2 * len(results) + 10
