"""How many of a worker's slots one task takes up: several where it needs much of a shared device's memory.

Four slots on one GPU are no four GPUs to a task that asks for all of its memory. Read by `order` for prices
and by `capacity` for the slots that are truly free. Beside it the mix that FGD's measure goes by: what the
fleet's usual tasks ask of a device. Pure.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from balancer.decide.columns import Columns, Floats, Places, profiles_of, sorts_of
from balancer.decide.kept import kept
from balancer.model import Fleet, Footprint, TaskProfile
from balancer.model.table import Roster

#: Kinds of usual tasks at most: what each asks for is rounded up to so many steps of the largest.
KINDS_MOST: Final = 12


def occupancy(fleet: Fleet, seen: Columns) -> Floats:
    """Slots of a typical worker that a task of each lane takes up on each class: (lanes, classes), ≥ 1.

    Its share of the device's memory, in slots; 1 where the task asks for no memory of a device or the
    worker has a single slot, and no more than the worker has.
    """
    return _occupancy(profiles_of(fleet), seen.runs.workers.roster)


@kept
def _occupancy(profiles: tuple[TaskProfile, ...], roster: Roster) -> Floats:
    """The same of these lanes' profiles and who is there; both last for many turns."""
    needed, sorts = _asked_bytes(profiles), sorts_of(roster)
    taken = np.ones((needed.size, len(sorts.classes)))
    if not needed.any():
        return taken
    workers = np.maximum(1, np.bincount(sorts.place, minlength=len(sorts.classes)))
    slots = np.maximum(1.0, np.bincount(sorts.place, roster.slots, minlength=len(sorts.classes)) / workers)
    for h, kinds in enumerate(sorts.kinds):
        device = max((kind.gpu_memory_bytes or 0 for kind in kinds), default=0)
        if device > 0:
            taken[:, h] = np.clip(slots[h] * needed / device, 1.0, slots[h])
    return taken


def usual(fleet: Fleet, seen: Columns) -> tuple[tuple[float, Footprint], ...]:
    """`mix_of` by what the columns say that runs."""
    rows = seen.runs.lane[seen.runs.lane >= 0]
    return mix_of(fleet, np.bincount(rows, minlength=len(fleet.lanes)))


def mix_of(fleet: Fleet, ran: Floats | Places) -> tuple[tuple[float, Footprint], ...]:
    """The usual tasks by the device memory (bytes) that they ask for, and how often each comes (Σ = 1);
    nothing where none asks for any.

    What waits and what runs (`ran`, lanes) counts, and each lane for one more task: none is forgotten while
    it is empty.
    """
    sizes, which = _kinds(profiles_of(fleet))
    if not sizes.any():
        return ()
    count = 1.0 + ran + np.array([max(0, lane.waiting) for lane in fleet.lanes], dtype=np.float64)
    share = np.bincount(which, count) / count.sum()
    return tuple((weight, Footprint(share=size))
                 for weight, size in zip(share.tolist(), sizes.tolist(), strict=True) if size > 0)


@kept
def _kinds(profiles: tuple[TaskProfile, ...]) -> tuple[Floats, Places]:
    """The unlike sizes (bytes) that tasks of these profiles ask for, ascending, and each one's place."""
    asked = _asked_bytes(profiles)
    sizes, which = np.unique(asked, return_inverse=True)
    if sizes.size > KINDS_MOST:
        step = sizes[-1] / KINDS_MOST
        sizes, which = np.unique(np.ceil(asked / step) * step, return_inverse=True)
    return sizes, which


@kept
def _asked_bytes(profiles: tuple[TaskProfile, ...]) -> Floats:
    """Bytes of a device's memory that a task of each profile asks for; 0 for none."""
    return np.array([profile.needs.gpu_memory_bytes or 0 for profile in profiles], dtype=np.float64)
