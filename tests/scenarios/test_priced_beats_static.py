"""Priced against static on Gavel's measured speeds: near the lower bound, and static far from it.

Twelve workers (four each of K80, P100, V100), 240 jobs of six types whose sizes are exponential, a minute
at most on their best hardware. Makespans over the LP bound of `balancer.simulate.bound`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from random import Random
from statistics import mean

import pytest

from balancer.model import Worker
from balancer.settings import Settings
from balancer.simulate.bound import BoundJob, Capacity, makespan_bound
from balancer.simulate.traces import JobType, load_throughputs
from tests.scenarios.pull_fleet import Job, Result, simulate
from tests.unit.fleets import workers

TYPES = ("ResNet-50 (batch size 64)", "LM (batch size 20)", "Recommendation (batch size 2048)", "A3C",
         "Transformer (batch size 64)", "ResNet-18 (batch size 32)")
FLEET = "cuda-K80*4 cuda-P100*4 cuda-V100*4"
SEEDS = (1, 2, 3)

#: Mean seconds of a job on its best hardware, and jobs.
MEAN_S, JOBS = 12.0, 240


@cache
def truth() -> Mapping[str, Mapping[str, float]]:
    """Seconds for size 1 by type and class: `MEAN_S` on the best."""
    table = load_throughputs()
    slowness = {name: table.slowness(JobType(name=name, scale=1)) for name in TYPES}
    return {name: {h: MEAN_S * s for h, s in by_class.items()} for name, by_class in slowness.items()}


def jobs(seed: int, over_s: float) -> list[Job]:
    """Random jobs, released over `over_s` seconds; sizes are exponential, cut at five times the mean."""
    random = Random(seed)
    return [
        Job(task_id=f"t{i}", profile=random.choice(TYPES), size=min(5.0, random.expovariate(1.0) + 0.05),
            release_s=random.uniform(0, over_s))
        for i in range(JOBS)
    ]


def bound(made: list[Job], fleet: tuple[Worker, ...], slowed: Mapping[str, float]) -> float:
    work = [BoundJob(release_s=j.release_s, size=j.size, seconds=truth()[j.profile]) for j in made]
    return makespan_bound(work, [
        Capacity(hardware_class=w.hardware.hardware_class, slots=slowed.get(w.name, 1.0)) for w in fleet
    ])


@cache
def over_bound(strategy: str, over_s: float, warm: bool = True, slow: bool = False) -> tuple[float, Result]:
    """Mean makespan over bound for the seeds, and the last result."""
    slowed = {"cuda-V100-0": 0.25} if slow else {}
    settings = Settings(check_interval=5.0, move_cooldown=5.0, hints=truth() if warm else {})
    ratios = []
    for seed in SEEDS:
        made, fleet = jobs(seed, over_s), workers(FLEET)
        result = simulate(strategy, fleet, truth(), made, settings, slowed=slowed, seed=seed)
        ratios.append(result.makespan_s / bound(made, fleet, slowed))
    assert min(ratios) >= 1 - 1e-9, "no policy beats the bound"
    return mean(ratios), result


@pytest.mark.parametrize("over_s", [0.0, 120.0])
def test_priced_is_near_the_bound_and_static_is_not(over_s: float) -> None:
    priced, static = over_bound("priced", over_s)[0], over_bound("static", over_s)[0]
    assert priced <= 1.15
    assert static >= 1.25 * priced


def test_a_worker_that_is_slowed_by_foreign_load_costs_priced_little() -> None:
    """The bound counts the slowed V100 as a quarter of one; nobody tells the balancer."""
    priced, static = (over_bound(name, 120.0, slow=True)[0] for name in ("priced", "static"))
    assert priced <= 1.2
    assert static >= 1.25 * priced


@pytest.mark.parametrize("over_s", [0.0, 120.0])
def test_a_cold_start_is_made_good_by_what_running_tasks_tell(over_s: float) -> None:
    cold, warm = (over_bound("priced", over_s, warm=warm)[0] for warm in (False, True))
    assert cold <= 1.3
    assert cold <= 1.25 * warm


def test_only_a_few_tasks_are_moved() -> None:
    """Late binding needs hardly any moves: rescues at the tail, at most two at a tick."""
    moves = over_bound("priced", 0.0)[1].moves
    assert 0 < moves <= JOBS // 20


def test_priced_also_lowers_the_mean_completion() -> None:
    assert over_bound("priced", 120.0)[1].mean_s < 0.8 * over_bound("static", 120.0)[1].mean_s
