"""The twin against queueing theory: an M/M/c fleet waits as Erlang's formula says."""

from __future__ import annotations

from math import factorial, sqrt
from random import Random
from statistics import mean, stdev

import pytest

from balancer.decide.strategies import by_name
from balancer.model import Hardware, TaskProfile
from balancer.settings import Settings
from balancer.simulate.scenario import Costs, Job, Machine, Scenario
from balancer.simulate.twin import play

#: Replications, jobs in each, the part of them that is left out at the start, and the quantile of Student's
#: t for a confidence of 99 %.
REPLICATIONS, JOBS, WARM_UP, QUANTILE = 10, 3_000, 0.1, 3.25


def erlang_c(servers: int, offered: float) -> float:
    """The chance that a job waits, with an offered load in servers."""
    last = offered**servers / factorial(servers) * servers / (servers - offered)
    return last / (sum(offered**k / factorial(k) for k in range(servers)) + last)


def queue(seed: int, machines: tuple[Machine, ...], rate: float) -> Scenario:
    """Poisson arrivals, exponential services of mean 1, nothing else."""
    chance, at, jobs = Random(seed), 0.0, []
    for number in range(JOBS):
        at += chance.expovariate(rate)
        jobs.append(Job(task_id=f"t{number:05d}", profile="job", release_s=at,
                        work=max(1e-9, chance.expovariate(1.0))))
    return Scenario(
        name="queue", about="", machines=machines, jobs=tuple(jobs),
        profiles={"job": TaskProfile(name="job", task="job")}, seconds={"job": {"cpu": 1.0}},
        costs=Costs(dispatch_s=0.0))


def mean_wait(made: Scenario, strategy: str) -> float:
    # Prices that change nothing need not be found each second.
    options = Settings(price_interval=500.0, check_interval=500.0, order_ttl=1000.0, hints=made.seconds)
    history = play(made, by_name(strategy), options)
    assert len(history.ended) == JOBS
    waits = {wait.task_id: wait.until_s - wait.from_s for wait in history.waits}
    return mean(waits[job.task_id] for job in made.jobs[int(WARM_UP * JOBS):])


@pytest.mark.parametrize("strategy", ["static", "priced"])
@pytest.mark.parametrize(("workers", "slots", "load"), [(8, 1, 0.8), (2, 4, 0.8), (3, 1, 0.6)])
def test_waits_are_erlangs(workers: int, slots: int, load: float, strategy: str) -> None:
    """Identical workers: no strategy makes a difference, whether slots are on one worker or on several."""
    machines = tuple(Machine(name=f"w{i}", hardware=Hardware(kind="cpu"), slots=slots)
                     for i in range(workers))
    servers = workers * slots
    offered = load * servers
    expected = erlang_c(servers, offered) / (servers - offered)
    found = [mean_wait(queue(seed, machines, offered), strategy) for seed in range(REPLICATIONS)]
    margin = QUANTILE * stdev(found) / sqrt(REPLICATIONS)
    assert abs(mean(found) - expected) <= margin
    assert margin < 0.35 * expected, "the interval is narrow enough to mean something"
