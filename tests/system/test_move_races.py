"""Moves that meet something else: another move, a retry, a revoke, a time limit, a death; on each pool.

On the balanced transport; `test_moves` and `test_races` move on the stock one.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
from celery.exceptions import TaskRevokedError, TimeLimitExceeded

from balancer.model import MoveKind
from balancer.routing import direct_queue
from tests.system.fleet import FleetUnderTest, fleet
from tests.system.moving import SCHEMES, ask, hand_over, on, starts, told
from tests.waiting import wait_until

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]

#: So that the dead are found soon, and what will not go is killed soon.
FAST = {
    "BALANCER_TEST_SCHEME": SCHEMES["balanced"],
    "BALANCER_HEARTBEAT_TTL": "1.5",
    "BALANCER_HEARTBEAT_INTERVAL": "0.25",
    "BALANCER_PREEMPT_GRACE": "0.8",
    "BALANCER_VISIBILITY_TIMEOUT": "0",
}


@pytest.fixture(scope="module")
def leaving(tasks: ModuleType) -> ModuleType:
    import tests.system.leaving_app as module

    return module


@pytest.fixture(scope="module")
def fleet_of_pools(
    module_redis_url: str, tmp_path_factory: pytest.TempPathFactory, tasks: ModuleType, leaving: ModuleType
) -> Iterator[FleetUnderTest]:
    """`a` and `b` are prefork, `t` threads, `s` solo."""
    with fleet(module_redis_url, tmp_path_factory.mktemp("logs"), "tests.system.leaving_app") as under_test:
        under_test.worker("a", prefetch=4, **FAST)
        under_test.worker("b", slots=2, **FAST)
        under_test.worker("t", pool="threads", prefetch=4, **FAST)
        under_test.worker("s", pool="solo", **FAST)
        under_test.ready("a", "b", "t", "s")
        # Their lanes are known from their first publishing on.
        under_test.ledger.set("open:lane", 1)
        assert tasks.add.delay(1).get(timeout=60) == 1
        assert leaving.afresh.delay("lane").get(timeout=60)
        yield under_test


def begun(there: FleetUnderTest, name: str, task: Any, *args: Any, **options: Any) -> Any:
    result = on(name, task, *args, **options)
    wait_until(lambda: starts(there, result.id) == [f"{name}@test"], f"its body runs on {name}")
    return result


def test_two_interruptions_of_one_task(
    fleet_of_pools: FleetUnderTest, tasks: ModuleType, leaving: ModuleType
) -> None:
    there = fleet_of_pools
    result = begun(there, "a", leaving.afresh, "two")
    for number, target in enumerate("bt"):
        ask(tasks.app, "running", result.id, "a", target, number=number, preempt=True)
    wait_until(lambda: len(starts(there, result.id)) == 2, f"it left; {there.said('a')}")
    there.ledger.set("open:two", 1)
    ended_on = result.get(timeout=60)
    assert ended_on in ("b@test", "t@test")
    there.finished_once(result.id)
    assert len(starts(there, result.id)) == 1 + told(there, result.id, "HandedOver")


def test_an_interruption_and_a_retry(
    fleet_of_pools: FleetUnderTest, tasks: ModuleType, leaving: ModuleType
) -> None:
    """Whichever the fence sees first, the task retries and ends once."""
    there = fleet_of_pools
    result = begun(there, "a", leaving.retries, "retry")
    there.ledger.set("open:retry", 1)
    ask(tasks.app, "running", result.id, "a", "b", preempt=True)
    assert result.get(timeout=60) in ("a@test", "b@test", "t@test", "s@test")
    there.finished_once(result.id)
    wait_until(lambda: there.fence(result.id)["state"] == "done", "settled")
    assert 2 <= len(starts(there, result.id)) <= 4


@pytest.mark.parametrize("first", ["move", "revoke"])
def test_an_interruption_and_a_revoke(
    fleet_of_pools: FleetUnderTest, tasks: ModuleType, leaving: ModuleType, first: str
) -> None:
    there = fleet_of_pools
    result = begun(there, "a", leaving.afresh, f"revoke-{first}")
    if first == "move":
        ask(tasks.app, "running", result.id, "a", "b", preempt=True)
    tasks.app.control.revoke(result.id, terminate=True)
    if first == "revoke":
        ask(tasks.app, "running", result.id, "a", "b", preempt=True)
    with pytest.raises(TaskRevokedError):
        result.get(timeout=60)
    wait_until(lambda: there.fence(result.id).get("state") == "done", f"closed: {there.fence(result.id)}")
    there.ledger.set(f"open:revoke-{first}", 1)
    assert on("a", tasks.add, 3).get(timeout=60) == 3
    assert (there.finishes(result.id), result.state) == (0, "REVOKED")
    assert there.waiting(direct_queue("b@test")) == 0


@pytest.mark.parametrize(("limit_s", "moves"), [(0.4, False), (2.5, True)])
def test_an_interruption_and_a_hard_time_limit(
    fleet_of_pools: FleetUnderTest, tasks: ModuleType, leaving: ModuleType, limit_s: float, moves: bool
) -> None:
    """The body swallows what it is told, so either the grace or the limit ends its process first. The
    limit is each run's own: where it moved, the run on b meets it."""
    there = fleet_of_pools
    result = begun(there, "a", leaving.stubborn, "never", time_limit=limit_s)
    if moves:
        wait_until(lambda: there.ledger.exists(f"saved:{result.id}"), "it has saved")
    ask(tasks.app, "running", result.id, "a", "b", preempt=True)
    with pytest.raises(TimeLimitExceeded):
        result.get(timeout=60)
    wait_until(lambda: there.fence(result.id)["state"] == "done", "it has ended for good")
    assert starts(there, result.id) == (["a@test", "b@test"] if moves else ["a@test"])
    assert told(there, result.id, "HandedOver") == int(moves)
    assert on("a", tasks.add, 4).get(timeout=60) == 4
    assert there.finishes(result.id) == 0


