"""What is computed for a whole fleet at once says the same as the plain formula, task by task."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.decide.capacity import LEAST_S, SLOW, ClassSlots, class_slots
from balancer.decide.columns import columns
from balancer.decide.durations import durations, per_class, per_lane, seen_of
from balancer.decide.estimate import DEFAULT_S, seconds, speed_of
from balancer.decide.idle import idle_slots
from balancer.decide.occupancy import KINDS_MOST, LEAST_PAID, occupancy, paid, usual
from balancer.decide.order import LISTED, orders
from balancer.decide.pull import accepts, admitted
from balancer.decide.rescue import running_moves
from balancer.decide.rooms import Rooms
from balancer.decide.situation import Situation
from balancer.decide.slots import expected_s, one_s, remaining_s, whole_s
from balancer.model import Fleet, HeldTask, Lane, Needs, Order, QueuedTask, TaskProfile, Worker
from balancer.routing import can_run, class_queue, direct_queue, strike_reason, unfit_reason
from tests.unit.fleets import fleet, held, known, lane, situation, with_running, worker
from tests.unit.random_fleets import random_situation

V100 = "cuda-V100"

situations = st.integers(0, 2**32).map(random_situation)


def profile_of(state: Situation, task: HeldTask | QueuedTask) -> TaskProfile:
    found = state.fleet.lane_of(task.profile)
    return found.profile if found else TaskProfile(name=task.profile, task="")


def matrix(state: Situation) -> np.ndarray:
    seen = seen_of(state)
    return per_lane(state, seen, per_class(state, seen))


def test_the_matrix_has_inf_where_hardware_cannot_run_the_lane() -> None:
    p = matrix(situation(fleet(f"{V100} cpu", lanes="a:1 b:1@cuda c:1@rocm"), known({"a": {V100: 2.0}})))
    assert np.isfinite(p).T.tolist() == [[True, False, False], [True, True, False]]
    assert p[0, 1] == 2.0


def test_the_matrix_scales_by_mean_size_and_knows_affinity() -> None:
    lanes = (lane("a", 1, mean_size=3.0), lane("a", 1, Needs(affinity=(f"{V100}-1",))))
    estimates = known({"a": {V100: 2.0}})

    def of(*workers: Worker) -> np.ndarray:
        return matrix(situation(Fleet(at=0.0, workers=workers, lanes=lanes), estimates))

    assert of(worker(V100, 0), worker(V100, 1)).tolist() == [[6.0], [2.0]]
    assert of(worker(V100, 0))[1, 0] == math.inf


def test_a_fleet_of_nobody_has_columns_and_no_orders() -> None:
    state = situation(Fleet(at=0.0, lanes=(lane("a", 3),)))
    assert columns(state.fleet, state.estimates).classes == ()
    assert orders(state) == ()


@given(situations)
def test_every_pair_takes_what_the_plain_formula_says(state: Situation) -> None:
    p, seen = matrix(state), seen_of(state)
    for row, one in enumerate(state.fleet.lanes):
        for column, name in enumerate(seen.classes):
            able = [w for w in state.fleet.workers if w.hardware.hardware_class == name
                    and can_run(w.hardware, one.profile.needs, worker=w.name)]
            expected = math.inf if not able else one.mean_size * seconds(
                state.estimates, one.profile, able[0].hardware, state.settings, state.profiles)
            assert p[row, column] == pytest.approx(expected)


@given(situations)
def test_every_running_task_takes_what_the_plain_formula_says(state: Situation) -> None:
    found = durations(state)
    tasks = [(w, t) for w in state.fleet.workers for t in w.running]
    assert [t for _, t in tasks] == list(found.seen.runs.tasks)
    for i, (where, task) in enumerate(tasks):
        profile = profile_of(state, task)
        assert found.expected[i] == pytest.approx(expected_s(state, where, task, profile))
        assert found.whole[i] == pytest.approx(whole_s(state, where, task, profile))
        assert found.left[i] == pytest.approx(remaining_s(state, where, task, profile))


def slots_taken(state: Situation, one: Worker) -> list[int]:
    """Slots that each task of a worker takes up, by the memory that it needs of the device."""
    seen = seen_of(state)
    table = occupancy(state.fleet, seen)
    rows = {each.profile.name: row for row, each in enumerate(state.fleet.lanes)}
    column = seen.classes.index(one.hardware.hardware_class)
    taken = [round(table[rows[t.profile], column]) if t.profile in rows else 1 for t in one.running]
    return taken if sum(taken) <= one.slots else [1] * len(taken)


def slots_of_class(state: Situation, name: str) -> ClassSlots:
    """`class_slots` of one class, said plainly: worker by worker, task by task."""
    capacity, committed, free = 0.0, 0.0, list[float]()
    members = [w for w in state.fleet.workers if w.hardware.hardware_class == name]
    for one in (w for w in members if w.health == "ok"):
        speed = speed_of(state.estimates, one)
        times = [max(LEAST_S, remaining_s(state, one, t, profile_of(state, t)))
                 for t, slots in zip(one.running, slots_taken(state, one), strict=True)
                 for _ in range(slots)]
        unknown = max(0, min(one.slots, one.busy) - len(times))
        typical = sum(times) / len(times) if times else (state.estimates.typical_s or DEFAULT_S) / 2
        times += [typical] * unknown
        times = sorted(times + [0.0] * (one.slots - len(times)))[:max(1, one.slots)]
        ahead = [t for t in state.fleet.queued if t.queue == direct_queue(one.name)]
        for task in (*one.reserved, *ahead) if times else ():
            times[0] += one_s(state, profile_of(state, task), one) * task.size / speed
            times.sort()
        capacity, committed = capacity + one.slots * speed, committed + sum(times) * speed
        free += times if speed >= SLOW and strike_reason(one.reading, Needs()) is None else []
    committed += sum(one_s(state, profile_of(state, t), members[0]) * t.size
                     for t in state.fleet.queued if t.queue == class_queue(name))
    return ClassSlots(capacity=capacity, committed_s=committed, free_in=np.sort(np.array(free)), fastest=1.0)


@given(situations)
def test_what_a_class_has_to_give_is_what_its_workers_have(state: Situation) -> None:
    found = durations(state)
    for name, given_ in zip(found.seen.classes, class_slots(state, found), strict=True):
        plain = slots_of_class(state, name)
        assert given_.capacity == pytest.approx(plain.capacity)
        assert given_.committed_s == pytest.approx(plain.committed_s)
        assert given_.free_in.tolist() == pytest.approx(plain.free_in.tolist())


def idle_of(state: Situation, one: Worker, order: Order) -> int:
    """The idle slots of one worker that have nothing better to do, said plainly."""
    lanes: dict[str, Lane] = {each.queue: each for each in state.fleet.lanes}
    backlog = {queue: each.waiting for queue, each in lanes.items()}
    own = sum(state.fleet.queues.get(q, 0) for q in (
        direct_queue(one.name), class_queue(one.hardware.hardware_class)))
    for offer in order.offers:
        needs = lanes[offer.queue].profile.needs
        if (backlog[offer.queue] > 0 and unfit_reason(one.hardware, needs, worker=one.name) is None
                and strike_reason(one.reading, needs) is None
                and accepts(offer, order, backlog, order.speeds.get(one.name, 1.0))):
            return 0
    return max(0, one.idle_slots - own) if one.health == "ok" else 0


@given(situations)
def test_the_idle_slots_are_those_of_workers_that_would_take_nothing(state: Situation) -> None:
    made = orders(state)
    by_class = {order.hardware_class: order for order in made}
    plain = {w.name: idle_of(state, w, by_class[w.hardware.hardware_class]) for w in state.fleet.workers}
    assert idle_slots(state, made) == {name: count for name, count in plain.items() if count}


@given(situations)
def test_the_admitted_offers_are_the_accepted_ones(state: Situation) -> None:
    backlog = {each.queue: each.waiting for each in state.fleet.lanes}
    for order in orders(state):
        assert list(admitted(order, backlog)) == [o for o in order.offers if accepts(o, order, backlog)]


@given(situations)
def test_the_groups_hold_what_is_accepted_now_or_goes_first(state: Situation) -> None:
    backlog = {each.queue: each.waiting for each in state.fleet.lanes}
    for order in orders(state):
        listed = [queue for group in order.groups for queue in group]
        taken = {o.queue for o in order.offers if accepts(o, order, backlog)}
        first = {group[0] for group in order.groups if len(group) == 1}
        assert len(listed) == len(set(listed))
        assert set(listed) - taken <= first
        assert len(listed) >= min(len(taken), LISTED)


def test_only_the_tasks_that_remain_longest_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("balancer.decide.rescue.CONSIDERED", 3)
    state = fleet("cpu*9 cuda-V100", lanes="a:0")
    for i in range(9):
        state = with_running(state, f"cpu-{i}", held(f"t{i}", "a", ran_s=10.0 * min(i, 5)))
    given_ = situation(state, known({"a": {"cpu": 100.0, V100: 90.0}}))
    moves, rejected = running_moves(given_, {f"{V100}-0": 1}, Rooms(given_))
    looked_at = sorted(each.task_id for each in (*moves, *rejected))
    assert looked_at == ["t0", "t1", "t2"]


@given(situations)
def test_offers_are_listed_best_first(state: Situation) -> None:
    for order in orders(state):
        assert all(a.ratio >= b.ratio for a, b in pairwise(order.offers))


def test_a_task_that_needs_half_of_a_device_takes_half_of_its_slots() -> None:
    """Four slots share 16 GB: 12 GB are three of them, and what needs no memory of the device is one."""
    plain = worker(V100, slots=4)
    device = replace(plain, hardware=replace(plain.hardware, gpu_memory_bytes=16 * 10**9))
    lanes = tuple(lane(name, 1, Needs(gpu_memory_bytes=need)) for name, need in (
        ("half", 8 * 10**9), ("most", 12 * 10**9), ("none", None), ("more", 99 * 10**9)))
    state = situation(Fleet(at=0.0, lanes=lanes, workers=(device,)))
    assert occupancy(state.fleet, seen_of(state))[:, 0].tolist() == [2.0, 3.0, 1.0, 4.0]


def device_of(*, slots: int) -> Worker:
    """A worker whose slots share 16 GB."""
    plain = worker(V100, slots=slots)
    return replace(plain, hardware=replace(plain.hardware, gpu_memory_bytes=16 * 10**9))


#: What tasks ask of such a device, in GB, and how many of them wait.
ASKED = {"small": (4, 0), "most": (10, 9), "more": (99, 1), "none": (0, 1)}


def paid_for(asked: dict[str, tuple[int, int]], *workers: Worker) -> list[list[float]]:
    lanes = tuple(lane(name, n, Needs(gpu_memory_bytes=gb * 10**9 or None))
                  for name, (gb, n) in asked.items())
    state = situation(Fleet(at=0.0, lanes=lanes, workers=workers))
    table: list[list[float]] = paid(state.fleet, seen_of(state)).tolist()
    return table


def test_a_task_pays_for_the_place_that_it_keeps_from_others() -> None:
    """Two of 10 GB do not fit beside each other, and hardly anything else is about."""
    found = [row[0] for row in paid_for(ASKED, device_of(slots=4))]
    assert found == pytest.approx([LEAST_PAID, 4.0, 4.0, 1.0])


def test_it_pays_less_where_others_want_what_it_leaves() -> None:
    found = [row[0] for row in paid_for({**ASKED, "small": (4, 90)}, device_of(slots=4))]
    assert found == pytest.approx([1.0, 3.0, 4.0, 1.0])


def test_a_worker_that_gives_all_of_its_device_to_one_task_has_one_price() -> None:
    plain = worker("cuda-K80")
    assert all(row == [1.0] for row in paid_for(ASKED, device_of(slots=1)))
    assert [row[0] for row in paid_for(ASKED, plain, device_of(slots=4))] == [1.0] * 4


def test_the_usual_tasks_are_what_waits_and_runs_and_one_of_each_lane() -> None:
    lanes = (lane("small", 2, Needs(gpu_memory_bytes=4)), lane("also", 0, Needs(gpu_memory_bytes=4)),
             lane("large", 0, Needs(gpu_memory_bytes=16)), lane("none", 1))
    running = worker(V100, slots=4, running=(held("r", "large", ran_s=1.0), held("x", "stranger", ran_s=1.0)))
    state = situation(Fleet(at=0.0, lanes=lanes, workers=(running,)))
    found = usual(state.fleet, seen_of(state))
    # Eight in all: three and one of 4 bytes, two of 16, two that ask for none.
    assert [(weight * 8, task.share) for weight, task in found] == [(4.0, 4.0), (2.0, 16.0)]


def test_many_sizes_are_told_in_few_steps_and_none_is_none() -> None:
    lanes = tuple(lane(f"p{n}", 0, Needs(gpu_memory_bytes=n)) for n in range(1, 101))
    state = situation(Fleet(at=0.0, lanes=lanes, workers=(worker(V100),)))
    found = usual(state.fleet, seen_of(state))
    assert len(found) <= KINDS_MOST
    assert sum(weight for weight, _ in found) == pytest.approx(1.0)
    assert max(task.share for _, task in found) == 100.0
    plain = situation(Fleet(at=0.0, lanes=(lane("p", 3),), workers=(worker(V100),)))
    assert usual(plain.fleet, seen_of(plain)) == ()
