"""The least makespan on devices that several tasks share: the fluid program over what fits beside each other.

A device that serves a task which needs nine tenths of it is full but for small change; the plain bound, which
counts shares, does not know. Needs scipy (extra `demo`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from balancer.decide.packing import sets_that_fit
from balancer.simulate.bound import BoundJob, Capacity, Matrix, evenly, grouped, optimizer

#: Shares are told apart to this precision; what a job needs is rounded down, so that the bound stays one.
GRAIN = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """The program's constants: `seconds` (kinds, classes) of whole slots, the `bucket` of each kind,
    `fits` (sets, buckets), how many tasks of each bucket a set that fits a device holds, and `devices`
    (classes,)."""

    seconds: Matrix
    bucket: Sequence[int]
    fits: Matrix
    devices: Matrix


def shared_bound(jobs: Sequence[BoundJob], capacity: Sequence[Capacity], slots: int, releases: int) -> float:
    """The greatest over t of t + LP(work released from t on), when devices are there from the start and
    `slots` tasks share one at most; 0 where capacity changes with time, as then this bound is not found."""
    if not jobs or any(part.from_s > 0 or part.until_s < float("inf") for part in capacity):
        return 0.0
    times = sorted({job.release_s for job in jobs})
    return max(start + _least([job for job in jobs if job.release_s >= start], capacity, slots)
               for start in evenly(times, releases))


def grained(jobs: Sequence[BoundJob]) -> list[float]:
    """The jobs' shares of a device, rounded down."""
    return [max(GRAIN, int(job.share / GRAIN + 1e-9) * GRAIN) for job in jobs]


def _least(jobs: Sequence[BoundJob], capacity: Sequence[Capacity], slots: int) -> float:
    classes = sorted({part.hardware_class for part in capacity})
    rounded = grained(jobs)
    shares = sorted(set(rounded))
    work, seconds, bucket = [], [], []
    for place, share in enumerate(shares):
        alike = [job for job, own in zip(jobs, rounded, strict=True) if own == share]
        amount, rows = grouped(alike, classes, whole=True)
        work += amount.tolist()
        seconds += rows.tolist()
        bucket += [place] * len(amount)
    devices = np.array([sum(part.slots * part.speed for part in capacity if part.hardware_class == name)
                        for name in classes])
    return _solve(np.array(work), Program(seconds=np.array(seconds), bucket=bucket, devices=devices,
                                          fits=np.array(sets_that_fit(shares, slots), dtype=np.float64)))


def _solve(work: Matrix, program: Program) -> float:
    """Least L: work x[y,h] of each kind is done, in slots of its bucket that sets y[h,c] hold, for which the
    devices have L seconds each."""
    rows, columns = np.nonzero(np.isfinite(program.seconds))
    pairs, (sets, buckets), classes = len(rows), program.fits.shape, program.devices.size
    size = pairs + classes * sets + 1
    demand = np.zeros((work.size, size))
    demand[rows, np.arange(pairs)] = 1.0
    held = np.zeros((classes * buckets, size))
    place = columns * buckets + np.array(program.bucket)[rows]
    held[place, np.arange(pairs)] = program.seconds[rows, columns]
    used = np.zeros((classes, size))
    used[:, -1] = -program.devices
    for h in range(classes):
        chosen = slice(pairs + h * sets, pairs + (h + 1) * sets)
        held[h * buckets:(h + 1) * buckets, chosen] = -program.fits.T
        used[h, chosen] = 1.0
    cost = np.zeros(size)
    cost[-1] = 1.0
    result = optimizer().linprog(
        cost, A_ub=np.vstack([held, used]), b_ub=np.zeros(classes * (buckets + 1)), A_eq=demand, b_eq=work,
        method="highs")
    return float(result.fun) if result.status == 0 else 0.0
