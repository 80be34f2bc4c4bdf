"""At low load, which workers rest so that whole nodes stay idle, and which nodes may sleep. Pure.

Only where `balancer_energy_slack` says that energy may cost time. A class needs the most slots that were in
use lately, and some to spare; the workers beyond them, in the order of their nodes, count as slower: the
awake ones are asked first, and when those are not enough the others help. Where something has waited longer
than energy may cost, a class that can run it needs all of its slots. Read by `order` and `capacity`; `engine`
tells what changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import numpy as np

from balancer.decide.columns import Columns, Flags, Floats, able, profiles_of, sorts_of
from balancer.model import Fleet
from balancer.model.table import Roster, WorkerTable
from balancer.settings import Settings

#: The most slots that were in use count half after so long (s): a node is not woken for each gust.
HALF_LIFE_S: Final = 300.0

#: Share of the awake slots that may be in use before more wake, and slots that are always to spare.
FULL: Final = 0.7
SPARE: Final = 1.0

#: The share of its speed that a resting worker counts with.
RESTING: Final = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """The most slots of a class that were in use lately, faded to `at`."""

    at: float
    slots: float

    def slots_at(self, at: float) -> float:
        """The same, faded to a later time."""
        faded: float = self.slots * 0.5 ** (max(0.0, at - self.at) / HALF_LIFE_S)
        return faded


def learn_needs(needs: Mapping[str, Need], fleet: Fleet, settings: Settings) -> Mapping[str, Need]:
    """`needs` by hardware class after this look at the fleet; as they were where energy costs no time."""
    workers = WorkerTable.of(fleet.workers)
    if not _counts(settings) or not len(workers):
        return needs
    used: dict[str, float] = {}
    busy = np.maximum(workers.numbers.busy, workers.holdings.ran) + workers.holdings.reserved
    busy = np.where(_awaited(fleet, workers.roster, settings), workers.roster.slots, busy)
    for name, slots in zip(workers.roster.class_names, busy.tolist(), strict=True):
        used[name] = used.get(name, 0.0) + slots
    found = dict(needs)
    for name, slots in used.items():
        before = found[name].slots_at(fleet.at) if name in found else slots
        found[name] = Need(at=fleet.at, slots=max(slots, before))
    return MappingProxyType(found)


def _awaited(fleet: Fleet, roster: Roster, settings: Settings) -> Flags:
    """The workers (W,) of whose class something has waited longer than `balancer_energy_slack`."""
    late = [i for i, lane in enumerate(fleet.lanes)
            if lane.waiting > 0 and (lane.oldest_s or 0.0) > settings.energy_slack]
    by_class: Flags = np.any(able(profiles_of(fleet), roster)[late], axis=0)
    awaited: Flags = by_class[sorts_of(roster).place]
    return awaited


def resting(seen: Columns, needs: Mapping[str, Need], at: float, settings: Settings) -> Flags:
    """The workers (W,) that the load of their class does not need. A class of which no need is known
    is awake."""
    rests = np.zeros(seen.slots.size, dtype=np.bool_)
    if not _counts(settings):
        return rests
    names = seen.runs.workers.roster.names
    for h, name in enumerate(seen.classes):
        if name not in needs:
            continue
        members = [i for i in seen.members(h).tolist() if seen.ok[i]]
        members.sort(key=lambda i: (node_of(names[i]), names[i]))
        before = np.cumsum([0.0, *seen.slots[members]])[:-1]
        rests[np.array(members, dtype=np.intp)[before >= needs[name].slots_at(at) / FULL + SPARE]] = True
    return rests


def willingness(seen: Columns, needs: Mapping[str, Need], at: float, settings: Settings) -> Floats:
    """The share (W,) of its speed that each worker counts with."""
    share: Floats = np.where(resting(seen, needs, at, settings), RESTING, 1.0)
    return share


def sleepers(seen: Columns, needs: Mapping[str, Need], at: float, settings: Settings) -> tuple[str, ...]:
    """The nodes all of whose workers rest and hold nothing, by name."""
    rests = resting(seen, needs, at, settings)
    if not rests.any():
        return ()
    idle = rests & (seen.busy <= 0) & seen.plain
    names = seen.runs.workers.roster.names
    awake = {node_of(name) for name, asleep in zip(names, idle.tolist(), strict=True) if not asleep}
    return tuple(sorted({node_of(name) for name in names} - awake))


def asleep(before: tuple[str, ...], seen: Columns, needs: Mapping[str, Need], at: float,
           settings: Settings) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The nodes that may sleep, after those of `before`, and what to tell of the change. A node that sleeps
    and reports no more is woken when what is there is not enough for some class."""
    now = sleepers(seen, needs, at, settings)
    if before and _counts(settings) and not _short(seen, needs, at):
        present = {node_of(name) for name in seen.runs.workers.roster.names}
        now = tuple(sorted({*now, *(node for node in before if node not in present)}))
    told = [f"may sleep: {node}" for node in now if node not in before]
    told += [f"wake: {node}" for node in before if node not in now]
    return now, tuple(told)


def _short(seen: Columns, needs: Mapping[str, Need], at: float) -> bool:
    """Whether a class has too few slots for its need, or none at all."""
    slots = np.bincount(seen.place[seen.ok], seen.slots[seen.ok], minlength=len(seen.classes)).tolist()
    there = dict(zip(seen.classes, slots, strict=True))
    return any(need.slots_at(at) / FULL > there.get(name, 0.0) for name, need in needs.items())


def node_of(worker: str) -> str:
    """The node of a worker's name: what follows the first @, as Celery names them."""
    return worker.partition("@")[2] or worker


def _counts(settings: Settings) -> bool:
    return settings.enable_resource_efficiency and settings.energy_slack > 0
