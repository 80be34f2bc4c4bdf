"""The two strategies of the seed: before/after tables of what they would move."""

from __future__ import annotations

from dataclasses import replace

import pytest

from balancer.decide.plan import admit
from balancer.decide.situation import Situation, Strategy
from balancer.decide.strategies import by_name
from balancer.decide.strategies.adaptive import TARGETS_LIMIT, TASKS_LIMIT, Adaptive
from balancer.decide.strategies.fixed import Fixed
from balancer.model import Fleet, Imbalance, Needs, QueuedTask, Worker
from balancer.routing import class_queue, direct_queue, lane_queue
from balancer.settings import Settings
from tests.unit.fleets import NOW, held, known, lane, situation, worker

SPEEDS = known({"p": {"cpu": 30.0, "cuda": 10.0}, "q": {"cpu": 30.0}})


def now(
    *workers: Worker, over: tuple[str, ...] = ("cpu-0",), under: tuple[str, ...] = ("cpu-1",),
    queued: tuple[QueuedTask, ...] = (), settings: Settings | None = None,
) -> Situation:
    fleet = Fleet(
        at=NOW, workers=workers, queued=queued,
        lanes=(
            lane("p", 5), lane("q", 5, Needs(hardware=("cpu",))),
            lane("gpu-only", 5, Needs(hardware=("cuda",))),
        ),
    )
    imbalance = Imbalance(kind="current", score=0.9, overloaded=over, underloaded=under)
    return replace(situation(fleet, SPEEDS, settings=settings), imbalance=imbalance)


def moved(strategy: Strategy, there: Situation) -> list[tuple[str, str, str]]:
    made, _ = admit(strategy.suggest(there), there)
    return [(m.task_id, m.kind, m.target) for m in made]


def loaded(*running: str, reserved: tuple[str, ...] = (), slots: int = 1, kind: str = "cpu") -> Worker:
    return worker(
        kind, 0, load=0.95, slots=slots, running=tuple(held(t, "p", ran_s=20.0) for t in running),
        reserved=tuple(held(t, "p") for t in reserved),
    )


def free(number: int = 1, load: float = 0.05, kind: str = "cpu", slots: int = 1) -> Worker:
    return worker(kind, number, load=load, slots=slots)


@pytest.mark.parametrize("name", ["fixed", "adaptive"])
def test_by_name(name: str) -> None:
    assert by_name(name).name == name


@pytest.mark.parametrize("strategy", [Fixed(), Adaptive()])
def test_without_imbalance_nothing_is_suggested(strategy: Strategy) -> None:
    calm = replace(now(loaded("t"), free()), imbalance=None)
    assert strategy.suggest(calm).moves == ()


@pytest.mark.parametrize("strategy", [Fixed(), Adaptive()])
def test_orders_give_each_lane_to_its_best_class(strategy: Strategy) -> None:
    orders = {o.hardware_class: o for o in strategy.orders(now(loaded(), free(kind="cuda")))}
    assert orders["cuda"].groups == ((lane_queue("p"), lane_queue("gpu-only")),)
    assert orders["cpu"].groups == ((lane_queue("q"),),)
    assert all(o.exclusive and o.strategy == strategy.name for o in orders.values())


BEFORE_AFTER = [
    ("a running task goes to the idle worker", now(loaded("t"), free()), [("t", "running", "cpu-1")]),
    ("what waits goes rather than what runs", now(loaded("t", reserved=("w",)), free()),
     [("w", "reserved", "cpu-1")]),
    ("two at most", now(loaded("t", reserved=("v", "w")), free(slots=9)),
     [("v", "reserved", "cpu-1"), ("w", "reserved", "cpu-1")]),
    ("no slot, no move", now(loaded("t"), replace(free(), busy=1)), []),
    ("nobody under who can run it",
     now(replace(loaded(), running=(held("g", "gpu-only", ran_s=1),)), free()), []),
]


@pytest.mark.parametrize(("there", "after"), [b[1:] for b in BEFORE_AFTER], ids=[b[0] for b in BEFORE_AFTER])
def test_adaptive(there: Situation, after: list[tuple[str, str, str]]) -> None:
    assert moved(Adaptive(), there) == after


