"""The order as tables: what a class serves first, what it leaves alone, and what a worker makes of it."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from balancer.decide.estimate import Estimates
from balancer.decide.order import LISTED, orders
from balancer.decide.pull import LISTED_MOST, accepts, ranked
from balancer.decide.situation import Situation
from balancer.decide.slots import level
from balancer.model import Fleet, LaneOffer, Needs, Order, QueuedTask, Reading
from balancer.routing import class_queue, direct_queue, lane_queue
from balancer.settings import Settings
from tests.unit.fleets import fleet, held, known, lane, situation, with_running

V100, K80 = "cuda-V100", "cuda-K80"

#: a is ten times faster on a V100, b only twice.
TABLE = {"a": {V100: 1.0, K80: 10.0}, "b": {V100: 1.0, K80: 2.0}}
A, B = lane_queue("a"), lane_queue("b")


def made(state: Fleet, estimates: Estimates | None = None, **options: object) -> dict[str, Order]:
    settings = Settings(**options)  # type: ignore[arg-type]
    given_: Situation = situation(state, estimates or known(TABLE), settings=settings)
    return {order.hardware_class: order for order in orders(given_)}


def offer(order: Order, queue: str) -> LaneOffer:
    return next(o for o in order.offers if o.queue == queue)


def serves(state: Fleet, hardware_class: str, **options: object) -> list[str]:
    """The lanes a worker of the class would list now, by name."""
    backlog = {lane_.queue: lane_.waiting for lane_ in state.lanes}
    ages = {lane_.queue: lane_.oldest_s for lane_ in state.lanes if lane_.oldest_s is not None}
    return [q.rpartition(".")[2] for q in ranked(made(state, None, **options)[hardware_class], backlog, ages)]


@pytest.mark.parametrize(
    ("workers", "lanes", "on_v100", "on_k80"),
    [
        # Work for all: each class begins with what it is comparatively best at.
        (f"{V100}*2 {K80}*2", "a:40 b:40", ["a", "b"], ["b", "a"]),
        # All idle, nothing waits: only the fastest waits for what may come.
        (f"{V100}*2 {K80}*2", "a:0 b:0", ["a", "b"], []),
        # One task, an idle V100: the K80 leaves it alone.
        (f"{V100}*2 {K80}*2", "a:0 b:1", ["b", "a"], []),
        # Many b: the K80 helps with them, though it is slower.
        (f"{V100}*2 {K80}*2", "a:0 b:9", ["b", "a"], ["b"]),
        # Too few a for a K80, ten times slower, to help; but it would take a b that comes.
        (f"{V100}*2 {K80}*2", "a:9 b:0", ["a", "b"], ["b"]),
        # Alone, a slow class serves everything.
        (f"{K80}", "a:1 b:1", [], ["a", "b"]),
    ],
)
def test_what_each_class_serves(workers: str, lanes: str, on_v100: list[str], on_k80: list[str]) -> None:
    state = fleet(workers, lanes=lanes)
    if V100 in workers:
        assert serves(state, V100) == on_v100
    assert serves(state, K80) == on_k80


def busy(state: Fleet, left_s: float) -> Fleet:
    """The fleet with its two V100s busy for `left_s` more."""
    for name in (f"{V100}-0", f"{V100}-1"):
        state = with_running(state, name, held(f"on-{name}", "b", ran_s=0.0, size=left_s))
    return state


@pytest.mark.parametrize(("left_s", "helps"), [(0.5, False), (0.9, False), (1.5, True), (60.0, True)])
def test_a_slow_idle_worker_takes_what_busy_fast_ones_would_finish_later(left_s: float, helps: bool) -> None:
    """b: 2 s on the K80 now, or `left_s` + 1 s on a V100."""
    state = busy(fleet(f"{V100}*2 {K80}", lanes="b:1"), left_s)
    assert (serves(state, K80) == ["b"]) is helps


def test_work_elsewhere_does_not_make_a_slow_worker_grab_what_an_idle_fast_one_takes() -> None:
    """Another class, busy for an hour, makes T(π) long; the V100 is idle all the same."""
    state = fleet(f"{V100} {K80} cpu", lanes="a:1 b:0 c:0@cpu")
    state = with_running(state, "cpu-0", held("long", "c", ran_s=0.0, size=3600.0))
    assert serves(state, K80) == []
    assert serves(state, V100)[0] == "a"


def test_lanes_a_class_cannot_run_are_not_offered() -> None:
    order = made(fleet(f"{V100} cpu", lanes="a:3@cuda b:3@cpu"))
    assert [o.queue for o in order[V100].offers] == [A]
    assert [o.queue for o in order["cpu"].offers] == [B]
    assert set(order["cpu"].values) == {A, B}


def test_ties_are_one_group_served_by_age_else_by_length() -> None:
    order = made(fleet(f"{V100}", lanes="a:3 b:9"))[V100]
    assert order.groups == ((A, B),)
    assert ranked(order, {A: 3, B: 9}, {A: 7.0, B: 2.0}) == [A, B]
    assert ranked(order, {A: 3, B: 9}, {A: 7.0}) == [B, A]
    assert ranked(order, {A: 3, B: 9}) == [B, A]
    assert ranked(order, {A: 3, B: 0}, {A: 7.0}) == [A, B]


def test_of_heads_about_equally_old_the_longer_lane_goes_first() -> None:
    order = made(fleet(f"{V100}", lanes="a:3 b:9"))[V100]
    assert ranked(order, {A: 3, B: 9}, {A: 7.0, B: 6.4}) == [B, A]
    assert ranked(order, {A: 9, B: 3}, {A: 6.4, B: 7.0}) == [A, B]
    assert ranked(order, {A: 3, B: 9}, {A: 7.0, B: 6.2}) == [A, B]
    assert ranked(order, {A: 3, B: 0}, {A: 0.0, B: 9.0}) == [A, B]


def test_a_wider_tie_ratio_makes_fewer_groups() -> None:
    state = fleet(f"{V100}*2 {K80}*2", lanes="a:40 b:40")
    assert len(made(state, tie_ratio=0.1)[K80].groups) == 2
    assert len(made(state, tie_ratio=0.95)[K80].groups) == 1


def test_a_lane_that_starves_goes_first_where_it_is_served_best() -> None:
    lanes = (lane("a", 40, oldest_s=10.0), lane("b", 1, oldest_s=100.0))
    state = replace(fleet(f"{V100}*2 {K80}*2"), lanes=lanes)
    assert made(state)[V100].groups[0] == (B,)
    assert serves(state, V100)[0] == "b"
    assert made(state, starvation_factor=20.0)[V100].groups[0] != (B,)


def test_a_short_wait_starves_nobody_and_a_lone_lane_has_nobody_to_be_compared_with() -> None:
    short = (lane("a", 9, oldest_s=0.01), lane("b", 1, oldest_s=1.0))
    assert made(replace(fleet(V100), lanes=short))[V100].groups == ((A, B),)
    alone = (lane("a", 9, oldest_s=1e6), lane("b", 0))
    assert made(replace(fleet(V100), lanes=alone))[V100].groups == ((A, B),)


def test_a_lane_that_idle_fast_workers_leave_alone_is_opened_to_the_slow() -> None:
    """The V100 looks idle and takes nothing; after a while the guard no longer counts on it."""
    def after(waited_s: float) -> list[str]:
        return serves(replace(fleet(f"{V100} {K80}"), lanes=(lane("a", 1, oldest_s=waited_s),)), K80)

    assert after(1.0) == []
    assert after(30.0) == ["a"]


def test_the_guard_follows_the_backlog_of_the_moment() -> None:
    """The order is made when nothing waits; the worker sees forty tasks come."""
    order = made(fleet(f"{V100}*2 {K80}*2", lanes="a:0 b:0"))[K80]
    assert order.groups == ()
    assert ranked(order, {A: 0, B: 0}) == []
    assert ranked(order, {A: 0, B: 40}) == [B]
    assert accepts(offer(order, B), order, {B: 40})
    assert not accepts(offer(order, B), order, {B: 0})
    assert not accepts(offer(order, B), order, {"unknown": 40, B: 0})


def test_a_slowed_worker_judges_by_its_own_speed() -> None:
    estimates = replace(known(TABLE), worker_speed={f"{K80}-0": 0.2}, worker_class={f"{K80}-0": K80})
    state = fleet(f"{V100}*2 {K80}*2", lanes="a:0 b:9")
    order = made(state, estimates)[K80]
    assert order.speeds == {f"{K80}-0": 0.2}
    assert ranked(order, {B: 9}) == [B]
    assert ranked(order, {B: 9}, speed=0.2) == []


@pytest.mark.parametrize("workers", [f"{K80}*2", f"{K80}*8", f"{K80}*8 {V100}"])
@pytest.mark.parametrize("fastest", [0.774, 0.3])
def test_a_class_is_as_fast_as_the_fastest_that_is_there(workers: str, fastest: float) -> None:
    """Its speed was learned from workers that have left: nobody waits for them."""
    state = fleet(workers, lanes="b:1")
    there = [w.name for w in state.workers if K80 in w.name]
    speeds = dict.fromkeys(there, 0.9 * fastest) | {there[0]: fastest}
    estimates = replace(known({"b": {K80: 2.0, V100: 1000.0}}), worker_speed=speeds,
                        worker_class=dict.fromkeys(there, K80))
    order = made(state, estimates)[K80]
    assert ranked(order, {B: 1}, speed=order.speeds[there[0]]) == [B]


def test_whoever_can_takes_what_the_class_said_to_be_first_leaves_alone() -> None:
    """A slow worker of the other class, too: those who look idle may be struck out or hung."""
    estimates = replace(known(TABLE), worker_speed={f"{K80}-0": 0.2}, worker_class={f"{K80}-0": K80})
    state = replace(fleet(f"{V100}*2 {K80}*2"), lanes=(lane("b", 1, oldest_s=2.0), lane("a", 0)))
    assert ranked(made(state, estimates)[K80], {B: 1}, speed=0.2) == []
    waited = replace(state, lanes=(lane("b", 1, oldest_s=2000.0), lane("a", 0)))
    assert ranked(made(waited, estimates)[K80], {B: 1}, speed=0.2) == [B]


def test_where_nobody_is_quick_and_each_leaves_it_to_the_others_anyone_takes_it() -> None:
    """The best by its speed is bad at this very lane, and the other is slow."""
    state = fleet(f"{V100}*2 {K80}*2", lanes="")
    speeds = {w.name: 0.2 if V100 in w.name else 0.75 for w in state.workers}
    special = {w.name: {"b": 0.1} for w in state.workers if K80 in w.name}
    estimates = replace(known(TABLE), worker_speed=speeds, special=special,
                        worker_class={w.name: w.hardware.hardware_class for w in state.workers})
    for waited_s, takes in ((1.0, False), (2000.0, True)):
        waits = replace(state, lanes=(lane("b", 1, oldest_s=waited_s),))
        order = made(waits, estimates)[V100]
        assert (ranked(order, {B: 1}, speed=0.2) == [B]) is takes


def test_workers_that_take_nothing_new_are_no_reason_to_wait() -> None:
    state = fleet(f"{V100} {K80}", lanes="a:1")
    assert serves(state, K80) == []
    draining = tuple(replace(w, health="draining") if V100 in w.name else w for w in state.workers)
    assert serves(replace(state, workers=draining), K80) == ["a"]
    hot = Reading(temperature_celsius=99.0)
    glowing = tuple(replace(w, reading=hot) if V100 in w.name else w for w in state.workers)
    assert made(replace(state, workers=glowing))[K80].offers[0].soonest_s == pytest.approx(10.0)


def test_what_lies_in_direct_and_class_queues_is_committed_work() -> None:
    state = fleet(f"{V100} {K80}", lanes="b:1")
    direct, shared = direct_queue(f"{V100}-0"), class_queue(V100)
    for queue in (direct, shared):
        queued = (QueuedTask(task_id="q", queue=queue, profile="b", size=9.0),)
        order = made(replace(state, queued=queued))[K80]
        assert order.committed_s > made(state)[K80].committed_s
    in_direct = replace(state, queued=(QueuedTask(task_id="q", queue=direct, profile="b", size=9.0),))
    assert serves(in_direct, K80) == ["b"]


def test_an_order_lists_the_best_lanes_and_offers_all() -> None:
    names = [f"p{i:03d}" for i in range(120)]
    table = {name: {V100: 1.0} for name in names}
    state = fleet(V100, lanes=" ".join(f"{name}:{i % 2}" for i, name in enumerate(names)))
    order = made(state, known(table))[V100]
    listed = [queue for group in order.groups for queue in group]
    backlog = {lane_.queue: lane_.waiting for lane_ in state.lanes}
    assert len(listed) == LISTED_MOST
    assert sum(backlog[queue] > 0 for queue in listed) == LISTED
    assert len(order.offers) == 120
    assert len(ranked(order, backlog)) == LISTED_MOST


def test_a_lane_in_no_group_is_served_when_it_has_work() -> None:
    order = made(fleet(V100, lanes="a:0 b:0"))[V100]
    cut = replace(order, groups=((A,),))
    assert ranked(cut, {A: 0, B: 0}) == [A]
    assert ranked(cut, {A: 0, B: 3}) == [A, B]
    assert ranked(replace(cut, exclusive=True), {A: 0, B: 3}) == [A]


def test_without_hardware_specific_strategies_speeds_do_not_count() -> None:
    state = fleet(f"{V100}*2 {K80}*2", lanes="a:1 b:0@cuda c:2@cpu")
    order = made(state, enable_hardware_specific_strategies=False)[K80]
    assert [set(group) for group in order.groups] == [{A, B}]
    assert not order.guarded
    assert serves(state, K80, enable_hardware_specific_strategies=False) == ["a", "b"]
    assert serves(state, K80) == []


@pytest.mark.parametrize("lanes", ["", "a:0", "a:5@rocm"])
def test_fleets_with_nothing_to_do_have_empty_orders(lanes: str) -> None:
    assert orders(situation(fleet("", lanes=lanes))) == ()
    assert [o.hardware_class for o in orders(situation(fleet("cpu", lanes=lanes)))] == ["cpu"]


def test_level_fills_the_slots_as_they_come_free() -> None:
    free = np.array([0.0, 2.0, 10.0])
    work = np.array([0.0, 1.0, 2.0, 6.0, 18.0, 24.0])
    assert level(free, work).tolist() == [0.0, 1.0, 2.0, 4.0, 10.0, 12.0]
    assert level(np.zeros(0), np.array([1.0])).tolist() == [math.inf]


@given(st.lists(st.tuples(st.sampled_from([V100, K80, "cpu"]), st.floats(0.05, 8), st.floats(20, 94)),
                min_size=1, max_size=9),
       st.lists(st.tuples(st.integers(0, 30), st.floats(0.1, 50), st.floats(0.1, 50), st.floats(0, 500)),
                min_size=1, max_size=6))
@example([(K80, 0.774, 30.0), *[(K80, 0.7, 30.0)] * 7], [(1, 50.0, 2.0, 1.0)])
def test_no_lane_is_refused_by_every_idle_worker(
    workers: list[tuple[str, float, float]], lanes: list[tuple[int, float, float, float]]
) -> None:
    """Whatever waits while all are idle, somebody takes it, however slow or warm they all are; numbers stay
    finite; groups hold offers only."""
    table = {f"p{i}": {V100: v, K80: k, "cpu": v * k} for i, (_, v, k, _) in enumerate(lanes)}
    state = fleet(" ".join(name for name, _, _ in workers))
    made_lanes = tuple(lane(f"p{i}", n, Needs(), oldest_s=age) for i, (n, _, _, age) in enumerate(lanes))
    there = tuple(replace(w, reading=Reading(temperature_celsius=celsius))
                  for w, (_, _, celsius) in zip(state.workers, workers, strict=True))
    state = replace(state, lanes=made_lanes, workers=there)
    backlog = {lane_.queue: lane_.waiting for lane_ in made_lanes}
    speeds = {w.name: speed for w, (_, speed, _) in zip(there, workers, strict=True)}
    estimates = replace(known(table), worker_speed=speeds,
                        worker_class={w.name: w.hardware.hardware_class for w in there})
    everywhere = orders(situation(state, estimates))
    by_class = {order.hardware_class: order for order in everywhere}
    taken = {queue for w in there for order in [by_class[w.hardware.hardware_class]]
             for queue in ranked(order, backlog, speed=order.speeds.get(w.name, 1.0))}
    assert {queue for queue, n in backlog.items() if n > 0} <= taken
    for order in everywhere:
        numbers = [order.price, order.committed_s, order.backlog_s, *order.values.values()]
        numbers += [x for o in order.offers for x in (o.seconds, o.best_seconds, o.value, o.ratio)]
        assert all(math.isfinite(x) and x >= 0 for x in numbers)
        assert all(o.ratio <= 1.0 for o in order.offers)
        listed = [queue for group in order.groups for queue in group]
        assert len(listed) == len(set(listed))
        assert set(listed) <= {o.queue for o in order.offers}


@pytest.mark.parametrize(("lanes", "weight", "first"), [
    # By price a V100 begins with a, on which a K80 would be ten times slower; by backlog over seconds with b.
    ("a:40 b:40", 0.0, "a"),
    ("a:40 b:40", 1.0, "b"),
    # Between the two, only with b when there is very much of it.
    ("a:40 b:40", 0.3, "a"),
    ("a:2 b:80", 0.7, "b"),
])
def test_an_order_goes_by_price_by_backlog_or_between(lanes: str, weight: float, first: str) -> None:
    state, estimates = fleet(f"{V100}*4 {K80}*4", lanes=lanes), known({"a": {V100: 5.0, K80: 50.0},
                                                                       "b": {V100: 1.0, K80: 1.0}})
    order = made(state, estimates, backlog_weight=weight)[V100]
    assert ranked(order, {each.queue: each.waiting for each in state.lanes})[0] == lane_queue(first)


def test_by_backlog_short_tasks_come_before_long_ones() -> None:
    estimates = known({"a": {V100: 10.0}, "b": {V100: 1.0}})
    state = fleet(V100, lanes="a:50 b:50")
    order = made(state, estimates, backlog_weight=1.0)[V100]
    assert ranked(order, {A: 50, B: 50}, {A: 9.0, B: 1.0})[0] == B
    assert ranked(made(state, estimates)[V100], {A: 50, B: 50}, {A: 9.0, B: 1.0})[0] == A


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_whatever_the_weight_the_guard_stays(weight: float) -> None:
    assert serves(fleet(f"{V100}*2 {K80}*2", lanes="a:0 b:1"), K80, backlog_weight=weight) == []
