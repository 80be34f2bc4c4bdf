"""What no schedule can beat: the least makespan of given jobs on given, changing capacity.

The figure the demo and the simulator divide their makespan by. It knows everything (true sizes,
arrivals, joins, losses and slow-downs before they happen), so that no balancer can be below it.
Needs scipy (extra `demo`), imported late.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from balancer.errors import BalancerError, MissingExtraError

Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class BoundJob:
    """A job: when it is there (s), its size, and seconds of a slot for size 1 on each class that runs it.
    `share` is the part of a slot that it takes up meanwhile, where slots are devices that are shared."""

    release_s: float
    size: float
    seconds: Mapping[str, float]
    share: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """`slots` of a class over [`from_s`, `until_s`): a worker that joins late, is killed, or runs slowed
    (a quarter of a slot when it is four times slower). Several of one class add up. `speed` is that of each
    of the slots, for workers that are faster than their class."""

    hardware_class: str
    slots: float = 1.0
    speed: float = 1.0
    from_s: float = 0.0
    until_s: float = float("inf")


def makespan_bound(jobs: Sequence[BoundJob], capacity: Sequence[Capacity],
                   releases: int | None = None) -> float:
    """The least possible end of the last job, in seconds from 0; 0 without jobs.

    The greatest over t of t + LP(work released from t on, over the capacity there is from t on),
    where the LP is the fluid R||Cmax (jobs that run alike × classes): least T such that
    Σ_h x[y,h] = work_y and Σ_y p[y,h]·x[y,h] ≤ ∫ capacity_h from t to T, x ≥ 0 (Lawler and
    Labetoulle 1978 without the rows of single jobs); and never below what any one job needs if
    it always held the fastest slot that there is. At most so many `releases` are looked at, evenly
    chosen, where a number is given: fewer may only lower the bound. Raises `BalancerError` for work that
    no capacity can ever do.
    """
    if not jobs:
        return 0.0
    _check(jobs, capacity)
    bound = max(_alone(job, capacity) for job in jobs)
    times = sorted({job.release_s for job in jobs})
    for release in times if releases is None else evenly(times, releases):
        bound = max(bound, _fluid([job for job in jobs if job.release_s >= release], capacity, release))
    return bound


def evenly(times: Sequence[float], count: int) -> list[float]:
    """The first, the last and others between them, `count` at most."""
    chosen = np.unique(np.linspace(0, len(times) - 1, max(2, count)).astype(int))
    return [times[i] for i in chosen.tolist()]


def _check(jobs: Sequence[BoundJob], capacity: Sequence[Capacity]) -> None:
    for job in jobs:
        numbers = np.array([job.release_s, job.size, *job.seconds.values()])
        if not np.all(np.isfinite(numbers) & (numbers >= 0)) or 0 in job.seconds.values():
            raise BalancerError(f"a job of the bound has a number that is negative or not finite: {job}")
    for part in capacity:
        some = part.slots >= 0 and 0 <= part.speed < float("inf")
        if not some or not part.from_s <= part.until_s or not np.isfinite(part.from_s):
            raise BalancerError(f"capacity of the bound must be ≥ 0 over a span that is not reversed: {part}")


def _changes(capacity: Sequence[Capacity], after: float) -> list[float]:
    """`after` and the later times at which capacity changes, ascending, with infinity at the end."""
    times = {t for part in capacity for t in (part.from_s, part.until_s) if after < t < float("inf")}
    return [after, *sorted(times), float("inf")]


def _slots(capacity: Sequence[Capacity], at: float) -> dict[str, float]:
    """Slots by class at a time."""
    totals: dict[str, float] = {}
    for part in capacity:
        if part.from_s <= at < part.until_s:
            totals[part.hardware_class] = totals.get(part.hardware_class, 0.0) + part.slots * part.speed
    return totals


def _fastest(job: BoundJob, capacity: Sequence[Capacity], at: float) -> float:
    """Size per second that the best single slot gives this job at a time."""
    rates = [
        min(1.0, part.slots) * part.speed / job.seconds[part.hardware_class]
        for part in capacity
        if part.from_s <= at < part.until_s and part.hardware_class in job.seconds
    ]
    return max(rates, default=0.0)


def _alone(job: BoundJob, capacity: Sequence[Capacity]) -> float:
    """The end of a job that always holds the fastest slot there is, moving for nothing."""
    left = job.size
    for start, end in pairwise(_changes(capacity, job.release_s)):
        rate = _fastest(job, capacity, start)
        if left <= rate * (end - start) if rate > 0 else left <= 0:
            return start + (left / rate if rate > 0 else 0.0)
        left -= rate * (end - start) if rate > 0 else 0.0
    raise BalancerError(f"no capacity ever finishes a job that is released at {job.release_s:g} s: {job}")


def _fluid(jobs: Sequence[BoundJob], capacity: Sequence[Capacity], start: float) -> float:
    """t + LP from `start` on, interval by interval between changes of capacity until one holds the end."""
    classes = sorted({part.hardware_class for part in capacity})
    work, seconds = grouped(jobs, classes)
    given = np.zeros(len(classes))
    for begin, end in pairwise(_changes(capacity, start)):
        slots = _slots(capacity, begin)
        rate = np.array([slots.get(name, 0.0) for name in classes])
        length = _least_length(work, seconds, given, rate)
        if length is not None and begin + length <= end:
            return begin + length
        if end < float("inf"):
            given = given + rate * (end - begin)
    raise BalancerError(f"no capacity ever finishes the work that is released from {start:g} s on")


def grouped(jobs: Sequence[BoundJob], classes: Sequence[str], *,
            whole: bool = False) -> tuple[Matrix, Matrix]:
    """Work (n) and seconds (n × classes, inf where it does not run) of the jobs that run alike: of as much of
    a slot as each takes up, or of `whole` ones."""
    sums: dict[tuple[float, ...], float] = {}
    for job in jobs:
        key = tuple(job.seconds.get(name, float("inf")) * (1.0 if whole else job.share) for name in classes)
        sums[key] = sums.get(key, 0.0) + job.size
    return np.array(list(sums.values())), np.array(list(sums))


def _least_length(work: Matrix, seconds: Matrix, given: Matrix, rate: Matrix) -> float | None:
    """Least L ≥ 0 for which the work fits into given + rate·L; `None` when none does.

    Variables: x[y,h] for the pairs that run, then L.
    """
    optimize = optimizer()
    rows, columns = np.nonzero(np.isfinite(seconds))
    pairs = len(rows)
    demand = np.zeros((len(work), pairs + 1))
    demand[rows, np.arange(pairs)] = 1.0
    load = np.zeros((len(rate), pairs + 1))
    load[columns, np.arange(pairs)] = seconds[rows, columns]
    load[:, -1] = -rate
    cost = np.zeros(pairs + 1)
    cost[-1] = 1.0
    result = optimize.linprog(cost, A_ub=load, b_ub=given, A_eq=demand, b_eq=work, method="highs")
    return float(result.fun) if result.status == 0 else None


def optimizer() -> Any:
    """scipy's optimizer. Raises `MissingExtraError` where there is none."""
    try:
        from scipy import optimize
    except ImportError:
        raise MissingExtraError("the lower bound needs scipy: pip install 'celery-balancer[demo]'") from None
    return optimize
