"""The twin obeys physics: no run beats a bound, whatever the strategy and whatever goes wrong."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from balancer.decide.strategies import by_name
from balancer.settings import Settings
from balancer.simulate import scenarios
from balancer.simulate.bound_mean import mean_completion_bound
from balancer.simulate.history import History
from balancer.simulate.measures import bound_jobs, bound_of, capacity_of, judge
from balancer.simulate.scenario import Heat, Scenario, Slowdown
from balancer.simulate.twin import play

#: Bounds are found to this precision.
SLACK = 1e-6


def small(name: str, seed: int, jobs: int = 60) -> Scenario:
    """The first jobs of a scenario on a small fleet."""
    made = scenarios.by_name(name, seed, 6)
    return replace(made, jobs=made.jobs[:jobs])


def troubled(made: Scenario) -> Scenario:
    """A worker is killed, one joins late, one is faster than its class, one slows down, one runs hot."""
    first, second, third, fourth, fifth, *rest = made.machines
    hurt = (
        replace(first, until_s=40.0), replace(second, from_s=30.0), replace(third, speed=1.5),
        replace(fourth, slowdowns=(Slowdown(from_s=20.0, until_s=60.0, speed=0.25),)),
        replace(fifth, heat=Heat(rise_celsius=70.0, tau_s=10.0)), *rest,
    )
    return replace(made, machines=hurt)


def played(made: Scenario, strategy: str, ahead: int = 0, hints: bool = True) -> History:
    options = Settings(hints=made.seconds if hints else {}, check_interval=10.0)
    return play(made, by_name(strategy), options, ahead=ahead)


def assert_sound(made: Scenario, history: History) -> None:
    """Every job ends, once, after its release; no worker has more at once than slots; no bound is beaten."""
    done = [span.task_id for span in history.spans if span.done]
    assert sorted(done) == sorted(job.task_id for job in made.jobs)
    assert set(done) == set(history.ended)
    for machine in made.machines:
        steps = sorted((t, n) for s in history.spans if s.worker == machine.name
                       for t, n in ((s.from_s, 1), (s.until_s, -1)))
        level = most = 0
        for _, step in steps:
            level += step
            most = max(most, level)
        assert most <= machine.slots
    result = judge(made, history)
    assert result.makespan_s >= result.bound_tasks_s * (1 - SLACK)
    assert result.bound_tasks_s >= result.bound_s > 0
    assert result.energy_j >= result.bound_energy_j * (1 - SLACK)
    least = mean_completion_bound(bound_jobs(made), capacity_of(made.machines), 2 * bound_of(made))
    assert result.mean_completion_s >= least * (1 - SLACK)


@pytest.mark.parametrize("strategy", ["static", "fixed", "adaptive", "priced"])
@pytest.mark.parametrize("name", ["mixed", "energy", "philly", "openb"])
def test_no_strategy_beats_a_bound(name: str, strategy: str) -> None:
    made = small(name, 1)
    assert_sound(made, played(made, strategy))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), strategy=st.sampled_from(["static", "fixed", "adaptive", "priced"]),
       name=st.sampled_from(["spike", "mixed", "bursty"]), ahead=st.integers(0, 2), hints=st.booleans())
def test_none_does_in_a_fleet_in_trouble(seed: int, strategy: str, name: str, ahead: int,
                                         hints: bool) -> None:
    made = troubled(small(name, seed, 40))
    assert_sound(made, played(made, strategy, ahead, hints))


def test_the_bound_of_mean_completion_is_not_idle() -> None:
    """It grows with the load: what waits in a queue is in it."""
    made = small("mixed", 3)
    alone = replace(made, jobs=made.jobs[:4])
    bounds = [mean_completion_bound(bound_jobs(s), capacity_of(s.machines), 2 * bound_of(s))
              for s in (made, alone)]
    assert bounds[0] > 2 * bounds[1] > 0
