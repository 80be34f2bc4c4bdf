"""How many of a worker's slots one task takes up: several where it needs much of a shared device's memory.

Four slots on one GPU are no four GPUs to a task that asks for all of its memory. `occupancy` is what it
holds, read by `capacity` for the slots that are truly free; `paid` is what it keeps from others, read by
`order` for prices. Beside them the mix that FGD's measure goes by: what the fleet's usual tasks ask of a
device. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from balancer.decide.columns import Columns, Floats, Places, Sorts, profiles_of, sorts_of
from balancer.decide.fragments import SAME
from balancer.decide.kept import kept
from balancer.decide.packing import prices
from balancer.model import Fleet, Footprint, TaskProfile
from balancer.model.table import Roster

#: Kinds of usual tasks at most: what each asks for is rounded up to so many steps of the largest.
KINDS_MOST: Final = 12

#: The least that a task pays for, in slots: one that fits beside whatever else is usual costs next to
#: nothing, but without any price nothing else would ever be taken before it.
LEAST_PAID: Final = 0.4

#: Share of a running task that counts as work of the mix: so much of it is left, on average.
LEFT: Final = 0.5


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
    slots = _typical_slots(sorts, roster)
    for h, kinds in enumerate(sorts.kinds):
        device = max((kind.gpu_memory_bytes or 0 for kind in kinds), default=0)
        if device > 0:
            taken[:, h] = np.clip(slots[h] * needed / device, 1.0, slots[h])
    return taken


def paid(fleet: Fleet, seen: Columns) -> Floats:
    """Slots of a typical worker that a task of each lane is to pay for on each class: (lanes, classes), at
    least `LEAST_PAID`.

    On a device that several tasks share, what its place is worth to the others (`packing`), by the work that
    waits and runs: two tasks of six tenths fit as little beside each other as two that need all of it, and
    what they leave is of use only where small ones are about. Elsewhere as `occupancy`.
    """
    profiles, roster = profiles_of(fleet), seen.runs.workers.roster
    table, devices = _occupancy(profiles, roster), _devices(profiles, roster)
    if not devices:
        return table
    table = table.copy()
    sizes, which = _kinds(profiles)
    work = np.bincount(which, _work(fleet, seen), minlength=sizes.size)
    for device in devices:
        fit = np.flatnonzero((sizes > 0) & (sizes <= device.memory_bytes))
        if not fit.size:
            continue
        demand = np.round(work[fit] / max(SAME, work[fit].sum()), 2)
        each = device.slots * prices(tuple((sizes[fit] / device.memory_bytes).tolist()),
                                     tuple(demand.tolist()), device.slots)
        rows = np.flatnonzero(np.isin(which, fit))
        here = np.clip(each, LEAST_PAID, device.slots)[np.searchsorted(fit, which[rows])]
        table[np.ix_(rows, device.classes)] = here[:, None]
    return table


def _work(fleet: Fleet, seen: Columns) -> Floats:
    """Work of each lane that waits and runs, in tasks of size 1; one more of each, as none is forgotten."""
    runs = seen.runs
    mine = runs.lane >= 0
    size = np.where(np.isfinite(runs.size[mine]) & (runs.size[mine] > 0), runs.size[mine], 1.0)
    waiting = np.array([max(0, lane.waiting) * lane.mean_size for lane in fleet.lanes], dtype=np.float64)
    work: Floats = 1.0 + waiting + LEFT * np.bincount(runs.lane[mine], size, minlength=waiting.size)
    return work


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Shared:
    """Devices alike that several tasks share: the classes that have them, slots and memory of each."""

    classes: Places
    slots: int
    memory_bytes: float


@kept
def _devices(profiles: tuple[TaskProfile, ...], roster: Roster) -> tuple[Shared, ...]:
    """The devices that tasks share; none where no task asks for memory."""
    if not _asked_bytes(profiles).any():
        return ()
    sorts, found = sorts_of(roster), dict[tuple[int, float], list[int]]()
    slots = _typical_slots(sorts, roster)
    for h, kinds in enumerate(sorts.kinds):
        device = max((kind.gpu_memory_bytes or 0 for kind in kinds), default=0)
        if device > 0 and slots[h] >= 2:
            found.setdefault((int(slots[h]), float(device)), []).append(h)
    return tuple(Shared(classes=np.array(classes), slots=slots, memory_bytes=memory)
                 for (slots, memory), classes in found.items())


def _typical_slots(sorts: Sorts, roster: Roster) -> Floats:
    """Mean slots of the workers of each class (classes,), at least 1."""
    workers = np.maximum(1, np.bincount(sorts.place, minlength=len(sorts.classes)))
    return np.maximum(1.0, np.bincount(sorts.place, roster.slots, minlength=len(sorts.classes)) / workers)


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
