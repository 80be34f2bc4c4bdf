"""How many of a worker's slots one task takes up: several where it needs much of a shared device's memory.

Four slots on one GPU are no four GPUs to a task that asks for all of its memory. Read by `order` for prices
and by `capacity` for the slots that are truly free; pure.
"""

from __future__ import annotations

import numpy as np

from balancer.decide.columns import Columns, Floats
from balancer.model import Fleet


def occupancy(fleet: Fleet, seen: Columns) -> Floats:
    """Slots of a typical worker that a task of each lane takes up on each class: (lanes, classes), ≥ 1.

    Its share of the device's memory, in slots; 1 where the task asks for no memory of a device or the
    worker has a single slot, and no more than the worker has.
    """
    needed = np.array([lane.profile.needs.gpu_memory_bytes or 0 for lane in fleet.lanes], dtype=np.float64)
    taken = np.ones((needed.size, len(seen.classes)))
    if not needed.any():
        return taken
    workers = np.maximum(1, np.bincount(seen.place, minlength=len(seen.classes)))
    slots = np.maximum(1.0, np.bincount(seen.place, seen.slots, minlength=len(seen.classes)) / workers)
    for h, kinds in enumerate(seen.kinds):
        device = max((kind.gpu_memory_bytes or 0 for kind in kinds), default=0)
        if device > 0:
            taken[:, h] = np.clip(slots[h] * needed / device, 1.0, slots[h])
    return taken
