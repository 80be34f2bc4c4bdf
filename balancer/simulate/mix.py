"""Random work for scenarios: kinds of jobs with their true durations, arrivals of a given load, sizes.

Everything random is drawn here, from the seed, before the clock of the twin starts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

import numpy as np

from balancer.decide.prices import solve
from balancer.errors import BalancerError
from balancer.model import Needs, TaskProfile
from balancer.simulate.scenario import Job, Machine
from balancer.simulate.traces import JobType, load_throughputs

#: What nobody can know of a job beforehand: the deviation of the logarithm of its work.
UNKNOWN: Final = 0.1

#: Sizes that a message tells: exponential between these, mean about 1.
SMALLEST: Final = 0.1
LARGEST: Final = 4.0

Seconds = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mix:
    """Kinds of jobs: true seconds of size 1 by profile and class, and how often each comes."""

    seconds: Seconds
    weights: Mapping[str, float]
    checkpoints: bool = True

    def profiles(self) -> dict[str, TaskProfile]:
        """What the balancer is told of each kind: its name and where it runs."""
        return {
            name: TaskProfile(name=name, task="simulated", checkpoints=self.checkpoints,
                              needs=Needs(hardware=tuple(sorted(by_class, key=by_class.__getitem__))))
            for name, by_class in self.seconds.items()
        }

    def rate(self, machines: Sequence[Machine]) -> float:
        """Jobs of size 1 a second that the machines can sustain: the fluid program of `decide.prices`."""
        names = sorted(self.seconds)
        classes = sorted({m.hardware.hardware_class for m in machines})
        share = np.array([self.weights[name] for name in names])
        p = np.array([[self.seconds[n].get(h, np.inf) for h in classes] for n in names])
        slots = np.array([sum(m.slots * m.speed for m in machines if m.hardware.hardware_class == h)
                          for h in classes])
        drain_s = solve(share / share.sum(), p, slots, np.zeros(len(classes))).drain_s
        if not drain_s > 0:
            raise BalancerError("a simulated fleet must have workers that can run the jobs")
        return 1.0 / drain_s


def gavel_mix(types: Sequence[str], mean_s: float) -> Mix:
    """Training jobs at Gavel's measured ratios, each `mean_s` seconds on its best hardware, equally often."""
    table = load_throughputs()
    seconds = {name: {h: mean_s * s for h, s in table.slowness(JobType(name=name)).items()}
               for name in types}
    return Mix(seconds=seconds, weights=dict.fromkeys(types, 1.0))


def size(chance: Random) -> float:
    """What a message tells of its job."""
    return min(LARGEST, max(SMALLEST, chance.expovariate(1.0)))


#: The mean of `size`.
MEAN_SIZE: Final = SMALLEST + math.exp(-SMALLEST) - math.exp(-LARGEST)


class Maker:
    """Draws jobs of a mix, with ids in the order in which they are drawn."""

    def __init__(self, mix: Mix, chance: Random) -> None:
        self.mix = mix
        self.jobs: list[Job] = []
        self._chance = chance
        self._names = sorted(mix.weights)

    def add(self, at: float, profile: str | None = None) -> None:
        """One job that arrives then; of a random kind unless one is named."""
        chance = self._chance
        weights = [self.mix.weights[name] for name in self._names]
        kind = profile or chance.choices(self._names, weights)[0]
        told = size(chance)
        self.jobs.append(Job(task_id=f"job-{len(self.jobs):05d}", profile=kind, release_s=at, size=told,
                             work=told * chance.lognormvariate(0.0, UNKNOWN)))

    def arrive(self, until_s: float, rate: Callable[[float], float], most: float) -> None:
        """Poisson arrivals whose rate (jobs a second) follows the time and is never above `most`."""
        at = self._chance.expovariate(most)
        while at < until_s:
            if self._chance.random() * most < rate(at):
                self.add(at)
            at += self._chance.expovariate(most)

    def sorted(self) -> tuple[Job, ...]:
        """All jobs by arrival."""
        return tuple(sorted(self.jobs, key=lambda job: (job.release_s, job.task_id)))