def test_adaptive_takes_the_queue_first_and_tells_where_it_lay() -> None:
    waiting = tuple(
        QueuedTask(task_id=t, queue=q, profile="p")
        for t, q in [("a", class_queue("cpu")), ("b", direct_queue("cpu-0")), ("c", "celery")]
    )
    there = now(loaded("t"), free(slots=9), queued=waiting)
    made, _ = admit(Adaptive().suggest(there), there)
    assert {(m.task_id, m.source) for m in made} == {("a", class_queue("cpu")), ("b", direct_queue("cpu-0"))}
    assert {m.target_queue for m in made} == {direct_queue("cpu-1")}


def test_adaptive_takes_waiting_tasks_of_lanes_that_only_the_loaded_class_serves() -> None:
    waiting = (QueuedTask(task_id="a", queue=lane_queue("p"), profile="p"),)
    there = now(
        loaded("t", kind="cuda"), free(0), over=("cuda-0",), under=("cpu-0",), queued=waiting,
        settings=Settings(enable_hardware_specific_strategies=False),
    )
    assert ("a", "queued", "cpu-0") in moved(Adaptive(), there)


def test_fixed_is_blind_to_hardware_and_cost_where_adaptive_is_not() -> None:
    there = now(
        loaded("t", kind="cuda"), free(0, load=0.02), free(1, load=0.04, kind="cuda"),
        over=("cuda-0",), under=("cpu-0", "cuda-1"),
    )
    assert moved(Fixed(), there) == [("t", "running", "cpu-0")]
    assert moved(Adaptive(), there) == [("t", "running", "cuda-1")]


def test_fixed_moves_two_whatever_the_setting_and_adaptive_as_many_as_it_says() -> None:
    many = Settings(max_simultaneous_migrations=4)
    waiting = tuple(QueuedTask(task_id=f"w{i}", queue=class_queue("cpu"), profile="p") for i in range(9))
    there = now(loaded("t"), free(slots=9), queued=waiting, settings=many)
    assert len(moved(Fixed(), there)) == 2
    assert len(moved(Adaptive(), there)) == 4


def test_what_nobody_can_take_is_said() -> None:
    there = now(replace(loaded(), running=(held("g", "gpu-only", ran_s=1),), busy=1), free())
    (refusal,) = Adaptive().suggest(there).rejected
    assert (refusal.task_id, refusal.reason, refusal.source) == ("g", "nowhere to go", "cpu-0")


def test_what_cannot_leave_is_refused_with_the_reason() -> None:
    clinging = replace(held("cling", "p", ran_s=20.0), checkpoints=False)
    source = replace(loaded(slots=4), running=(clinging, held("strange", "who knows", ran_s=1.0)),
                     reserved=(held("odd", "nobody"),))
    there = now(source, free())
    lanes = tuple(replace(one, profile=replace(one.profile, checkpoints=False)) for one in there.fleet.lanes)
    found = Adaptive().suggest(replace(there, fleet=replace(there.fleet, lanes=lanes)))
    assert {(r.task_id, r.kind, r.reason) for r in found.rejected} == {
        ("cling", "running", "not migratable"), ("strange", "running", "unknown profile"),
        ("odd", "reserved", "unknown profile")}
    assert all(r.source == "cpu-0" and r.detail for r in found.rejected)


def test_a_foreseen_imbalance_is_marked() -> None:
    there = now(loaded("t"), free())
    assert there.imbalance is not None
    ahead = replace(there, imbalance=replace(there.imbalance, kind="predicted"))
    assert [m.proactive for m in Adaptive().suggest(ahead).moves] == [True]
    assert [m.proactive for m in Adaptive().suggest(there).moves] == [False]


def test_a_tick_looks_at_a_bounded_number_of_pairs() -> None:
    waiting = tuple(QueuedTask(task_id=f"w{i}", queue=class_queue("cpu"), profile="p") for i in range(500))
    targets = [free(i) for i in range(1, 101)]
    there = now(loaded("t"), *targets, under=tuple(t.name for t in targets), queued=waiting)
    assert len(Adaptive().suggest(there).moves) == TASKS_LIMIT * TARGETS_LIMIT


def test_move_ids_are_the_same_for_the_same_tick_and_differ_between_tasks() -> None:
    there = now(loaded("t", "u", slots=2), free())
    first, second = (tuple(m.move_id for m in Adaptive().suggest(there).moves) for _ in range(2))
    assert first == second
    assert len(set(first)) == 2
