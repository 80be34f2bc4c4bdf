"""The least makespan of tasks that are on one device at a time: the fluid program task by task over time.

The other bounds let one task have many devices, and work begin before it is there. This one allows neither;
to move and to cut tasks stays free. Needs scipy (extra `demo`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from balancer.decide.packing import sets_that_fit
from balancer.simulate.bound import BoundJob, Capacity, Matrix, optimizer
from balancer.simulate.bound_shared import grained

#: Where the intervals begin, as shares of the time in which tasks arrive: short ones at first, while few
#: tasks are there. Any choice gives a bound; more intervals give a higher and dearer one.
EDGES: Final = (0.0, 1 / 30, 2 / 30, 0.1, 4 / 30, 0.2, 4 / 15, 0.4, 8 / 15, 2 / 3, 5 / 6, 1.0)

Places = NDArray[np.intp]


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """The program's variables and constants. A variable is the share of a task (`job`) that a class (`kind`)
    does in an interval (`step`): (n,) each. All of it takes `seconds` of a device there, and on the fastest
    one `alone` seconds (n,). `longest` (jobs, steps): seconds that a task is there in an interval; the last
    has no end. `bucket` (jobs,) of each task's share of a device; `fits` (sets, buckets): what a set that
    fits a device holds; `devices` (classes,); `lengths` (steps,) of the intervals, of which the last is asked
    for."""

    job: Places
    kind: Places
    step: Places
    seconds: Matrix
    alone: Matrix
    longest: Matrix
    bucket: Places
    fits: Matrix
    devices: Matrix
    lengths: Matrix


def tasks_bound(jobs: Sequence[BoundJob], capacity: Sequence[Capacity], slots: int) -> float:
    """No schedule ends before this (s): least T such that every task is done after its release and never on
    two devices at once, and each device holds what fits it, `slots` tasks at most.

    0 where capacity changes with time, as then this bound is not found.
    """
    if not jobs or any(part.from_s > 0 or part.until_s < float("inf") for part in capacity):
        return 0.0
    return max(job.release_s for job in jobs) + _least_last(_timed(jobs, capacity, slots))


def _timed(jobs: Sequence[BoundJob], capacity: Sequence[Capacity], slots: int) -> Timed:
    classes = sorted({part.hardware_class for part in capacity})
    release = np.array([job.release_s for job in jobs])
    begin = np.unique(release.max() * np.array(EDGES))
    end = np.append(begin[1:], np.inf)
    shares, bucket = np.unique(grained(jobs), return_inverse=True)
    seconds = np.array([[job.size * job.seconds.get(name, np.inf) for name in classes] for job in jobs])
    alike = [[part for part in capacity if part.hardware_class == name] for name in classes]
    fastest = np.array([max((part.speed for part in parts), default=0.0) for parts in alike])
    j, h, k = (each.ravel() for each in np.indices((len(jobs), len(classes), begin.size)))
    may = np.isfinite(seconds[j, h]) & (fastest[h] > 0) & (end[k] > release[j])
    j, h, k = j[may], h[may], k[may]
    return Timed(
        job=j, kind=h, step=k, seconds=seconds[j, h], alone=seconds[j, h] / fastest[h],
        longest=np.maximum(0.0, end - np.maximum(begin, release[:, None])), bucket=bucket,
        fits=np.array(sets_that_fit(shares.tolist(), slots), dtype=np.float64),
        devices=np.array([sum(part.slots * part.speed for part in parts) for parts in alike]),
        lengths=end - begin)


def _least_last(p: Timed) -> float:
    """Least length of the last interval (s), 0 where none is found. Variables: `p`'s, then y[h,k,c], seconds
    for which devices of a class hold a set in an interval, then the length."""
    from scipy.sparse import vstack

    (sets, buckets), classes, steps = p.fits.shape, p.devices.size, p.lengths.size
    spans, count, (jobs, last) = classes * steps, p.job.size, (p.longest.shape[0], p.lengths.size - 1)
    size, own, span = count + spans * sets + 1, np.arange(count), p.kind * steps + p.step
    which, chosen, bucket = (each.ravel() for each in np.indices((spans, sets, buckets)))
    every, length = np.arange(spans * sets), np.full(classes, size - 1)
    # What runs in a bucket's slots, less the slots that sets hold; sets, less the devices; each task alone.
    held = _matrix(span * buckets + p.bucket[p.job], own, p.seconds, (spans * buckets, size)) - _matrix(
        which * buckets + bucket, count + which * sets + chosen, p.fits[chosen, bucket],
        (spans * buckets, size))
    used = _matrix(every // sets, count + every, np.ones(every.size), (spans, size)) - _matrix(
        np.arange(classes) * steps + last, length, p.devices, (spans, size))
    alone = _matrix(p.job * steps + p.step, own, p.alone, (jobs * steps, size)) - _matrix(
        np.arange(jobs) * steps + last, np.full(jobs, size - 1), np.ones(jobs), (jobs * steps, size))
    given = np.where(np.isfinite(p.lengths), p.lengths, 0.0)
    there = np.where(np.isfinite(p.longest), p.longest, 0.0)
    room = np.concatenate([np.zeros(spans * buckets), np.outer(p.devices, given).ravel(), there.ravel()])
    result = optimizer().linprog(
        np.eye(1, size, size - 1).ravel(), A_ub=vstack([held, used, alone]), b_ub=room,
        A_eq=_matrix(p.job, own, np.ones(count), (jobs, size)), b_eq=np.ones(jobs), method="highs-ipm")
    return float(result.fun) if result.status == 0 else 0.0


def _matrix(rows: Places, columns: Places, values: Matrix, shape: tuple[int, int]) -> Any:
    """A sparse matrix with these values, and 0 elsewhere."""
    from scipy.sparse import coo_matrix

    return coo_matrix((values, (rows, columns)), shape=shape).tocsr()
