"""The memory of a shared device is given once: to what runs there, to what is on its way, or to one more."""

from __future__ import annotations

from dataclasses import replace

import pytest

from balancer.decide import engine
from balancer.decide.memory import fresh
from balancer.decide.rooms import Rooms, kept_free
from balancer.decide.situation import Situation
from balancer.decide.strategies import by_name
from balancer.model import Fleet, Move, Needs, Order, QueuedTask, Reading, Score, Worker
from balancer.routing import direct_queue
from balancer.settings import Settings
from tests.unit.fleets import NOW, held, known, lane, situation, worker

V100, K80 = "cuda-V100", "cuda-K80"
HALF, MOST = Needs(gpu_memory_bytes=8), Needs(gpu_memory_bytes=12)
LANES = (lane("half", 0, HALF), lane("most", 0, MOST))
SETTINGS = Settings()
TABLE = {name: {V100: 1.0, K80: 4.0} for name in ("half", "most")}


def device(name: str, number: int = 0, running: tuple[str, ...] = (), *, slots: int = 4,
           free: float | None = None) -> Worker:
    """A worker whose slots share 16 bytes; what it runs takes long."""
    tasks = tuple(held(f"{name}-{number}-{i}", profile, ran_s=50.0, size=100.0, checkpoint_ago_s=1.0)
                  for i, profile in enumerate(running))
    plain = worker(name, number, slots=slots, running=tasks)
    return replace(plain, hardware=replace(plain.hardware, gpu_memory_bytes=16),
                   reading=Reading(gpu_memory_free_bytes=free))


def of(*workers: Worker, queued: tuple[QueuedTask, ...] = (), moves: tuple[Move, ...] = ()) -> Situation:
    fleet = Fleet(at=NOW, lanes=LANES, workers=workers, queued=queued)
    return replace(situation(fleet, known(TABLE)), in_flight=moves)


def moving(profile: str, target: Worker) -> Move:
    return Move(move_id="m", task_id="x", profile=profile, kind="running", source="elsewhere", reason="",
                score=Score(cost=0.0, benefit=1.0), target=target.name, at=NOW,
                target_queue=direct_queue(target.name))


@pytest.mark.parametrize(("profile", "moved"), [("half", 2), ("most", 1)])
def test_a_device_is_given_no_more_tasks_than_its_memory_holds(profile: str, moved: int) -> None:
    slow = tuple(device(K80, number, (profile,)) for number in range(3))
    found = by_name("priced").suggest(of(device(V100), *slow))
    assert [move.target for move in found.moves] == [f"{V100}-0"] * moved
    assert [no.reason for no in found.rejected] == ["slot taken"] * (3 - moved)


@pytest.mark.parametrize(("there", "holds"), [((), True), (("half",), True), (("half", "half"), False),
                                              (("most",), False)])
def test_what_runs_there_was_promised_its_memory(there: tuple[str, ...], holds: bool) -> None:
    target = device(V100, 0, there)
    assert Rooms(of(target)).holds(target, HALF) is holds


@pytest.mark.parametrize(("free", "holds"), [(8.0, True), (7.0, False), (0.0, False)])
def test_what_others_took_counts_too(free: float, holds: bool) -> None:
    target = device(V100, free=free)
    assert Rooms(of(target)).holds(target, HALF) is holds


def test_what_is_on_its_way_or_lies_in_its_queue_counts() -> None:
    target, other = device(V100), device(V100, 1)
    message = QueuedTask(task_id="q", queue=direct_queue(target.name), profile="half")
    for given in (of(target, other, moves=(moving("half", target),)), of(target, other, queued=(message,))):
        rooms = Rooms(given)
        assert rooms.holds(target, HALF)
        assert not rooms.holds(target, MOST)
        assert rooms.holds(other, MOST)
    both = Rooms(of(target, queued=(message,), moves=(moving("half", target),)))
    assert not both.holds(target, HALF)
    arrived = QueuedTask(task_id="x", queue=direct_queue(target.name), profile="half")
    once = Rooms(of(target, queued=(arrived,), moves=(moving("half", target),)))
    assert once.holds(target, HALF), "its message lies there and its move is not over: it is one task"


def test_workers_are_told_what_to_keep_free() -> None:
    target, other, single = device(V100), device(V100, 1, ("half",)), device(K80, slots=1)
    lies = QueuedTask(task_id="q", queue=direct_queue(other.name), profile="most")
    state = of(target, other, single, queued=(lies,), moves=(moving("half", target),))
    orders = (Order(hardware_class=V100, at=NOW), Order(hardware_class=K80, at=NOW))
    told = {order.hardware_class: order.coming for order in kept_free(orders, state, ())}
    assert told == {V100: {target.name: 8, other.name: 12}, K80: {}}
    assert kept_free(orders, of(target), (moving("most", target),))[0].coming == {target.name: 12}
    arrived = replace(target, running=(held("x", "half", ran_s=1.0),))
    assert kept_free(orders, of(arrived, moves=(moving("half", target),)), ()) == orders
    alone = of(single, moves=(moving("half", single),))
    assert kept_free(orders, alone, ()) == orders, "one slot: its next task has the device to itself"


def test_a_turn_tells_of_the_moves_that_it_makes() -> None:
    given = of(device(V100), device(K80, 0, ("half",)))
    memory = replace(fresh(SETTINGS), estimates=given.estimates)
    _, turn = engine.between(memory, given.fleet, SETTINGS, by_name("priced"), ())
    assert [(order.hardware_class, dict(order.coming)) for order in turn.orders] == [
        (K80, {}), (V100, {f"{V100}-0": 8})]


@pytest.mark.parametrize("strategy", ["priced", "adaptive"])
def test_every_turn_tells_what_is_on_its_way(strategy: str) -> None:
    given, flying = of(device(V100), device(K80)), moving("half", device(V100))
    memory = replace(fresh(SETTINGS), estimates=given.estimates)
    for turn in (engine.decide, engine.between):
        _, chosen = turn(memory, given.fleet, SETTINGS, by_name(strategy), (flying,))
        told = {name: size for order in chosen.orders for name, size in order.coming.items()}
        assert told == {f"{V100}-0": 8}


@pytest.mark.parametrize("target", [worker(V100, slots=4), device(V100, 0, ("most",), slots=1)])
def test_it_says_nothing_of_devices_that_do_not_share(target: Worker) -> None:
    rooms = Rooms(of(target))
    rooms.take(target, "t", MOST)
    assert rooms.holds(target, MOST)
