"""The GPU memory of a fleet: how much there is, how much is free, and how much of that nobody usual can use.

FGD's measure over all devices at once, for the report; what a worker does about it is `pull.packed`. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from balancer.decide.columns import Floats
from balancer.decide.fragments import SAME
from balancer.decide.occupancy import mix_of
from balancer.model import Fleet
from balancer.model.table import READING_FIELDS, WorkerTable

#: The column of free GPU memory in a fleet's readings.
FREE: Final = READING_FIELDS.index("gpu_memory_free_bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuMemory:
    """Bytes over all devices: in all, free (as `fragments.left_bytes` of each), and of those
    `unusable_bytes`: F of `decide.fragments`."""

    total_bytes: float
    free_bytes: float
    unusable_bytes: float


def gpu_memory(fleet: Fleet) -> GpuMemory | None:
    """What there is of it; `None` where no lane's tasks ask for any, or no device tells how much it has."""
    asked = {lane.profile.name: lane.profile.needs.gpu_memory_bytes or 0 for lane in fleet.lanes}
    if not any(asked.values()):
        return None
    workers = WorkerTable.of(fleet.workers)
    roster, holdings = workers.roster, workers.holdings
    sizes = np.array([hardware.gpu_memory_bytes or 0 for hardware in roster.unlike], dtype=np.float64)
    total = sizes[roster.which]
    if not total.any():
        return None
    runs = holdings.runs["profile"]
    needed = np.array([asked.get(name, 0) for name in holdings.profiles], dtype=np.float64)
    owner = np.repeat(np.arange(total.size), holdings.ran.astype(np.intp))
    promised = np.bincount(owner, needed[runs] if runs.size else None, minlength=total.size)
    free = np.clip(np.fmin(total - promised, workers.numbers.readings[:, FREE]), 0.0, total)
    ran = dict(zip(holdings.profiles, np.bincount(runs, minlength=len(holdings.profiles)).tolist(),
                   strict=True))
    taken = np.maximum(holdings.ran, workers.numbers.busy) + holdings.reserved
    return GpuMemory(
        total_bytes=float(total.sum()), free_bytes=float(free.sum()),
        unusable_bytes=float(_unusable(fleet, ran, free, taken >= roster.slots).sum()))


def _unusable(fleet: Fleet, ran: dict[str, int], free: Floats, full: np.ndarray) -> Floats:
    """F of each device (W,): what is free and too little for each usual task; all of it without a slot."""
    mix = mix_of(fleet, np.array([ran.get(lane.profile.name, 0) for lane in fleet.lanes], dtype=np.float64))
    too_large = np.zeros_like(free)
    for weight, task in mix:
        too_large += np.where(free < task.share - SAME, weight, 0.0)
    return np.where(full, free, free * too_large)
