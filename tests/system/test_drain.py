"""Workers that are emptied: by command, by a signal; what they held goes on elsewhere, nothing is dropped."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from types import ModuleType

import pytest
from celery.bin.base import CLIContext
from click.testing import CliRunner, Result
from kombu import Exchange, Queue

from balancer.adapters.documents import read_holds
from balancer.cli import balancer
from balancer.routing import direct_queue
from tests.system.fleet import FleetUnderTest, fleet
from tests.system.moving import SCHEMES, on, starts
from tests.waiting import wait_until

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def leaving(tasks: ModuleType) -> ModuleType:
    import tests.system.leaving_app as module

    return module


@pytest.fixture(scope="module")
def staying(module_redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FleetUnderTest]:
    """`stay` serves every lane, with slots enough for whatever is handed on."""
    with fleet(module_redis_url, tmp_path_factory.mktemp("logs"), "tests.system.leaving_app") as under_test:
        under_test.worker("stay", slots=8, pool="threads")
        under_test.ready("stay")
        yield under_test


@pytest.fixture
def going(staying: FleetUnderTest, request: pytest.FixtureRequest) -> Iterator[str]:
    """A worker of its own for one test; its name."""
    scheme = getattr(request, "param", SCHEMES["stock"])
    name = f"go-{'balanced' if scheme else 'stock'}-{request.node.name.removeprefix('test_')[:20]}"
    staying.worker(name, prefetch=6, BALANCER_PREEMPT_GRACE="0.5", BALANCER_TEST_SCHEME=scheme)
    staying.ready(name)
    yield name
    if staying.processes[name].poll() is None:
        staying.kill(name)


def drained(tasks: ModuleType, name: str, *options: str) -> Result:
    """What `celery balancer drain` prints; its exit code."""
    context = CLIContext(app=tasks.app, no_color=True, workdir=None)
    arguments = ["drain", f"{name}@test", *options]
    return CliRunner().invoke(balancer, arguments, obj=context, catch_exceptions=False)


def has_ended(staying: FleetUnderTest, name: str) -> int:
    ended = staying.processes[name]
    wait_until(lambda: ended.poll() is not None, "it ends")
    return int(staying.processes[name].returncode)


@pytest.mark.parametrize("going", SCHEMES.values(), ids=SCHEMES.keys(), indirect=True)
def test_everything_that_can_leave_leaves_and_the_worker_stops(
    staying: FleetUnderTest, tasks: ModuleType, leaving: ModuleType, going: str
) -> None:
    running = on(going, leaving.long_step, going)
    wait_until(lambda: staying.ledger.exists(f"saved:{running.id}"), f"it runs; {staying.said(going)}")
    reserved = on(going, tasks.add, 1)
    later = on(going, tasks.add, 2, countdown=3)
    limited = [on(going, tasks.limited, number) for number in (3, 4)]
    plain = on(going, tasks.plain, 5)
    for result in (reserved, later, *limited, plain):
        wait_until(lambda r=result: staying.reserved_by(r.id, going), "it is held")  # type: ignore[misc]
    said = drained(tasks, going, "--wait", "1")
    assert said.exit_code == 0, said.output
    assert has_ended(staying, going) == 0
    staying.ledger.set(f"open:{going}", 1)
    assert (reserved.get(timeout=60), later.get(timeout=60)) == (1, 2)
    assert running.get(timeout=60) == 2
    for result in (running, reserved, later):
        staying.finished_once(result.id)
    assert starts(staying, running.id) == [f"{going}@test", "stay@test"]
    assert starts(staying, later.id) == ["stay@test"]
    for result in (running, reserved, later, *limited, plain):
        assert result.id in said.output
    assert "has stopped" in said.output
    # The plain one is in the queue it came from, which nobody serves any more.
    assert staying.waiting(direct_queue(f"{going}@test")) == 1
    staying.client.delete(*staying.keys.queue_lists(direct_queue(f"{going}@test")))


def test_what_waits_in_its_own_queue_goes_back_to_the_lanes(
    staying: FleetUnderTest, tasks: ModuleType, leaving: ModuleType, going: str
) -> None:
    blocker = on(going, tasks.gate, "own-queue")
    wait_until(lambda: staying.runs_on(blocker.id, going), f"it runs; {staying.said(going)}")
    many = [on(going, tasks.add, number) for number in range(20)]
    wait_until(lambda: staying.waiting(direct_queue(f"{going}@test")), "more than it can hold")
    said = drained(tasks, going, "--wait", "0.5")
    assert said.exit_code == 0, said.output
    assert [result.get(timeout=60) for result in many] == list(range(20))
    assert "returned from its own queue" in said.output
    assert staying.waiting(direct_queue(f"{going}@test")) == 0
    # The blocker may not be left and did not end in time: its process was ended, and it runs again.
    wait_until(lambda: starts(staying, blocker.id)[1:] == ["stay@test"], f"again; {staying.said(going)}")
    staying.ledger.set("open:own-queue", 1)
    assert blocker.get(timeout=60) == "own-queue"
    staying.finished_once(blocker.id)
    assert has_ended(staying, going) == 0


def test_what_may_not_be_left_may_end_within_the_limit(
    staying: FleetUnderTest, tasks: ModuleType, leaving: ModuleType, going: str
) -> None:
    gate = on(going, tasks.gate, "limit")
    wait_until(lambda: staying.runs_on(gate.id, going), f"it runs; {staying.said(going)}")
    assert "it does not drain" in drained(tasks, going, "--undo").output
    afresh = on(going, leaving.afresh, "afresh")
    wait_until(lambda: staying.reserved_by(afresh.id, going), "it is held")
    staying.ledger.set("open:afresh", 1)
    staying.ledger.set("open:limit", 1)
    said = drained(tasks, going, "--wait", "20")
    assert said.exit_code == 0, said.output
    assert gate.get(timeout=60) == "limit"
    assert starts(staying, gate.id) == [f"{going}@test"]
    assert afresh.get(timeout=60) in ("stay@test", f"{going}@test")
    assert has_ended(staying, going) == 0


def test_draining_is_undone(
    staying: FleetUnderTest, tasks: ModuleType, leaving: ModuleType, going: str
) -> None:
    running = on(going, leaving.afresh, "undone")
    wait_until(lambda: starts(staying, running.id), f"it runs; {staying.said(going)}")
    said = drained(tasks, going, "--no-stop", "--wait", "20")
    assert said.exit_code == 0, said.output
    wait_until(lambda: starts(staying, running.id)[1:] == ["stay@test"], "it was interrupted and runs on")
    staying.ledger.set("open:undone", 1)
    assert running.get(timeout=60) == "stay@test"
    holds = staying.client.hget(staying.keys.holds, f"{going}@test")
    assert read_holds(holds).health == "draining"
    waits = on(going, tasks.add, 7)
    assert drained(tasks, going, "--undo").exit_code == 0
    assert waits.get(timeout=60) == 7
    again = on(going, tasks.add, 8)
    assert again.get(timeout=60) == 8
    assert starts(staying, again.id) == [f"{going}@test"]


def test_a_worker_that_is_not_there_is_said_so(staying: FleetUnderTest, tasks: ModuleType) -> None:
    from balancer import draining
    from balancer.errors import BalancerError

    with pytest.raises(BalancerError, match="no worker 'nobody@test' answers"):
        draining.drain(tasks.app, "nobody@test", answer_s=0.5)
    assert draining.progress(tasks.app, "nobody@test") is None


@pytest.mark.parametrize("going", SCHEMES.values(), ids=SCHEMES.keys(), indirect=True)
def test_a_warm_stop_hands_on_what_waits_at_once(
    staying: FleetUnderTest, tasks: ModuleType, leaving: ModuleType, going: str
) -> None:
    """Kubernetes' way: SIGTERM. What waits does not wait for what runs, and is not run late."""
    running = on(going, tasks.gate, going)
    wait_until(lambda: staying.runs_on(running.id, going), f"it runs; {staying.said(going)}")
    reserved = [on(going, tasks.add, number) for number in range(3)]
    for result in reserved:
        wait_until(lambda r=result: staying.reserved_by(r.id, going), "it is held")  # type: ignore[misc]
    staying.processes[going].send_signal(signal.SIGTERM)
    wait_until(lambda: all(r.ready() for r in reserved), "what waited runs elsewhere")
    assert staying.processes[going].poll() is None
    assert [starts(staying, result.id) for result in reserved] == [["stay@test"]] * 3
    staying.ledger.set(f"open:{going}", 1)
    assert running.get(timeout=60) == going
    assert has_ended(staying, going) == 0
    staying.finished_once(running.id)
    assert starts(staying, running.id) == [f"{going}@test"]
    for result in (running, *reserved):
        wait_until(lambda r=result: staying.fence(r.id)["state"] == "done", "acknowledged")  # type: ignore[misc]


