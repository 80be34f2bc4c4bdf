"""A task with a chain behind it, a chord member and one with priority, each moved while queued,
reserved and running: right results, one completion each, no state but the usual ones."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from celery import chord

from balancer.adapters.documents import read_description, read_holds
from balancer.model import Move, Score
from balancer.routing import class_queue, direct_queue
from balancer.settings import Settings
from tests.system.fleet import FleetUnderTest, fleet, states_until_ready
from tests.system.moving import hand_over, on, starts
from tests.waiting import wait_until
from workers.declared import profile_of

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

CLIENT_MAY_SEE = {"PENDING", "RECEIVED", "STARTED", "SUCCESS"}
NOWHERE = class_queue("cpu-nobody")
STEPS = 8


@pytest.fixture(scope="module")
def movers(module_redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FleetUnderTest]:
    """Two workers: `a` holds messages back in its slots, `b` takes what is moved to it."""
    with fleet(module_redis_url, tmp_path_factory.mktemp("logs")) as under_test:
        under_test.worker("a", prefetch=4)
        under_test.worker("b")
        under_test.ready("a", "b")
        yield under_test


def move(kind: Any, task_id: str, source: str, number: int) -> Move:
    return Move(
        move_id=f"m{number}-{task_id}",
        task_id=task_id,
        profile="tests.step",
        kind=kind,
        source=source,
        target="b@test",
        target_queue=direct_queue("b@test"),
        reason="test",
        score=Score(cost=0.0, benefit=1.0),
        at=0.0,
    )


def publish(tasks: Any, shape: str, queue: str, number: int, until: str) -> tuple[str, Any, int]:
    """(id of the task that will be moved, the result to wait for, what it must be); it waits `until` told."""
    first = tasks.step.s(number, steps=STEPS, until=until).set(queue=queue)
    if shape == "chain":
        result = (first | tasks.add.s(other=1)).apply_async()
        return result.parent.id, result, number + STEPS + 1
    if shape == "chord":
        first.freeze()
        result = chord([first, tasks.add.s(5, other=5)])(tasks.total.s(extra=100))
        return first.id, result, number + STEPS + 10 + 100
    result = first.set(priority=9).apply_async()
    return result.id, result, number + STEPS


def source_of(kind: str) -> tuple[str, str]:
    """The queue that the task is published to, and what the move calls its source."""
    return (NOWHERE, NOWHERE) if kind == "queued" else (direct_queue("a@test"), "a@test")


@pytest.mark.parametrize("shape", ["chain", "chord", "priority"])
@pytest.mark.parametrize("kind", ["queued", "reserved", "running"])
def test_moved_ten_times_in_a_row(movers: FleetUnderTest, tasks: Any, kind: str, shape: str) -> None:
    for number in range(10):
        once(movers, tasks, kind, shape, number)


def once(movers: FleetUnderTest, tasks: Any, kind: str, shape: str, number: int) -> None:
    queue, source = source_of(kind)
    gate_name, asked = f"{kind}-{shape}-{number}", f"{kind}-{shape}-{number}-asked"
    if kind == "reserved":
        blocker = tasks.gate.apply_async((gate_name,), queue=queue)
        wait_until(lambda: movers.runs_on(blocker.id, "a"), "the blocker holds a's slot")
    task_id, result, expected = publish(tasks, shape, queue, number, asked)
    where = {
        "queued": lambda: movers.waiting(NOWHERE) > 0,
        "reserved": lambda: movers.reserved_by(task_id, "a"),
        "running": lambda: movers.runs_on(task_id, "a"),
    }[kind]
    wait_until(where, f"{task_id} is {kind}; {movers.said('a')}")
    hand_over(tasks.app).request(move(kind, task_id, source, number), timeout_s=30)
    movers.ledger.set(f"open:{asked}", 1)
    seen: set[str] = set()
    wait_until(lambda: movers.finishes(task_id) > 0, f"{task_id} completes; {movers.said('a', 'b')}")
    # Only now: the worker it left may have taken what comes after it into its slots, behind the gate.
    movers.ledger.set(f"open:{gate_name}", 1)
    wait_until(
        states_until_ready(result, seen),
        f"{kind} {shape} {number} ends; {movers.said('a', 'b')}",
    )
    assert result.get(timeout=60) == expected
    movers.finished_once(task_id)
    assert seen <= CLIENT_MAY_SEE
    assert movers.ledger.lrange(f"started:{task_id}", 0, -1)[-1] == "b@test"
    assert movers.ledger.lrange(f"step:{task_id}", 0, -1) == [str(i + 1) for i in range(STEPS)]


def test_what_began_in_time_is_finished_where_it_moves(movers: FleetUnderTest, tasks: Any) -> None:
    """Its `expires` is over when it arrives: it had begun, so that its deadline is met."""
    late = {"steps": STEPS, "until": "expires-asked"}
    result = tasks.step.apply_async((0,), late, expires=3, queue=direct_queue("a@test"))
    over = time.time() + 3
    wait_until(lambda: movers.runs_on(result.id, "a"), "it runs on a")
    wait_until(lambda: time.time() > over, "its deadline is over")
    hand_over(tasks.app).request(move("running", result.id, "a@test", 0), timeout_s=30)
    movers.ledger.set("open:expires-asked", 1)
    assert result.get(timeout=60) == STEPS
    movers.finished_once(result.id)
    assert movers.ledger.lrange(f"started:{result.id}", 0, -1) == ["a@test", "b@test"]


@pytest.mark.filterwarnings("ignore:Call to deprecated setex")
def test_an_abort_is_not_unsaid_where_it_moves(movers: FleetUnderTest, tasks: Any) -> None:
    result = tasks.abortable.apply_async((40,), queue=direct_queue("a@test"))
    wait_until(lambda: movers.runs_on(result.id, "a"), "it runs on a")
    result.abort()
    hand_over(tasks.app).request(move("running", result.id, "a@test", 0), timeout_s=30)
    assert result.get(timeout=60) == "aborted"
    assert movers.ledger.lrange(f"started:{result.id}", 0, -1) == ["a@test", "b@test"]


def test_an_eta_is_kept_by_the_worker_it_moves_to(movers: FleetUnderTest, tasks: Any) -> None:
    gate = tasks.gate.apply_async(("eta",), queue=direct_queue("a@test"))
    wait_until(lambda: movers.runs_on(gate.id, "a"), "a cannot begin it, however late it is asked")
    began = time.time()
    result = tasks.add.apply_async((1,), {"other": 1}, countdown=4, queue=direct_queue("a@test"))
    wait_until(lambda: movers.reserved_by(result.id, "a"), "a holds it until its time")
    hand_over(tasks.app).request(move("reserved", result.id, "a@test", 0), timeout_s=30)
    assert result.get(timeout=60) == 2
    movers.ledger.set("open:eta", 1)
    assert movers.ledger.lrange(f"started:{result.id}", 0, -1) == ["b@test"]
    assert time.time() - began >= 4
    movers.finished_once(result.id)
    assert gate.get(timeout=60) == "eta"


def test_a_rate_limited_task_moves(movers: FleetUnderTest, tasks: Any) -> None:
    first, second = (tasks.limited.apply_async((i,), queue=direct_queue("a@test")) for i in (1, 2))
    assert first.get(timeout=60) == 1
    wait_until(lambda: movers.reserved_by(second.id, "a"), "a holds it for a token")
    hand_over(tasks.app).request(move("reserved", second.id, "a@test", 0), timeout_s=30)
    assert second.get(timeout=60) == 2
    movers.finished_once(second.id)


def test_what_was_to_begin_later_takes_no_place_where_it_was(movers: FleetUnderTest, tasks: Any) -> None:
    queue, ask = direct_queue("a@test"), tasks.app.control.inspect(destination=["a@test"])
    before = ask.stats()["a@test"]["prefetch_count"]
    later = [tasks.add.apply_async((number,), countdown=900, queue=queue) for number in range(3)]
    for number, result in enumerate(later):
        wait_until(lambda r=result: movers.reserved_by(r.id, "a"), "a holds it")  # type: ignore[misc]
        hand_over(tasks.app).request(move("reserved", result.id, "a@test", number), timeout_s=30)
        wait_until(lambda r=result: movers.reserved_by(r.id, "b"), "b has it")  # type: ignore[misc]
    wait_until(lambda: ask.stats()["a@test"]["prefetch_count"] == before, "a has its places back")
    assert ask.scheduled() == {"a@test": []}
    tasks.app.control.revoke([result.id for result in later])


def test_what_needs_no_acknowledgement_stays(movers: FleetUnderTest, tasks: Any) -> None:
    """The broker has forgotten it: there is no delivery to hand over."""
    control = tasks.app.control
    asked = {"destination": ["a@test"], "options": {"no_ack": True}, "reply": True}
    wait_until(lambda: control.add_consumer("forgets", **asked), "a listens, and serves it")
    result = tasks.step.apply_async((0,), {"steps": STEPS, "until": "forgets-asked"}, queue="forgets")
    wait_until(lambda: movers.runs_on(result.id, "a"), "it runs on a")
    hand_over(tasks.app).request(move("running", result.id, "a@test", 0), timeout_s=30)
    movers.ledger.set("open:forgets-asked", 1)
    assert result.get(timeout=60) == STEPS
    assert movers.ledger.lrange(f"started:{result.id}", 0, -1) == ["a@test"]
    control.cancel_consumer("forgets", destination=["a@test"], reply=True)


def test_a_task_retries_after_it_moved(movers: FleetUnderTest, tasks: Any) -> None:
    result = tasks.again.apply_async((8,), queue=direct_queue("a@test"))
    wait_until(lambda: movers.runs_on(result.id, "a"), "it runs on a")
    hand_over(tasks.app).request(move("running", result.id, "a@test", 0), timeout_s=30)
    wait_until(lambda: movers.runs_on(result.id, "b"), "it runs on b")
    # From b's direct queue the retry goes to the task's lane, which any worker serves.
    tasks.app.conf.task_routes[-1].lanes.enter(
        profile_of({"checkpoints": True}, "tests.again", "tests.again", Settings())
    )
    assert result.get(timeout=60) == 8
    assert len(movers.ledger.lrange(f"started:{result.id}", 0, -1)) == 3
    movers.finished_once(result.id)


def test_a_task_of_a_queue_of_the_operators_is_told_and_retries_there(
    movers: FleetUnderTest, tasks: Any
) -> None:
    control, keys, both = tasks.app.control, movers.keys, ["a@test", "b@test"]

    def serves(name: str) -> bool:
        return "payments" in read_description(movers.client.hget(keys.workers, name)).queues

    def homes(name: str) -> list[str]:
        return [task.home for task in read_holds(movers.client.hget(keys.holds, name)).running]

    assert not serves("a@test")
    control.add_consumer("payments", destination=both, reply=True)
    wait_until(lambda: all(map(serves, both)), "they say that they serve it")
    gate = on("b", tasks.gate, "payments")
    wait_until(lambda: movers.runs_on(gate.id, "b"), "b is busy")
    result = tasks.again.apply_async((60, "cancelled"), queue="payments")
    wait_until(lambda: movers.runs_on(result.id, "a"), "it runs on a")
    wait_until(lambda: homes("a@test") == ["payments"], "a tells where it came from")
    hand_over(tasks.app).request(move("running", result.id, "a@test", 0), timeout_s=30)
    movers.ledger.set("open:payments", 1)
    wait_until(lambda: movers.runs_on(result.id, "b"), "it runs on b")
    control.cancel_consumer("payments", destination=both, reply=True)
    movers.ledger.set("open:cancelled", 1)
    wait_until(lambda: movers.waiting("payments") == 1, f"its retry lies there; {movers.said('b')}")
    control.add_consumer("payments", destination=["a@test"], reply=True)
    assert result.get(timeout=60) == 60
    assert starts(movers, result.id) == ["a@test", "b@test", "a@test"]
    movers.finished_once(result.id)
    control.cancel_consumer("payments", destination=["a@test"], reply=True)


def test_what_cannot_be_given_up_is_refused_with_a_reason(movers: FleetUnderTest, tasks: Any) -> None:
    running = tasks.gate.apply_async(("refusal",), queue=direct_queue("a@test"))
    wait_until(lambda: movers.runs_on(running.id, "a"), "it runs on a")
    for number, task_id in enumerate((running.id, "nobody-knows-it")):
        hand_over(tasks.app).request(move("reserved", task_id, "a@test", number), timeout_s=30)
    wait_until(
        lambda: any(b'"Refused"' in e and b'"running"' in e for e in movers.moved_events(running.id)),
        "a running task is no reserved one",
    )
    wait_until(
        lambda: any(b'"Refused"' in e and b'"unknown"' in e for e in movers.moved_events("nobody-knows-it")),
        "an unknown task is refused",
    )
    movers.ledger.set("open:refusal", 1)
    assert running.get(timeout=60) == "refusal"
    movers.finished_once(running.id)
