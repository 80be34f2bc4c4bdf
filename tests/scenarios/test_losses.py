"""Where the bench of real processes says that seconds were lost: it accounts for every one of them."""

from __future__ import annotations

from dataclasses import astuple

import pytest

from balancer.simulate.history import Span
from tests.bench.peers.losses import idle, losses
from tests.bench.peers.program import program
from tests.bench.peers.work import Shape, work
from tests.bench.twin import simulated

SMALL = Shape(jobs=40, workers=6, bound_s=5.0)


@pytest.mark.parametrize("strategy", ["static", "priced"])
@pytest.mark.parametrize("seed", [1, 2])
def test_the_losses_add_up_to_the_makespan(strategy: str, seed: int) -> None:
    scenario = work(seed, SMALL, arriving=False)
    took = simulated(scenario, strategy)
    assert sum(astuple(losses(scenario, took.spans))) + 1 == pytest.approx(took.over_bound, rel=2e-3)


def test_the_program_says_the_bound() -> None:
    scenario = work(3, SMALL, arriving=False)
    assert program(scenario).drain_s == pytest.approx(SMALL.bound_s, rel=2e-3)


def test_idle_spells_are_told_apart() -> None:
    scenario = work(1, Shape(jobs=4, workers=3, bound_s=1.0), arriving=False)
    one, two, *_ = (machine.name for machine in scenario.machines)
    jobs = [job.task_id for job in scenario.jobs]
    spans = [
        Span(worker=one, task_id=jobs[0], from_s=0.0, until_s=1.0, done=True),
        Span(worker=one, task_id=jobs[1], from_s=1.1, until_s=2.0, done=True),
        Span(worker=two, task_id=jobs[2], from_s=0.5, until_s=3.0, done=True),
        Span(worker=one, task_id=jobs[3], from_s=2.0, until_s=2.5, done=True),
    ]
    found: dict[tuple[str, str], float] = {}
    for worker, kind, seconds in idle(scenario, spans):
        found[worker, kind] = found.get((worker, kind), 0.0) + seconds
    assert found[one, "handover"] == pytest.approx(0.1)
    assert found[two, "refused"] == pytest.approx(0.5)
    assert found[one, "tail"] == pytest.approx(0.5)
    assert sum(found.values()) == pytest.approx(3 * 3.0 - 4.9)