@pytest.mark.parametrize("kind", ["reserved", "running"])
def test_a_move_to_a_worker_that_dies_before_it_takes_the_task(
    fleet_of_pools: FleetUnderTest, tasks: ModuleType, leaving: ModuleType, kind: MoveKind
) -> None:
    """No balancer is there: another worker's reporter sends it back to its lane."""
    there, name = fleet_of_pools, f"dead-{kind}"
    there.worker(name, hardware="cpu,model=dies", **FAST)
    there.ready(name)
    blocker = begun(there, "a", tasks.gate, name) if kind == "reserved" else None
    result = on("a", leaving.afresh, name)
    if kind == "reserved":
        wait_until(lambda: there.reserved_by(result.id, "a"), "a holds it")
    else:
        wait_until(lambda: starts(there, result.id) == ["a@test"], "it runs on a")
    there.kill(name)
    ask(tasks.app, kind, result.id, "a", name, preempt=kind == "running")
    wait_until(lambda: told(there, result.id, "HandedOver") == 1, f"a gives it up; {there.said('a')}")
    there.ledger.set(f"open:{name}", 1)
    assert result.get(timeout=60) in ("a@test", "b@test", "t@test", "s@test")
    there.finished_once(result.id)
    assert there.waiting(direct_queue(f"{name}@test")) == 0
    if blocker is not None:
        assert blocker.get(timeout=60) == name


def test_what_lies_where_nobody_serves_any_more_goes_back_to_its_lane(
    fleet_of_pools: FleetUnderTest, tasks: ModuleType, leaving: ModuleType
) -> None:
    there, nobody = fleet_of_pools, direct_queue("gone@test")
    blocker = begun(there, "a", tasks.gate, "nobody")
    result = on("a", tasks.add, 5)
    wait_until(lambda: there.reserved_by(result.id, "a"), "a holds it")
    ask(tasks.app, "reserved", result.id, "a", "gone", queue=nobody)
    wait_until(lambda: told(there, result.id, "HandedOver") == 1, "a gives it up")
    there.ledger.set("open:nobody", 1)
    assert result.get(timeout=60) == 5
    assert there.waiting(nobody) == 0
    assert blocker.get(timeout=60) == "nobody"
    there.finished_once(result.id)


