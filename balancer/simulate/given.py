"""Scenarios from files of one's own: a trace and a table of speeds; and more workers for any scenario."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from balancer.errors import BalancerError
from balancer.simulate.cards import CARDS
from balancer.simulate.recorded import of_trace
from balancer.simulate.replay import hardware_of
from balancer.simulate.scenario import Machine, Scenario
from balancer.simulate.traces import read_table, throughputs_of, trace_of

#: Workers of a fleet for a trace, when no number is given.
WORKERS: Final = 12


def from_files(trace: Path, speeds: Path, seed: int, workers: int | None = None) -> Scenario:
    """A trace such as `data/philly_trace.csv` on the classes of a table such as `data/gavel_throughputs.csv`,
    of each as many workers."""
    table = throughputs_of(read_table(speeds))
    classes = sorted({name for by_class in table.steps_per_s.values() for name in by_class})
    count = WORKERS if workers is None else workers
    if not classes or count < 1:
        raise BalancerError(f"{speeds} names no hardware class that runs anything, or there are no workers")
    machines = tuple(_machine(classes[i % len(classes)], i // len(classes) + 1) for i in range(count))
    return of_trace(trace.stem, trace_of(read_table(trace)), table, machines, seed)


def with_more(scenario: Scenario, more: Mapping[str, int]) -> Scenario:
    """The scenario with so many more workers of each class; fewer with a negative number."""
    machines = list(scenario.machines)
    for hardware_class, count in more.items():
        alike = [m for m in machines if m.hardware.hardware_class == hardware_class]
        if count < 0 and len(alike) < -count:
            raise BalancerError(f"{-count} workers of {hardware_class} cannot go: there are {len(alike)}")
        for _ in range(-count):
            machines.remove(alike.pop())
        for number in range(count):
            like = alike[0] if alike else _machine(hardware_class, 0)
            machines.append(replace(like, name=f"{hardware_class}-more-{number + 1:03d}@twin"))
    return replace(scenario, machines=tuple(machines))


def _machine(hardware_class: str, number: int) -> Machine:
    hardware = hardware_of(hardware_class)
    if hardware.model in CARDS and hardware_class == CARDS[hardware.model].hardware_class:
        return CARDS[hardware.model].machine(number)
    return Machine(name=f"{hardware_class}-{number:03d}@twin", hardware=hardware)
