"""What one simulation came to: the figures of `celery-balancer simulate`, beside what none can beat."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, Final

import numpy as np

from balancer.simulate.bound import BoundJob, Capacity, makespan_bound
from balancer.simulate.bound_shared import shared_bound
from balancer.simulate.bound_tasks import tasks_bound
from balancer.simulate.history import History, Span
from balancer.simulate.scenario import INFINITY, Job, Machine, Scenario

#: Releases at which the bound of the makespan is asked for.
RELEASES: Final = 60

#: A worker's load is its busy share over windows of so many seconds, while work arrives.
WINDOW_S: Final = 60.0

#: The fleet has recovered when nothing is amiss for so long.
STEADY_S: Final = 10.0

#: An idle slot would have been better for a waiting task if it had been done there this much sooner: as a
#: share of its run there, and seconds.
BETTER_SHARE: Final = 0.25
BETTER_S: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One simulation in figures."""

    makespan_s: float
    bound_s: float
    bound_tasks_s: float
    mean_completion_s: float
    p99_completion_s: float
    load_stddev: float
    effective_utilisation: float
    busy_share: float
    energy_j: float
    bound_energy_j: float
    rebalance_s: float
    moves_queued: int
    moves_running: int
    unfinished: int

    def document(self) -> dict[str, Any]:
        """For JSON: the same keys, numbers rounded so that they are the same on every machine."""
        return {name: round(value, 4) if isinstance(value, float) else value
                for name, value in asdict(self).items()}


def judge(scenario: Scenario, history: History) -> Result:
    """The figures of a history. A job that did not end counts as if it ended when the twin gave up."""
    spent = [history.ended.get(job.task_id, history.until_s) - job.release_s for job in scenario.jobs]
    makespan_s = max(history.ended.values(), default=0.0)
    unfinished = len(scenario.jobs) - len(history.ended)
    makespan_s = history.until_s if unfinished else makespan_s
    bound_s = bound_of(scenario)
    busy = sum(span.until_s - span.from_s for span in history.spans)
    there = sum(m.slots * max(0.0, min(m.until_s, makespan_s) - m.from_s) for m in scenario.machines)
    return Result(
        makespan_s=makespan_s, bound_s=bound_s, bound_tasks_s=max(bound_s, tasks_bound_of(scenario)),
        mean_completion_s=float(np.mean(spent)) if spent else 0.0,
        p99_completion_s=float(np.percentile(spent, 99)) if spent else 0.0,
        load_stddev=load_deviation(scenario, history, makespan_s),
        effective_utilisation=bound_s / makespan_s if makespan_s > 0 else 0.0,
        busy_share=busy / there if there > 0 else 0.0,
        energy_j=history.joules, bound_energy_j=energy_bound(scenario, bound_s),
        rebalance_s=rebalance(scenario, history),
        moves_queued=history.moves["queued"] + history.moves["reserved"],
        moves_running=history.moves["running"], unfinished=unfinished,
    )


def capacity_of(machines: Sequence[Machine]) -> list[Capacity]:
    """What the machines can do, over time, as the bound wants it. A shared device is one slot."""
    return [
        Capacity(hardware_class=sort_of(m), slots=1 if m.shared_bytes else m.slots,
                 speed=m.speed_at(start), from_s=start, until_s=end)
        for m in machines for start, end in pairwise(_turning_points(m))
    ]


def sort_of(machine: Machine) -> str:
    """The name of those machines that differ in nothing but their speed: of a class, specialists apart."""
    special = ",".join(f"{profile}*{speed:g}" for profile, speed in sorted(machine.speeds.items()))
    return f"{machine.hardware.hardware_class} {special}".rstrip()


def seconds_by_sort(scenario: Scenario) -> dict[str, dict[str, float]]:
    """True seconds of work 1 at speed 1, by profile and by sort of the scenario's machines."""
    sorts = {sort_of(m): m for m in scenario.machines}
    return {profile: {name: by_class[h] / m.speeds.get(profile, 1.0) for name, m in sorts.items()
                      if (h := m.hardware.hardware_class) in by_class}
            for profile, by_class in scenario.seconds.items()}


def _turning_points(machine: Machine) -> list[float]:
    """When a machine comes, changes its speed and goes."""
    inside = {t for part in machine.slowdowns for t in (part.from_s, part.until_s)
              if machine.from_s < t < machine.until_s}
    return [machine.from_s, *sorted(inside), machine.until_s]


def bound_jobs(scenario: Scenario) -> list[BoundJob]:
    """The jobs with their true work."""
    # A share is counted of the largest device, so that the bound is not above the truth.
    largest = max((m.shared_bytes or 0 for m in scenario.machines), default=0)
    seconds, made = seconds_by_sort(scenario), []
    for job in scenario.jobs:
        needed = scenario.profiles[job.profile].needs.gpu_memory_bytes
        made.append(BoundJob(release_s=job.release_s, size=job.work, seconds=seconds[job.profile],
                             share=needed / largest if largest and needed else 1.0))
    return made


