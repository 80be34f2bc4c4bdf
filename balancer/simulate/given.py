"""Scenarios from files of one's own: a trace and a table of speeds; and more workers for any scenario."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from balancer.errors import BalancerError
from balancer.simulate.cards import CARDS
from balancer.simulate.recorded import of_trace
from balancer.simulate.replay import hardware_of
from balancer.simulate.scenario import Machine, Scenario
from balancer.simulate.traces import (
    SPEEDS_COLUMNS,
    TRACE_COLUMNS,
    Throughputs,
    TraceJob,
    read_table,
    throughputs_of,
    trace_of,
)

#: Workers of a fleet for a trace, when no number is given, and of any fleet at most.
WORKERS: Final = 12
WORKERS_LIMIT: Final = 10_000

#: Names that a message lists; of more it tells how many.
NAMED: Final = 5


def from_files(trace: Path, speeds: Path, seed: int, workers: int | None = None) -> Scenario:
    """A trace such as `data/philly_trace.csv` on the classes of a table such as `data/gavel_throughputs.csv`,
    of each as many workers. Jobs without a speed are left out, and `about` says which."""
    table = throughputs_of(read_table(speeds, SPEEDS_COLUMNS))
    classes = sorted({name for by_class in table.steps_per_s.values() for name in by_class})
    count = WORKERS if workers is None else workers
    if not classes or count < 1:
        raise BalancerError(f"{speeds} names no hardware class that runs anything, or there are no workers")
    machines = tuple(_machine(classes[i % len(classes)], i // len(classes) + 1) for i in range(count))
    jobs = trace_of(read_table(trace, TRACE_COLUMNS))
    without = _without_speed(jobs, table)
    if len(without) == len(jobs):
        raise BalancerError(f"{speeds} has no speed for any job of {trace}: {_types(without)}")
    made = of_trace(trace.stem, jobs, table, machines, seed)
    if not without:
        return made
    told = f"{len(without)} jobs of it are left out, as {speeds.name} has no speed for them"
    return replace(made, about=f"{made.about}; {told}: {_types(without)}")


def _without_speed(jobs: Sequence[TraceJob], table: Throughputs) -> list[TraceJob]:
    return [job for job in jobs if not table.classes(job.job_type)]


def _types(jobs: Sequence[TraceJob]) -> str:
    names = sorted({job.job_type.profile for job in jobs})
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more types" if len(names) > NAMED else "")


def with_more(scenario: Scenario, more: Mapping[str, int]) -> Scenario:
    """The scenario with so many more workers of each class; fewer with a negative number. Raises
    `BalancerError` for workers that could do nothing, for more than a fleet has, and when none is left."""
    machines = list(scenario.machines)
    serving = sorted({name for by_class in scenario.seconds.values() for name in by_class})
    for hardware_class, count in more.items():
        alike = [m for m in machines if m.hardware.hardware_class == hardware_class]
        if count < 0 and len(alike) < -count:
            raise BalancerError(f"{-count} workers of {hardware_class} cannot go: there are {len(alike)}")
        if count > 0 and hardware_class not in serving:
            raise BalancerError(f"no job of {scenario.name!r} runs on {hardware_class!r}; they run on "
                                f"{', '.join(serving)}")
        if len(machines) + count > WORKERS_LIMIT:
            raise BalancerError(f"{len(machines) + count} workers are too many; at most {WORKERS_LIMIT}")
        for _ in range(-count):
            machines.remove(alike.pop())
        for number in range(count):
            like = alike[0] if alike else _machine(hardware_class, 0)
            machines.append(replace(like, name=f"{hardware_class}-more-{number + 1:03d}@twin"))
    if not machines:
        raise BalancerError("no worker is left: take fewer away")
    return replace(scenario, machines=tuple(machines))


def _machine(hardware_class: str, number: int) -> Machine:
    hardware = hardware_of(hardware_class)
    if hardware.model in CARDS and hardware_class == CARDS[hardware.model].hardware_class:
        return CARDS[hardware.model].machine(number)
    return Machine(name=f"{hardware_class}-{number:03d}@twin", hardware=hardware)
