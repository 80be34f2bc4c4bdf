"""The fluid program of a scenario's work: what a schedule that knows everything would do, and its prices."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from balancer.decide.prices import solve
from balancer.simulate.scenario import Scenario


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """Price of a second by class, value of work 1 by profile, what part of a profile's work each class takes,
    and the least seconds for all of it."""

    price: dict[str, float]
    value: dict[str, float]
    share: dict[str, dict[str, float]]
    drain_s: float


def program(scenario: Scenario) -> Program:
    """Of all the work at once, with true speeds and sizes."""
    names = sorted(scenario.seconds)
    slots: dict[str, float] = defaultdict(float)
    for machine in scenario.machines:
        slots[machine.hardware.hardware_class] += machine.slots * machine.speed
    classes = sorted(slots)
    works: dict[str, float] = defaultdict(float)
    for job in scenario.jobs:
        works[job.profile] += job.work
    p = np.array([[scenario.seconds[n].get(h, np.inf) for h in classes] for n in names])
    n = np.array([works[name] for name in names])
    found = solve(n, p, np.array([slots[h] for h in classes]), np.zeros(len(classes)))
    return Program(
        price=dict(zip(classes, found.price.tolist(), strict=True)),
        value=dict(zip(names, found.value.tolist(), strict=True)),
        share={name: dict(zip(classes, row, strict=True))
               for name, row in zip(names, found.share.tolist(), strict=True)},
        drain_s=found.drain_s)
