"""The work that every system is given: training jobs of four kinds for twelve workers of three classes.

A `Scenario` of the twin, so that its bound and its simulation are those of the project. The kinds are Gavel's
with measured speeds, and no GPU is best for all of them; a GPU is emulated by a process that sleeps for as
long as the job would take there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from random import Random
from types import MappingProxyType
from typing import Final

from balancer.demo.crew import CARDS
from balancer.model import Needs, TaskProfile
from balancer.simulate import mix
from balancer.simulate.measures import bound_of
from balancer.simulate.scenario import Job, Machine, Scenario
from balancer.simulate.scenarios import fleet

#: Two are fastest on a V100 and two on a P100; a K80 takes from 1.6 to 7.1 times as long as the best.
TYPES: Final = ("ResNet-50 (batch size 64)", "Recommendation (batch size 2048)", "A3C",
                "ResNet-18 (batch size 32)")
MODELS: Final = ("K80", "P100", "V100")

#: Jobs arrive over this share of the bound.
ARRIVING_SHARE: Final = 2 / 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How much work there is: jobs, workers, the bound (s) when all are there at once, and whether sizes are
    `wide` (exponential, as in the twin's scenarios: a few jobs are the tail) or within half of their mean."""

    jobs: int = 400
    workers: int = 12
    bound_s: float = 30.0
    wide: bool = False


def work(seed: int, shape: Shape, *, arriving: bool) -> Scenario:
    """The jobs of a seed: all there at once, or the same ones in the same order over two thirds of the bound.

    A message tells the size; the truth is off by 10 %.
    """
    chance = Random(seed)
    machines, kinds = fleet(shape.workers, MODELS), mix.gavel_mix(TYPES, 1.0)
    jobs = tuple(_job(number, chance, wide=shape.wide) for number in range(shape.jobs))
    profiles = {name: TaskProfile(name=name, task="peers.train", checkpoints=True,
                                  needs=Needs(hardware=("cuda",))) for name in TYPES}
    unit = Scenario(name="peers", about="all at once", machines=machines, jobs=jobs, profiles=profiles,
                    seconds=kinds.seconds)
    scale = shape.bound_s / bound_of(unit)
    seconds: Mapping[str, Mapping[str, float]] = MappingProxyType(
        {name: {h: s * scale for h, s in by_class.items()} for name, by_class in kinds.seconds.items()})
    made = replace(unit, seconds=seconds)
    if not arriving:
        return made
    span = shape.bound_s * ARRIVING_SHARE
    times = sorted(chance.uniform(0.0, span) for _ in made.jobs)
    jobs = tuple(replace(job, release_s=at) for job, at in zip(made.jobs, times, strict=True))
    return replace(made, about=f"arriving over {span:g} s", jobs=jobs)


def _job(number: int, chance: Random, *, wide: bool) -> Job:
    told = mix.size(chance) if wide else chance.uniform(0.5, 1.5)
    return Job(task_id=f"job-{number:05d}", profile=chance.choice(TYPES), release_s=0.0, size=told,
               work=told * chance.lognormvariate(0.0, mix.UNKNOWN))


def seconds_of(scenario: Scenario, job: Job) -> dict[str, float]:
    """True seconds of a job by hardware class: what its emulation is told, and no scheduler."""
    return {name: job.work * seconds for name, seconds in scenario.seconds[job.profile].items()}


def hardware_options(machines: tuple[Machine, ...]) -> dict[str, str]:
    """What `--hardware` says of each machine, by its name."""
    seen: Counter[str] = Counter()
    options = {}
    for machine in machines:
        model = str(machine.hardware.model)
        options[machine.name] = CARDS[model].hardware(seen[model])
        seen[model] += 1
    return options
