"""Which waiting tasks go first because they would be the last to end, and to which class."""

from __future__ import annotations

from dataclasses import replace

import pytest

from balancer.decide.plan import admit
from balancer.decide.situation import Situation, Suggestions
from balancer.decide.strategies import by_name
from balancer.model import Fleet, Move, Needs, QueuedTask
from balancer.routing import class_queue, lane_queue
from balancer.settings import Settings
from tests.unit.fleets import fleet, held, known, lane, situation, with_running

V100, K80 = "cuda-V100", "cuda-K80"

#: Seconds for size 1.
TABLE = {"a": {V100: 1.0, K80: 4.0}}


def waits(*sizes: float, v100_left_s: float = 0.5, k80_left_s: float = 2.0,
          needs: Needs | None = None) -> Fleet:
    """One V100 and one K80 that are done so soon, and tasks of these sizes in one lane, the first first."""
    mean = sum(sizes) / len(sizes)
    queued = tuple(QueuedTask(task_id=f"t{i}", queue=lane_queue("a"), profile="a", size=size)
                   for i, size in enumerate(sizes))
    made = fleet(f"{V100} {K80}")
    made = replace(made, lanes=(lane("a", len(sizes), needs, mean_size=mean),), queued=queued)
    made = with_running(made, f"{V100}-0", held("v", "a", ran_s=10.0 - v100_left_s, size=10.0))
    return with_running(made, f"{K80}-0", held("k", "a", ran_s=40.0 - k80_left_s, size=10.0))


def asked(state: Fleet, in_flight: tuple[Move, ...] = (), **options: object) -> tuple[Situation, Suggestions]:
    made = situation(state, known(TABLE), settings=Settings(**options))  # type: ignore[arg-type]
    given = replace(made, in_flight=in_flight)
    return given, by_name("priced").suggest(given)


def test_the_longest_goes_first_to_the_class_that_ends_it_first() -> None:
    given, found = asked(waits(1.0, 1.0, 12.0, 1.0))
    (move,) = found.moves
    assert (move.task_id, move.kind, move.source, move.target) == (
        "t2", "queued", lane_queue("a"), class_queue(V100))
    assert move.target_queue == move.target
    assert move.score.parts["run_s"] == pytest.approx(12.0)
    assert move.score.parts["begins_s"] == pytest.approx(0.5)
    assert "goes first" in move.reason
    assert admit(found, given)[0] == found.moves


def test_what_takes_nearly_as_long_as_all_else_goes_first_too() -> None:
    (move,) = asked(waits(*[1.0] * 4, 12.0))[1].moves
    assert move.task_id == "t4"
    assert move.score.parts["run_s"] < move.score.parts["drain_s"] - 1.0


@pytest.mark.parametrize(("sizes", "goes_first"), [
    ((1.0,), []), ((1.15, 1.15), []), ((1.1, 1.2), []), ((1.0, 1.3), ["t1"]),
])
def test_of_the_last_few_only_one_that_is_longer_than_the_others(sizes: tuple[float, ...],
                                                                 goes_first: list[str]) -> None:
    assert [move.task_id for move in asked(waits(*sizes))[1].moves] == goes_first


@pytest.mark.parametrize(
    ("state", "why"),
    [
        (waits(1.0, 1.0, 1.0, 1.0), "none is longer than the others"),
        (waits(*[1.0] * 40, 12.0), "more waits than it takes: it need not begin yet"),
        (waits(1.0, 1.0, 12.0, v100_left_s=6.0, k80_left_s=90.0), "no slot is free before the next look"),
        (waits(1.0, 1.0, 12.0, needs=Needs(affinity=(f"{V100}-0",))), "it may not run on all of the class"),
    ],
)
def test_it_stays_in_its_lane(state: Fleet, why: str) -> None:
    assert asked(state)[1].moves == (), why


def test_of_two_the_longer_takes_the_slot_and_the_other_waits_for_the_next() -> None:
    state = replace(waits(1.0, 11.0, 12.0, 1.0), workers=fleet(f"{V100}*3").workers)
    for number, left_s in enumerate((0.5, 5.0, 5.0)):
        task = held(f"v{number}", "a", ran_s=10.0 - left_s, size=10.0)
        state = with_running(state, f"{V100}-{number}", task)
    assert [move.task_id for move in asked(state)[1].moves] == ["t2"]


def test_what_lies_in_the_queue_of_the_class_comes_before() -> None:
    state = waits(1.0, 1.0, 12.0)
    before = QueuedTask(task_id="b", queue=class_queue(V100), profile="a", size=5.0)
    state = replace(state, queued=(*state.queued, before), queues={class_queue(V100): 1})
    assert "t2" not in {move.task_id for move in asked(state)[1].moves}


def test_a_task_under_way_is_not_sent_again() -> None:
    state = waits(1.0, 1.0, 12.0)
    (move,) = asked(state)[1].moves
    assert asked(state, in_flight=(move,))[1].moves == ()


def test_where_hardware_makes_no_difference_nothing_goes_first() -> None:
    assert asked(waits(1.0, 1.0, 12.0), enable_hardware_specific_strategies=False)[1].moves == ()
