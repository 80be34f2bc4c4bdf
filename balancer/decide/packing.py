"""What a task takes of a device that several share, by what fits beside it: two of six tenths never do.

The prices of fractional bin packing (Gilmore and Gomory, 1961): with d_b tasks of each size to place, the
least number of devices is max d·w such that no set of tasks that fits a device is worth more than 1. Asked by
`occupancy.paid`, and by the twin's bounds for what fits a device; pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import comb
from typing import Final

import numpy as np

from balancer.decide.columns import Floats
from balancer.decide.fragments import SAME

#: Sets looked at, at most. Where more fit a device its tasks are many and small, and what they take is nearly
#: their share of it.
SETS_MOST: Final = 5000

#: Of prices that are equally good, those nearest to the shares: as much more of each size is asked for.
NEAR: Final = 1e-4

#: Steps of the simplex, at most; prices are worth something after each.
STEPS: Final = 200


@lru_cache(maxsize=256)
def prices(shares: tuple[float, ...], demand: tuple[float, ...], most: int) -> Floats:
    """The part of a device (0–1) that a task of each size takes up, (sizes,), where a device holds `most`.

    `shares` of a device, (0–1], are the sizes, ascending; `demand` is how often each is asked for (≥ 0). Of
    answers that are equally good it is the one nearest to the shares. No set that fits takes more than one
    device.
    """
    own = np.array(shares)
    if comb(len(shares) + most, most) > SETS_MOST:
        answer: Floats = np.maximum(own, 1.0 / most)
    else:
        fits = np.array(sets_that_fit(shares, most), dtype=np.float64)
        worth = _dual(fits, np.array(demand) + NEAR * own)
        answer = worth / max(1.0, float((fits @ worth).max()))
    answer.flags.writeable = False
    return answer


def sets_that_fit(shares: Sequence[float], most: int) -> list[tuple[int, ...]]:
    """Every way to fill one device: how many tasks of each share, ascending; those that are part of another
    are left out."""
    found: list[tuple[int, ...]] = []

    def fill(place: int, left: float, count: int, chosen: tuple[int, ...]) -> None:
        if place < 0:
            if count == 0 or not shares or shares[0] > left + SAME:
                found.append(chosen)
            return
        fitting = min(count, int((left + SAME) / shares[place]))
        for number in range(fitting, -1, -1):
            fill(place - 1, left - number * shares[place], count - number, (number, *chosen))

    fill(len(shares) - 1, 1.0, most, ())
    return found


def _dual(fits: Floats, demand: Floats) -> Floats:
    """w ≥ 0 (sizes,) of max demand·w with `fits` (sets, sizes) @ w ≤ 1, by the simplex method on the sets
    that a packing uses, from each size on devices of its own."""
    sizes = demand.size
    columns = np.vstack([np.diag(fits.max(axis=0)), fits, -np.eye(sizes)])
    cost = np.ones(len(columns))
    cost[-sizes:] = 0.0  # to place more than is asked for
    basis = np.arange(sizes)
    for _ in range(STEPS):
        inside = columns[basis].T
        worth = np.linalg.solve(inside.T, cost[basis])
        saved = columns @ worth - cost
        enters = int(saved.argmax())
        if saved[enters] <= SAME:
            break
        used, change = np.linalg.solve(inside, np.stack([demand, columns[enters]], axis=1)).T
        least = np.where(change > SAME, used / np.where(change > SAME, change, 1.0), np.inf)
        basis[int(least.argmin())] = enters
    return np.maximum(0.0, worth)
