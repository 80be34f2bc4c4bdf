"""How much of a node's free GPUs the usual tasks cannot use: the measure of FGD (Weng et al., ATC '23).

F(M) = Σ_m p_m·F(m): all that is left free where task m cannot run on the node at all, else what is left on
GPUs that are too full for it. Who places a task where F grows least keeps room for those that come. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

#: Free shares this close are the same.
SAME = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Mix:
    """The usual tasks (M,): how often each comes (Σ = 1), GPUs, the share of each GPU (0–1), and what it
    needs of the node's processor and memory, in the units of the nodes."""

    weight: Floats
    gpus: Floats
    share: Floats
    cpu: Floats
    memory: Floats


def fragments(left: Sequence[float], cpu: float, memory: float, mix: Mix) -> float:
    """Expected GPUs that are free on a node and of no use to a task of the mix. `left` is what is free of
    each GPU (0–1)."""
    free = np.asarray(left, dtype=np.float64)
    enough = free[None, :] >= mix.share[:, None] - SAME
    runs = (enough.sum(axis=1) >= mix.gpus) & (mix.cpu <= cpu + SAME) & (mix.memory <= memory + SAME)
    unusable = np.where(runs, np.where(enough, 0.0, free).sum(axis=1), free.sum())
    return float(mix.weight @ unusable)
