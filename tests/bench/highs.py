"""The prices' program by HiGHS: min T with Σ_h x[y,h] = n_y and Σ_y p[y,h]·x[y,h] + R_h ≤ T·cap_h."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog
from scipy.sparse import coo_matrix

Array = NDArray[np.float64]


def drain_s(waiting: Array, seconds: Array, capacity: Array, committed: Array) -> float:
    """The least T for `waiting` (lanes,), `seconds` (lanes, classes; inf: cannot), `capacity` and `committed`
    (classes,)."""
    lane, place = np.nonzero(np.isfinite(seconds))
    pairs = np.arange(lane.size)
    ones = np.ones(lane.size)
    demand = coo_matrix((ones, (lane, pairs)), shape=(waiting.size, lane.size + 1))
    load = coo_matrix(
        (np.concatenate([seconds[lane, place], -capacity]),
         (np.concatenate([place, np.arange(capacity.size)]),
          np.concatenate([pairs, np.full(capacity.size, lane.size)]))),
        shape=(capacity.size, lane.size + 1))
    cost = np.zeros(lane.size + 1)
    cost[-1] = 1.0
    answer: Any = linprog(cost, A_ub=load, b_ub=-committed, A_eq=demand, b_eq=waiting, method="highs")
    return float(answer.fun)
