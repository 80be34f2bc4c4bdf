"""What no schedule can beat in mean completion: a fluid program over time; loose, but valid.

For tests and for judging a policy; job by job, so it is meant for some dozens of them. Needs scipy (extra
`demo`).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from balancer.errors import BalancerError
from balancer.simulate.bound import BoundJob, Capacity, Matrix, optimizer


def mean_completion_bound(jobs: Sequence[BoundJob], capacity: Sequence[Capacity], until_s: float,
                          steps: int = 30) -> float:
    """No schedule's mean of (end − release) is below this (s).

    Shares of jobs are served in intervals of time; a share served in an interval counts from its beginning,
    or from the job's release. A job's last share is served half of its shortest service after the mean
    one at the earliest. So Σ_j (C_j − r_j) ≥ min Σ (t_k − r_j)⁺·y[j,h,k] + p_j/2, with y what fits into
    the capacity of each interval; after `until_s` there is no limit.
    """
    if not jobs:
        return 0.0
    classes = sorted({part.hardware_class for part in capacity})
    edges = np.linspace(0.0, until_s, steps + 1)
    seconds = np.array([[job.size * job.seconds.get(h, np.inf) for h in classes] for job in jobs])
    speed = np.array([max((c.speed * min(1.0, c.slots) for c in capacity if c.hardware_class == h),
                          default=0.0) for h in classes])
    with np.errstate(divide="ignore"):
        shortest = (seconds / speed).min(axis=1)
    if not np.isfinite(shortest).all():
        raise BalancerError("a job of the bound runs nowhere")
    given = np.array([[_given(capacity, h, *span) for h in classes] for span in pairwise(edges.tolist())])
    release = np.array([job.release_s for job in jobs])
    share = np.array([job.share for job in jobs])
    waited = _least_wait(seconds * share[:, None], release, edges, given)
    return float((waited + shortest.sum() / 2.0) / len(jobs))


def _given(capacity: Sequence[Capacity], hardware_class: str, start: float, end: float) -> float:
    """Slot-seconds of a class in an interval."""
    return sum(part.slots * part.speed * max(0.0, min(end, part.until_s) - max(start, part.from_s))
               for part in capacity if part.hardware_class == hardware_class)


def _least_wait(seconds: Matrix, release: Matrix, edges: Matrix, given: Matrix) -> float:
    """The value of the program: Σ of (t_k − r_j)⁺ over all shares."""
    optimize = optimizer()
    from scipy.sparse import coo_matrix

    steps, classes = given.shape
    j, h, k = (a.ravel() for a in np.indices((len(release), classes, steps)))
    open_ = np.isfinite(seconds[j, h]) & (edges[k + 1] > release[j])
    j, h, k = j[open_], h[open_], k[open_]
    pairs = np.arange(j.size)
    late = np.arange(len(release)) + j.size
    cost = np.concatenate([np.maximum(0.0, edges[k] - release[j]), np.maximum(0.0, edges[-1] - release)])
    whole = coo_matrix((np.ones(j.size + late.size),
                        (np.concatenate([j, np.arange(late.size)]), np.concatenate([pairs, late]))))
    load = coo_matrix((seconds[j, h], (k * classes + h, pairs)), shape=(steps * classes, cost.size))
    result = optimize.linprog(cost, A_ub=load, b_ub=given.ravel(), A_eq=whole, b_eq=np.ones(late.size),
                              method="highs")
    if result.status != 0:
        raise BalancerError(f"the bound of mean completion could not be found: {result.message}")
    return float(result.fun)