@pytest.mark.parametrize("source", ["t", "s"])
def test_a_running_task_leaves_threads_and_solo_at_its_checkpoint(
    fleet_of_pools: FleetUnderTest, tasks: ModuleType, leaving: ModuleType, source: str
) -> None:
    there = fleet_of_pools
    result = begun(there, source, leaving.long_step, f"pool-{source}")
    wait_until(lambda: there.ledger.exists(f"saved:{result.id}"), "it has saved")
    ask(tasks.app, "running", result.id, source, "b")
    there.ledger.set(f"open:pool-{source}", 1)
    assert result.get(timeout=60) == 2
    assert starts(there, result.id) == [f"{source}@test", "b@test"]
    there.finished_once(result.id)


def test_a_task_that_waits_in_a_pool_of_threads_moves(
    fleet_of_pools: FleetUnderTest, tasks: ModuleType, leaving: ModuleType
) -> None:
    there = fleet_of_pools
    blocker = begun(there, "t", tasks.gate, "threads-wait")
    results = [on("t", tasks.add, number) for number in range(3)]
    for number, result in enumerate(results):
        wait_until(lambda r=result: there.reserved_by(r.id, "t"), "t holds it")  # type: ignore[misc]
        ask(tasks.app, "reserved", result.id, "t", "b", number=number)
    assert [result.get(timeout=60) for result in results] == [0, 1, 2]
    assert [starts(there, result.id) for result in results] == [["b@test"]] * 3
    there.ledger.set("open:threads-wait", 1)
    assert blocker.get(timeout=60) == "threads-wait"
    for result in results:
        there.finished_once(result.id)


def test_a_move_during_which_a_wish_is_taken_back(
    fleet_of_pools: FleetUnderTest, tasks: ModuleType, leaving: ModuleType
) -> None:
    """The balancer gave it up before the worker heard of it: the signal finds no wish; nobody is killed."""
    there = fleet_of_pools
    result = begun(there, "a", leaving.stubborn, "taken-back")
    wait_until(lambda: there.ledger.exists(f"saved:{result.id}"), "it has saved")
    there.client.delete(there.keys.want(result.id))
    handover = hand_over(tasks.app)
    handover._preempt("a@test", {"move_id": "m", "task_id": result.id, "queue": direct_queue("b@test")})  # type: ignore[misc]
    assert tasks.app.control.ping(destination=["a@test"], timeout=60)
    owner = there.fence(result.id)["owner"]
    at = there.client.zscore(there.keys.alive, owner)
    # By its own reports the grace is over.
    wait_until(lambda: there.client.zscore(there.keys.alive, owner) > at + 1.1, "a reports on")
    there.ledger.set("open:taken-back", 1)
    assert result.get(timeout=60) == 7
    assert starts(there, result.id) == ["a@test"]
    assert there.ledger.llen(f"swallowed:{result.id}") == 0


def test_what_celery_acknowledges_early_is_refused(
    fleet_of_pools: FleetUnderTest, tasks: ModuleType, leaving: ModuleType
) -> None:
    there = fleet_of_pools
    result = on("a", leaving.early, "early")
    wait_until(lambda: there.ledger.exists("began:early"), "it runs")
    ask(tasks.app, "running", result.id, "a", "b", preempt=True)
    ask(tasks.app, "reserved", result.id, "a", "b")
    wait_until(lambda: told(there, result.id, "Refused", "notbalanced") == 2, f"both; {there.said('a')}")
    there.ledger.set("open:early", 1)
    assert result.get(timeout=60) == "early"
    assert there.ledger.llen("began:early") == 1