def test_what_came_through_an_exchange_goes_back_to_the_queue_that_is_bound(
    staying: FleetUnderTest, tasks: ModuleType, leaving: ModuleType, going: str
) -> None:
    films = Queue("films", Exchange("cinema", type="topic"), routing_key="film.#")

    def serve(name: str) -> None:
        tasks.app.control.add_consumer(
            films.name, exchange="cinema", exchange_type="topic", routing_key="film.#",
            destination=[f"{name}@test"], reply=True)

    running = on(going, tasks.gate, going)
    wait_until(lambda: staying.runs_on(running.id, going), f"it runs; {staying.said(going)}")
    serve(going)
    result = tasks.add.apply_async((7,), queue=films, routing_key="film.noir")
    wait_until(lambda: staying.reserved_by(result.id, going), "it is held")
    staying.processes[going].send_signal(signal.SIGTERM)
    wait_until(lambda: staying.waiting("films"), f"it is back; {staying.said(going)}")
    serve("stay")
    assert result.get(timeout=60) == 7
    staying.ledger.set(f"open:{going}", 1)
    assert has_ended(staying, going) == 0
    tasks.app.control.cancel_consumer(films.name, destination=["stay@test"], reply=True)


def test_a_warm_stop_lets_a_task_leave_at_its_checkpoint(
    staying: FleetUnderTest, tasks: ModuleType, leaving: ModuleType, going: str
) -> None:
    running = on(going, tasks.step, 0, 400)
    wait_until(lambda: staying.ledger.llen(f"step:{running.id}") > 2, f"it runs; {staying.said(going)}")
    staying.processes[going].send_signal(signal.SIGTERM)
    assert has_ended(staying, going) == 0
    wait_until(lambda: starts(staying, running.id)[1:] == ["stay@test"], f"it runs on; {staying.said(going)}")
    tasks.app.control.revoke(running.id, terminate=True)
    steps = [int(step) for step in staying.ledger.lrange(f"step:{running.id}", 0, -1)]
    assert steps == list(range(1, len(steps) + 1))
