"""The demo's jobs: as much work as was asked for, clipped as is said, the same for the same seed."""

from __future__ import annotations

import pytest

from balancer.demo.crew import crew
from balancer.demo.disturb import Disturbance, capacity, planned, planned_ready
from balancer.demo.workload import (
    ARRIVING_SHARE,
    LARGEST_SHARE,
    MATRIX_TASK,
    SHORTEST_S,
    TRAINING_TASK,
    build,
    seconds_table,
    training_task,
    training_tasks,
)
from balancer.errors import BalancerError
from balancer.simulate.bound import Capacity, makespan_bound

BLOCK_S = 0.0025


def fleet(bound_s: float) -> list[Capacity]:
    plan = planned(crew(), bound_s)
    return capacity(crew(), planned_ready(crew(), plan), plan)


@pytest.mark.parametrize(("count", "bound_s", "seed"), [(120, 40.0, 0), (40, 12.0, 3)])
def test_the_work_meets_the_bound_that_was_asked_for(count: int, bound_s: float, seed: int) -> None:
    workload = build(count, bound_s, seed, fleet(bound_s), BLOCK_S)
    assert len(workload.jobs) == count
    assert workload.planned_bound_s == pytest.approx(bound_s, rel=0.1)
    assert makespan_bound(workload.bound_jobs(), fleet(bound_s)) == pytest.approx(workload.planned_bound_s)


def test_sizes_are_clipped_as_is_said() -> None:
    workload = build(160, 75.0, 0, fleet(75.0), BLOCK_S)
    sizes = [job.size for job in workload.jobs if job.task != MATRIX_TASK]
    assert max(sizes) == pytest.approx(workload.clipped.longest_s)
    assert max(sizes) <= LARGEST_SHARE * 75.0
    assert min(sizes) >= SHORTEST_S
    assert workload.clipped.jobs == sum(size == max(sizes) for size in sizes)
    assert f"{workload.clipped.jobs} jobs longer than percentile" in workload.clipped.sentence()


def test_jobs_arrive_in_order_over_their_share_of_the_bound() -> None:
    times = [job.at_s for job in build(100, 40.0, 1, fleet(40.0), BLOCK_S).jobs]
    assert times == sorted(times)
    assert times[0] == 0
    assert times[-1] == pytest.approx(ARRIVING_SHARE * 40.0)


def test_the_same_seed_gives_the_same_jobs_and_another_gives_others() -> None:
    first, again, other = (build(60, 20.0, seed, fleet(20.0), BLOCK_S).jobs for seed in (5, 5, 6))
    assert first == again
    assert first != other


def test_some_of_the_work_is_real_and_runs_on_cpus_only() -> None:
    workload = build(100, 40.0, 0, fleet(40.0), BLOCK_S)
    matrix = [job for job in workload.jobs if job.task == MATRIX_TASK]
    assert len(matrix) == 5
    assert all(set(workload.seconds[job.profile]) == {"cpu"} for job in matrix)
    assert all(job.size == int(job.size) and job.size > 0 for job in matrix)


def test_what_does_not_run_on_a_card_is_a_task_that_is_not_served_there() -> None:
    table = seconds_table(None)
    big = "ResNet-50 (batch size 128) on 2 GPUs"
    assert set(table[big]) == {"cuda-P100", "cuda-V100"}
    assert training_task(tuple(table[big])) == "demo.train_on_p100_v100"
    assert training_tasks() == {
        TRAINING_TASK: ("cuda-K80", "cuda-P100", "cuda-V100"),
        "demo.train_on_p100_v100": ("cuda-P100", "cuda-V100"),
    }


def test_the_fastest_card_takes_a_second_for_size_one() -> None:
    assert all(min(seconds.values()) == 1.0 for seconds in seconds_table(None).values())


@pytest.mark.parametrize(("count", "bound_s"), [(1, 10.0), (20, 0.0), (20, float("nan"))])
def test_impossible_demos_are_refused(count: int, bound_s: float) -> None:
    with pytest.raises(BalancerError, match="jobs in"):
        build(count, bound_s, 0, fleet(10.0), BLOCK_S)


def test_capacity_tells_joining_killing_and_slowing_truthfully() -> None:
    members = [member for member in crew() if member.name.startswith(("P100-1", "V100-1", "V100-3"))]
    does = [
        Disturbance(kind="kill", target="P100-1@emulated", at_s=30),
        Disturbance(kind="slow", target="V100-1@emulated", at_s=20),
    ]
    ready = {"P100-1@emulated": -4.0, "V100-1@emulated": 2.0, "V100-3@emulated": 11.0}
    assert capacity(members, ready, does) == [
        Capacity(hardware_class="cuda-P100", from_s=0, until_s=30),
        Capacity(hardware_class="cuda-V100", from_s=2, until_s=20),
        Capacity(hardware_class="cuda-V100", slots=0.25, from_s=20),
        Capacity(hardware_class="cuda-V100", from_s=11),
    ]


def test_a_worker_that_never_came_is_no_capacity() -> None:
    assert capacity(crew(), {}, []) == []


def test_the_crew_is_twelve_of_four_classes_and_two_join_later() -> None:
    members = crew()
    assert len({member.name for member in members}) == 12
    assert {member.hardware_class for member in members} == {"cuda-K80", "cuda-P100", "cuda-V100", "cpu"}
    assert sum(member.joins_later for member in members) == 2
    assert all(member.emulated == (member.hardware_class != "cpu") for member in members)
    assert all("emulated=1" in member.hardware for member in members if member.emulated)