def bound_of(scenario: Scenario) -> float:
    """The least makespan that there can be (s)."""
    jobs, capacity = bound_jobs(scenario), capacity_of(scenario.machines)
    bound_s = makespan_bound(jobs, capacity, RELEASES)
    if any(m.shared_bytes for m in scenario.machines):
        slots = max(m.slots for m in scenario.machines)
        bound_s = max(bound_s, shared_bound(jobs, capacity, slots, RELEASES // 4))
    return bound_s


def tasks_bound_of(scenario: Scenario) -> float:
    """The least makespan of tasks that are each on one device at a time (s); 0 where it is not known."""
    slots = max((m.slots for m in scenario.machines), default=1)
    return tasks_bound(bound_jobs(scenario), capacity_of(scenario.machines), slots)


def energy_bound(scenario: Scenario, bound_s: float) -> float:
    """Joules below which nobody can stay: every job on its most frugal hardware at its fastest, and every
    machine idle, as long as it is there, until the bound of the makespan."""
    price: dict[str, float] = {}
    for m in scenario.machines:
        fastest = max(m.speed_at(t) for t in _turning_points(m)[:-1])
        name, joules = sort_of(m), (m.busy_w - m.idle_w) / m.slots / fastest
        price[name] = min(price.get(name, INFINITY), joules)
    least = {profile: min((seconds * price[name] for name, seconds in by_sort.items()), default=0.0)
             for profile, by_sort in seconds_by_sort(scenario).items()}
    work = sum(job.work * least[job.profile] for job in scenario.jobs)
    idle = sum(m.idle_w * max(0.0, min(m.until_s, bound_s) - m.from_s) for m in scenario.machines)
    return work + idle


def load_deviation(scenario: Scenario, history: History, makespan_s: float) -> float:
    """Deviation of the workers' busy shares, the mean over the windows in which work arrives."""
    end = min(makespan_s, max(scenario.until_s, WINDOW_S))
    count = max(1, int(end / WINDOW_S))
    busy: dict[str, list[float]] = defaultdict(lambda: [0.0] * count)
    for span in history.spans:
        for i, seconds in _windows(span, count):
            busy[span.worker][i] += seconds
    found = []
    for i in range(count):
        start, stop = i * WINDOW_S, (i + 1) * WINDOW_S
        shares = [busy[m.name][i] / (m.slots * WINDOW_S) for m in scenario.machines
                  if m.from_s <= start and m.until_s >= stop]
        if shares:
            found.append(float(np.std(shares)))
    return sum(found) / len(found) if found else 0.0


def _windows(span: Span, count: int) -> Iterator[tuple[int, float]]:
    """The windows that a span lies in, and its seconds in each."""
    for i in range(int(span.from_s / WINDOW_S), min(count, math.ceil(span.until_s / WINDOW_S))):
        yield i, min(span.until_s, (i + 1) * WINDOW_S) - max(span.from_s, i * WINDOW_S)


def rebalance(scenario: Scenario, history: History) -> float:
    """Seconds from the disturbance until no idle slot could finish a waiting task sooner, for `STEADY_S` on
    end.

    Looked at each second, with what truly happened: a task that waits, an idle slot on which it would have
    been done earlier than it was, by more than estimates err.
    """
    at = scenario.disturbed_s
    jobs, seconds = {job.task_id: job for job in scenario.jobs}, seconds_by_sort(scenario)
    waits = [w for w in history.waits if w.until_s > max(at, w.from_s)]
    end = max((w.until_s for w in waits if jobs[w.task_id].release_s <= at), default=at)
    recovered = at
    for t in np.arange(at, end, 1.0).tolist():
        if t - recovered >= STEADY_S:
            break
        idle = _idle(scenario, history, t)
        waiting = (jobs[w.task_id] for w in waits if w.from_s <= t < w.until_s)
        if idle and any(_better(seconds[job.profile], job, idle, t, history) for job in waiting):
            recovered = t + 1.0
    return recovered - at


def _idle(scenario: Scenario, history: History, at: float) -> dict[str, float]:
    """The best speed of a worker with an idle slot, by sort."""
    taken: dict[str, int] = defaultdict(int)
    for span in history.spans:
        if span.from_s <= at < span.until_s:
            taken[span.worker] += 1
    speeds: dict[str, float] = {}
    for m in scenario.machines:
        if m.from_s <= at < m.until_s and taken[m.name] < m.slots:
            name = sort_of(m)
            speeds[name] = max(speeds.get(name, 0.0), m.speed_at(at))
    return speeds


def _better(seconds: dict[str, float], job: Job, idle: dict[str, float], at: float,
            history: History) -> bool:
    """Whether a job would have been done sooner on one of the idle slots."""
    ended = history.ended.get(job.task_id, INFINITY)
    runs = (job.work * seconds[name] / speed for name, speed in idle.items() if name in seconds and speed > 0)
    return any(at + run_s * (1 + BETTER_SHARE) + BETTER_S < ended for run_s in runs)
