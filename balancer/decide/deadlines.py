"""Deadlines: lanes whose next task would expire before its turn, and the class that still takes it in time.

A task's `expires` is when it must have begun: later Celery drops it at the moment it is taken, which costs
nothing, so that what has expired or cannot be met stays where it is. Asked by `order`; pure.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from heapq import heapreplace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from balancer.decide.pull import SAME_AGE
from balancer.decide.slots import level

if TYPE_CHECKING:
    from balancer.decide.order import Market
    from balancer.model import Lane

Array = NDArray[np.float64]


def pressing(state: Market, rhythm_s: float) -> dict[int, int]:
    """Rows of lanes that must go first to be met, soonest deadline first, each with the class for it.

    A lane presses when its turn by the order comes later than its deadline, or within the `rhythm_s` (s) of
    the next order before it. The class is the one that would have it done first of those with a slot that
    comes free in time, after what presses more has been given its slot; without one the lane is left alone.
    """
    due = {row: float(lane.due_s) for row, lane in enumerate(state.lanes)
           if lane.waiting > 0 and lane.due_s is not None and lane.due_s > 0}
    rows = sorted(due, key=lambda row: (due[row], row)) if state.classes else []
    late = [row for row, turn in zip(rows, _turns(state, rows), strict=True) if due[row] < turn + rhythm_s]
    # No lane takes more than one slot here: of each class the first few are enough. Sorted lists are heaps.
    free = [slots.free_in[:len(late)].tolist() for slots in state.slots]
    found: dict[int, int] = {}
    for row in late:
        seconds = state.cautious[row].tolist()
        done = [times[0] + s if times and times[0] <= due[row] else math.inf
                for times, s in zip(free, seconds, strict=True)]
        best = min(range(len(done)), key=done.__getitem__)
        if math.isfinite(done[best]):
            heapreplace(free[best], done[best])
            found[row] = best
    return found


def _turns(state: Market, rows: Sequence[int]) -> list[float]:
    """When the heads of these lanes would be taken by the class that is first for each (s): once its slots
    have taken in what the program gave it of all lanes and what lies before them."""
    if not rows:
        return []
    work = np.where(np.isfinite(state.seconds), state.seconds * state.taken, 0.0) * state.prices.share
    before, first = _before(state.lanes, rows), state.first[list(rows)]
    return [float(level(state.slots[h].free_in, (tasks @ work[:, h])[None])[0])
            for tasks, h in zip(before, first.tolist(), strict=True)]


def _before(lanes: Sequence[Lane], rows: Sequence[int]) -> Array:
    """Tasks of each lane that are taken before the heads of `rows`, (rows, lanes): those that are older, or,
    of a lane whose head is about as old, as many as it is longer, as workers serve ties (`pull`). Ages inside
    a lane are taken to be even; where one is not known everything is before."""
    n = np.array([float(max(0, lane.waiting)) for lane in lanes])
    ages = np.array([math.nan if lane.oldest_s is None else max(lane.oldest_s, 1e-9) for lane in lanes])
    place = list(rows)
    share = 1.0 - np.minimum(1.0, ages[place][:, None] / ages)
    tasks: Array = np.where(np.isnan(share), 1.0, share) * n
    alike = np.abs(ages[place][:, None] - ages) <= SAME_AGE * np.maximum(ages[place][:, None], ages)
    tasks = np.where(alike, np.maximum(tasks, n - n[place][:, None]), tasks)
    tasks[np.arange(len(place)), place] = 0.0
    return tasks
