"""The lower bound against cases worked out by hand and against every schedule of small instances."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from balancer.errors import BalancerError
from balancer.simulate.bound import BoundJob, Capacity, makespan_bound
from balancer.simulate.bound_tasks import tasks_bound


def job(size: float = 1.0, release: float = 0.0, **seconds: float) -> BoundJob:
    return BoundJob(release_s=release, size=size, seconds=seconds)


def slots(*parts: tuple[str, float, float]) -> list[Capacity]:
    return [Capacity(hardware_class=name, from_s=begin, until_s=end) for name, begin, end in parts]


ALWAYS = float("inf")


@pytest.mark.parametrize(
    ("jobs", "capacity", "expected"),
    [
        pytest.param([], [], 0.0, id="no jobs"),
        pytest.param([job(4, a=1)], slots(("a", 0, ALWAYS)), 4.0, id="one job, one slot"),
        pytest.param([job(4, a=1)], slots(("a", 0, ALWAYS), ("a", 0, ALWAYS)), 4.0,
                     id="a job is on one slot at a time"),
        pytest.param([job(1, a=1)] * 6, slots(("a", 0, ALWAYS), ("a", 0, ALWAYS)), 3.0, id="shared evenly"),
        pytest.param([job(1, a=1, b=3)] * 8, slots(("a", 0, ALWAYS), ("b", 0, ALWAYS)), 6.0,
                     id="a slow class takes its part"),
        pytest.param([job(6, a=1, b=9), job(6, a=9, b=1)], slots(("a", 0, ALWAYS), ("b", 0, ALWAYS)), 6.0,
                     id="each to what it is good at"),
        pytest.param([job(1, release=10, a=2)], slots(("a", 0, ALWAYS)), 12.0,
                     id="nothing before its release"),
        pytest.param([job(1, a=1), *[job(1, release=10, a=1)] * 4],
                     slots(("a", 0, ALWAYS), ("a", 0, ALWAYS)), 12.0, id="the late work counts"),
        pytest.param([job(1, a=1)] * 6, slots(("a", 0, ALWAYS), ("a", 2, ALWAYS)), 4.0, id="a worker joins"),
        pytest.param([job(1, a=1)] * 6, slots(("a", 0, ALWAYS), ("a", 0, 2)), 4.0, id="a worker is killed"),
        pytest.param([job(1, a=1)] * 2, slots(("a", 3, ALWAYS)), 5.0, id="nobody is there yet"),
        pytest.param([job(1, a=1)] * 2, slots(("a", 0, 1), ("a", 5, ALWAYS)), 6.0,
                     id="a gap without workers"),
    ],
)
def test_by_hand(jobs: Sequence[BoundJob], capacity: Sequence[Capacity], expected: float) -> None:
    assert makespan_bound(jobs, capacity) == pytest.approx(expected)


def test_a_slowed_worker_is_worth_a_part_of_a_slot() -> None:
    whole = Capacity(hardware_class="a", until_s=2)
    slowed = Capacity(hardware_class="a", slots=0.25, from_s=2)
    assert makespan_bound([job(3, a=1)], [whole, slowed]) == pytest.approx(6.0)


@pytest.mark.parametrize(
    ("jobs", "capacity"),
    [
        pytest.param([job(1, a=1)], slots(("b", 0, ALWAYS)), id="hardware that is not there"),
        pytest.param([job(3, a=1)], slots(("a", 0, 2)), id="killed before the work is done"),
        pytest.param([job(float("nan"), a=1)], slots(("a", 0, ALWAYS)), id="a size that is no number"),
        pytest.param([job(1, a=0)], slots(("a", 0, ALWAYS)), id="work that takes no time"),
        pytest.param([job(1, a=1)], slots(("a", 3, 1)), id="a span that is reversed"),
    ],
)
def test_what_cannot_be_bounded_is_refused(jobs: Sequence[BoundJob], capacity: Sequence[Capacity]) -> None:
    with pytest.raises(BalancerError):
        makespan_bound(jobs, capacity)


@pytest.mark.parametrize(
    ("jobs", "expected"),
    [
        pytest.param([], 0.0, id="no jobs"),
        pytest.param([job(4, a=1)], 4.0, id="a job is on one slot at a time"),
        pytest.param([job(4, a=1), job(4, a=1), job(4, a=1)], 6.0, id="but may be cut"),
        pytest.param([job(4, a=1), job(5, release=5, a=1)], 10.0, id="a slot that has nothing helps nobody"),
        pytest.param([job(30, a=1), job(6, release=30, a=1), job(6, release=30, a=1)], 36.0,
                     id="nothing of what comes late is done before"),
    ],
)
def test_task_by_task_by_hand(jobs: Sequence[BoundJob], expected: float) -> None:
    capacity = [Capacity(hardware_class="a", slots=2)]
    assert tasks_bound(jobs, capacity, 1) == pytest.approx(expected)


def test_one_task_alone_leaves_the_other_slot_idle_until_more_come() -> None:
    jobs, capacity = [job(10, a=1), *[job(10, release=5, a=1)] * 4], [Capacity(hardware_class="a", slots=2)]
    assert tasks_bound(jobs, capacity, 1) == pytest.approx(27.5)
    assert makespan_bound(jobs, capacity) == pytest.approx(25.0)


def test_it_knows_what_a_device_holds() -> None:
    large = [BoundJob(release_s=0.0, size=3, seconds={"a": 1.0}, share=0.6) for _ in range(3)]
    small = [BoundJob(release_s=0.0, size=3, seconds={"a": 1.0}, share=0.4) for _ in range(3)]
    capacity = [Capacity(hardware_class="a")]
    assert tasks_bound([*large, *small], capacity, 2) == pytest.approx(9.0)
    assert tasks_bound([*large, *small], capacity, 1) == pytest.approx(18.0)


def test_nothing_is_said_where_capacity_changes() -> None:
    assert tasks_bound([job(4, a=1)], slots(("a", 0, 9)), 1) == 0.0


def best_makespan(jobs: Sequence[BoundJob], machines: Sequence[Capacity]) -> float:
    """The least makespan over all assignments and orders (no preemption); inf when none fits."""
    best = ALWAYS
    for order in permutations(jobs):
        for places in product(range(len(machines)), repeat=len(jobs)):
            best = min(best, makespan_of(order, places, machines))
    return best


def makespan_of(jobs: Sequence[BoundJob], places: Sequence[int], machines: Sequence[Capacity]) -> float:
    free = [machine.from_s for machine in machines]
    for each, place in zip(jobs, places, strict=True):
        seconds = each.seconds.get(machines[place].hardware_class)
        if seconds is None:
            return ALWAYS
        free[place] = max(free[place], each.release_s) + each.size * seconds
        if free[place] > machines[place].until_s:
            return ALWAYS
    return max(t for place, t in enumerate(free) if place in places)


SMALL = st.integers(1, 5).map(float)
JOBS = st.lists(
    st.builds(
        lambda size, release, a, b: job(size, release, **({"a": a} | ({"b": b} if b < 5 else {}))),
        SMALL, st.integers(0, 6).map(float), SMALL, SMALL,
    ),
    min_size=1, max_size=4,
)
MACHINES = st.lists(
    st.builds(
        lambda name, begin, length: Capacity(hardware_class=name, from_s=begin, until_s=begin + length),
        st.sampled_from(["a", "b"]), st.integers(0, 4).map(float), st.sampled_from([12.0, ALWAYS]),
    ),
    max_size=2,
).map(lambda some: [Capacity(hardware_class="a"), *some])


@settings(max_examples=60, deadline=None)
@given(jobs=JOBS, machines=MACHINES)
def test_no_schedule_is_below_it(jobs: list[BoundJob], machines: list[Capacity]) -> None:
    assert makespan_bound(jobs, machines) <= best_makespan(jobs, machines) + 1e-6


@settings(max_examples=40, deadline=None)
@given(jobs=JOBS, more=st.lists(st.sampled_from(["a", "b"]), max_size=2))
def test_nor_below_the_one_task_by_task(jobs: list[BoundJob], more: list[str]) -> None:
    machines = [Capacity(hardware_class=name) for name in ["a", *more]]
    assert tasks_bound(jobs, machines, 1) <= best_makespan(jobs, machines) + 1e-6


@settings(max_examples=40, deadline=None)
@given(jobs=JOBS, machines=MACHINES)
def test_it_grows_with_work_and_shrinks_with_slots(jobs: list[BoundJob], machines: list[Capacity]) -> None:
    bound = makespan_bound(jobs, machines)
    more = [*jobs, job(3, a=2)]
    assert makespan_bound(more, machines) >= bound - 1e-6
    assert makespan_bound(jobs, [*machines, Capacity(hardware_class="a")]) <= bound + 1e-6
