"""Deadlines in the order: what would expire before its turn goes first where it is still met."""

from __future__ import annotations

from dataclasses import replace

import pytest

from balancer.decide.order import orders
from balancer.decide.pull import ranked
from balancer.model import Fleet, due_s
from balancer.settings import Settings
from tests.unit.fleets import fleet, held, known, lane, situation, with_running

V100, K80 = "cuda-V100", "cuda-K80"
TABLE = {"a": {V100: 1.0, K80: 10.0}, "b": {V100: 1.0, K80: 2.0}, "c": {V100: 1.0, K80: 2.0}}


def serves(state: Fleet, hardware_class: str) -> list[str]:
    """The lanes a worker of the class would list now, by name."""
    given = situation(state, known(TABLE), settings=Settings())
    order = next(o for o in orders(given) if o.hardware_class == hardware_class)
    backlog = {each.queue: each.waiting for each in state.lanes}
    ages = {each.queue: each.oldest_s for each in state.lanes if each.oldest_s is not None}
    return [q.rpartition(".")[2] for q in ranked(order, backlog, ages)]


def with_lanes(workers: str, **due: float | None) -> Fleet:
    """100 a that have waited for 50 s, and one task each of b and c, just come, that expire so soon."""
    lanes = (lane("a", 100, oldest_s=50.0), lane("b", 1, oldest_s=1.0), lane("c", 1, oldest_s=1.0))
    return replace(fleet(workers), lanes=tuple(
        replace(each, due_s=due.get(each.profile.name)) for each in lanes))


def busy(state: Fleet, left_s: float) -> Fleet:
    return with_running(state, f"{V100}-0", held("on", "b", ran_s=0.0, size=left_s))


@pytest.mark.parametrize(("due_in_s", "first"), [
    (None, "a"),       # no deadline: 98 of the a are older
    (300.0, "a"),      # its turn comes in about 100 s, in time
    (60.0, "b"),       # it would expire: now, before the a
    (0.5, "b"),        # the slot is free now
    (-1.0, "a"),       # it has expired: Celery drops it when it is taken
])
def test_what_would_expire_before_its_turn_goes_first(due_in_s: float | None, first: str) -> None:
    assert serves(with_lanes(V100, b=due_in_s), V100)[0] == first


def test_what_cannot_be_met_any_more_goes_before_nothing() -> None:
    assert serves(busy(with_lanes(V100, b=5.0), 8.0), V100)[0] == "a"
    assert serves(busy(with_lanes(V100, b=9.0), 8.0), V100)[0] == "b"


def test_the_soonest_deadline_goes_first() -> None:
    assert serves(with_lanes(V100, b=60.0, c=30.0), V100)[:2] == ["c", "b"]
    assert serves(with_lanes(V100, b=30.0, c=60.0), V100)[:2] == ["b", "c"]


def test_a_slow_worker_meets_a_deadline_that_the_fast_one_would_miss() -> None:
    """The V100 is busy for a minute; the guard alone would leave an a, ten times slower there, to it."""
    lanes = (replace(lane("a", 1, oldest_s=1.0), due_s=20.0),)
    state = busy(replace(fleet(f"{V100} {K80}"), lanes=lanes), 60.0)
    soon = busy(replace(fleet(f"{V100} {K80}"), lanes=lanes), 3.0)
    slow = {"a": {V100: 1.0, K80: 1000.0}}
    made = {left: {o.hardware_class: o for o in orders(situation(each, known(TABLE | slow)))}
            for left, each in (("long", state), ("short", soon))}
    queue = lanes[0].queue
    assert ranked(made["long"][K80], {queue: 1}) == [queue]
    assert ranked(made["short"][K80], {queue: 1}) == []
    assert ranked(made["short"][V100], {queue: 1}) == [queue]


def test_deadlines_that_press_are_spread_over_the_slots_that_meet_them() -> None:
    """One slot a class: the first gets the faster one, the second, which must begin meanwhile, the other."""
    state = with_lanes(f"{V100} {K80}", b=0.5, c=0.6)
    assert (serves(state, V100)[0], serves(state, K80)[0]) == ("b", "c")


def test_a_deadline_that_presses_waits_for_no_starving_lane() -> None:
    lanes = (lane("a", 100, oldest_s=1.0), lane("b", 1, oldest_s=900.0),
             replace(lane("c", 1, oldest_s=0.5), due_s=30.0))
    state = replace(fleet(V100), lanes=lanes)
    assert serves(state, V100)[:2] == ["c", "b"]


def test_heads_of_one_age_take_their_turns_by_the_length_of_their_lanes() -> None:
    def after(others: int) -> str:
        lanes = (lane("a", others, oldest_s=10.0), replace(lane("b", 5, oldest_s=10.0), due_s=30.0))
        return serves(replace(fleet(V100), lanes=lanes), V100)[0]
    assert [after(20), after(60)] == ["a", "b"]
    lanes = (lane("a", 20, oldest_s=10.0), replace(lane("b", 5, oldest_s=10.0), due_s=10.0))
    assert serves(replace(fleet(V100), lanes=lanes), V100)[0] == "b"


@pytest.mark.parametrize(("expiries", "expected"), [
    ([], None),
    ([None, 110.0], None),
    ([110.0, 105.0], 10.0),
    ([90.0, 99.0, 130.0, 120.0], 30.0),
    ([90.0, None, 120.0], None),
    ([90.0, 100.0], None),
])
def test_the_deadline_of_a_lane_is_that_of_the_next_task_that_will_run(
    expiries: list[float | None], expected: float | None
) -> None:
    assert due_s(expiries, 100.0) == expected
