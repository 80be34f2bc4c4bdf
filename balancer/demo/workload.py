"""The jobs of a demo: a slice of the Philly trace at Gavel's speeds, compressed to the time there is.

Chooses the slice, clips the tail so that one job cannot be the whole demo, adds real CPU jobs,
and scales all sizes so that the lower bound of the makespan is what was asked for. Says what it
clipped: a summary repeats it.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from balancer.errors import BalancerError
from balancer.simulate.bound import BoundJob, Capacity, makespan_bound
from balancer.simulate.traces import (
    COLUMNS,
    TraceJob,
    load_throughputs,
    load_trace,
    single_gpu_first,
)

#: The task and the profile of real CPU work.
MATRIX_TASK: Final = "demo.matrix"
MATRIX_PROFILE: Final = "matrix products (numpy)"

#: The task of training that runs on every emulated card.
TRAINING_TASK: Final = "demo.train"

#: One job in this many is real CPU work, of this many seconds of one core (least, most).
CPU_EVERY: Final = 20
CPU_SECONDS: Final = (0.5, 2.0)

#: Percentiles at which sizes may be clipped, the mildest first.
PERCENTILES: Final = (100.0, 99.0, 97.0, 95.0, 92.0, 90.0, 85.0, 80.0, 75.0, 60.0, 50.0)

#: No job may take more than this share of the bound on its fastest hardware.
LARGEST_SHARE: Final = 0.1

#: Jobs shorter than this on their fastest hardware (s, compressed) are raised to it: below, the
#: demo would measure the cost of a message.
SHORTEST_S: Final = 0.1

#: Jobs arrive over this share of the bound.
ARRIVING_SHARE: Final = 0.5

#: Releases are rounded down to this many steps while the scale is searched for.
COARSE_STEPS: Final = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoJob:
    """One job: the Celery `task` that does it, `at_s` when it is published (from the first), `size`.

    Size 1 is a second on the profile's fastest GPU or, of `MATRIX_TASK`, a block.
    """

    task: str
    profile: str
    size: float
    at_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Clipped:
    """What was done to the sizes of the trace."""

    percentile: float
    jobs: int
    longest_s: float
    raised: int
    seconds_for_one: float

    def sentence(self) -> str:
        """In plain words, for the summary."""
        tail = (
            f"{self.jobs} jobs longer than percentile {self.percentile:g} were clipped to it"
            if self.jobs else "no job was clipped"
        )
        return (
            f"one second here is {self.seconds_for_one:,.0f} s of the trace; {tail} "
            f"({self.longest_s:.1f} s on their fastest GPU), so that no job takes more than "
            f"{LARGEST_SHARE:.0%} of the bound; {self.raised} were raised to {SHORTEST_S:g} s"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """The jobs in order of arrival, seconds for size 1 by profile and hardware class, and the bound (s)
    they were scaled to on the capacity that was planned."""

    jobs: tuple[DemoJob, ...]
    seconds: Mapping[str, Mapping[str, float]]
    clipped: Clipped
    planned_bound_s: float

    def bound_jobs(self, released: Sequence[float] | None = None) -> list[BoundJob]:
        """The jobs as the bound wants them, released as planned or as they truly were."""
        times = released if released is not None else [job.at_s for job in self.jobs]
        return [
            BoundJob(release_s=at, size=job.size, seconds=self.seconds[job.profile])
            for job, at in zip(self.jobs, times, strict=True)
        ]


def seconds_table(block_s: float | None) -> dict[str, dict[str, float]]:
    """Seconds for size 1 by profile and class: Gavel's ratios, and a block of CPU work when it was measured.

    Both the balancer's hints (`balancer_hints`) and the truth of the emulated cards.
    """
    speeds = load_throughputs()
    table = {t.profile: speeds.slowness(t) for t in speeds.steps_per_s if speeds.classes(t)}
    if block_s is not None:
        table[MATRIX_PROFILE] = {"cpu": block_s}
    return table


def training_task(classes: Sequence[str]) -> str:
    """The task of jobs that run on just these classes: what hardware a task needs is said once a task."""
    if set(classes) == set(COLUMNS.values()):
        return TRAINING_TASK
    return "_".join((TRAINING_TASK, "on", *(name.rpartition("-")[2].lower() for name in sorted(classes))))


def training_tasks() -> dict[str, tuple[str, ...]]:
    """Every training task there may be, with the hardware it needs (any of)."""
    speeds = load_throughputs()
    sets = {tuple(sorted(speeds.classes(t))) for t in speeds.steps_per_s}
    return {training_task(classes): classes for classes in sorted(sets) if classes}


def build(
    count: int, bound_s: float, seed: int, capacity: Sequence[Capacity], block_s: float
) -> Workload:
    """`count` jobs whose makespan on `capacity` is at least, and about, `bound_s` seconds.

    `seed` chooses the slice of the trace and the CPU jobs; the same arguments give the same jobs.
    Raises `BalancerError` for a count or bound that cannot be served.
    """
    if count < 2 or not bound_s > 0:
        raise BalancerError(f"a demo needs 2 jobs and some time; asked for: {count} jobs in {bound_s:g} s")
    chance = random.Random(seed)
    matrix = _matrix_jobs(max(1, count // CPU_EVERY), bound_s, block_s, chance)
    trace = _slice(count - len(matrix), chance)
    seconds = seconds_table(block_s)
    for percentile in PERCENTILES:
        training, clipped = _fitted(trace, matrix, bound_s, percentile, capacity, seconds)
        if clipped.longest_s <= LARGEST_SHARE * bound_s or percentile == PERCENTILES[-1]:
            break
    jobs = tuple(sorted((*training, *matrix), key=lambda job: job.at_s))
    plain = Workload(jobs=jobs, seconds=seconds, clipped=clipped, planned_bound_s=bound_s)
    return replace(plain, planned_bound_s=makespan_bound(plain.bound_jobs(), capacity))


def _slice(count: int, chance: random.Random) -> tuple[TraceJob, ...]:
    """`count` consecutive runnable jobs of the trace, from a random one on."""
    jobs = single_gpu_first(load_trace(), load_throughputs(), count)
    first = chance.randint(0, len(jobs) - count)
    return jobs[first : first + count]


def _matrix_jobs(count: int, bound_s: float, block_s: float, chance: random.Random) -> list[DemoJob]:
    """Real CPU jobs, spread evenly over the arrivals."""
    least, most = CPU_SECONDS
    most = min(most, max(least, LARGEST_SHARE * bound_s))
    return [
        DemoJob(
            task=MATRIX_TASK, profile=MATRIX_PROFILE,
            size=float(max(1, round(chance.uniform(least, most) / block_s))),
            at_s=ARRIVING_SHARE * bound_s * number / count,
        )
        for number in range(count)
    ]


def _fitted(
    trace: Sequence[TraceJob], matrix: Sequence[DemoJob], bound_s: float, percentile: float,
    capacity: Sequence[Capacity], seconds: Mapping[str, Mapping[str, float]],
) -> tuple[list[DemoJob], Clipped]:
    """The trace clipped at a percentile and scaled until the bound is met to 1 %.

    The search ends early when the longest job is going to be far too long anyway.
    """
    raw = np.array([load_throughputs().best_s(job) for job in trace])
    cap = float(np.percentile(raw, percentile))
    clipped = np.minimum(raw, cap)
    scale = _first_scale(clipped, capacity, bound_s)
    for _ in range(8):
        jobs = _scaled(trace, clipped * scale, bound_s)
        reached = makespan_bound(_coarse([*jobs, *matrix], bound_s, seconds), capacity)
        if abs(reached - bound_s) <= 0.01 * bound_s:
            break
        scale *= bound_s / reached
        if cap * scale > 2 * LARGEST_SHARE * bound_s:
            break
    jobs = _scaled(trace, clipped * scale, bound_s)
    return jobs, Clipped(
        percentile=percentile, jobs=int(np.sum(raw > cap)), longest_s=max(job.size for job in jobs),
        raised=int(np.sum(clipped * scale < SHORTEST_S)), seconds_for_one=1 / scale,
    )


def _scaled(trace: Sequence[TraceJob], sizes: np.ndarray, bound_s: float) -> list[DemoJob]:
    """Jobs of these sizes (s on the fastest hardware), none under the shortest, as they arrive.

    Arrivals are linearly compressed to the share of the bound that is theirs.
    """
    first, span = trace[0].arrival_s, (trace[-1].arrival_s - trace[0].arrival_s) or 1.0
    speeds = load_throughputs()
    return [
        DemoJob(
            task=training_task(speeds.classes(job.job_type)), profile=job.job_type.profile,
            size=max(float(size), SHORTEST_S), at_s=ARRIVING_SHARE * bound_s * (job.arrival_s - first) / span,
        )
        for job, size in zip(trace, sizes, strict=True)
    ]


def _first_scale(sizes: np.ndarray, capacity: Sequence[Capacity], bound_s: float) -> float:
    """A scale to begin with: as if half of all GPU slots were of the fastest class, and the rest nothing."""
    slots = sum(part.slots for part in capacity if part.hardware_class in COLUMNS.values())
    return bound_s * max(slots, 1.0) / (2 * float(np.sum(sizes)))


def _coarse(
    jobs: Sequence[DemoJob], bound_s: float, seconds: Mapping[str, Mapping[str, float]]
) -> list[BoundJob]:
    """The jobs with releases rounded down to a few steps, so that the bound is quick and not higher."""
    step = bound_s / COARSE_STEPS
    return [
        BoundJob(release_s=job.at_s // step * step, size=job.size, seconds=seconds[job.profile])
        for job in jobs
    ]
