"""The workers of a fleet as columns, shared by every step of a turn that looks at each.

A formula over ten thousand workers is then one of numpy. Made by `engine` once a turn and carried by the
`Situation`; `slots`, `order`, `progress`, `rescue` and `stranded` read it. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import eq
from typing import Final

import numpy as np
from numpy.typing import NDArray

from balancer.decide.estimate import Estimates
from balancer.decide.kept import kept
from balancer.decide.speeds import Speeds
from balancer.model import Fleet, Hardware, HeldTask, Needs, TaskProfile
from balancer.model.table import READING_FIELDS, Roster, WorkerTable
from balancer.routing import HOT_CELSIUS, can_run

Floats = NDArray[np.float64]
Places = NDArray[np.intp]
Flags = NDArray[np.bool_]

#: The column of the temperature in a fleet's readings.
TEMPERATURE: Final = READING_FIELDS.index("temperature_celsius")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Runs:
    """Running tasks (R,), worker by worker: `worker` is the place of theirs in the fleet, `lane` the row of
    their profile's lane (−1: there is none), `place` that of their class. `pair`, lane · classes + place, is
    where a table (lanes, classes) has theirs, one after the other; somewhere, where there is no lane.

    Times (s), `size` and shares as in `HeldTask`; what is not told is NaN. A task whose earlier runs are not
    told of has `before` 0 in its `first` epoch, else NaN.
    """

    workers: WorkerTable
    worker: Places
    lane: Places
    place: Places
    pair: Places
    first: Flags
    size: Floats
    started: Floats
    checkpointed: Floats
    done: Floats
    before: Floats

    def of_table(self, table: Floats) -> Floats:
        """The entry of each in a `table` (lanes, classes or more); zeros where there are no lanes."""
        if not table.size:
            return np.zeros(self.pair.size)
        width = len(sorts_of(self.workers.roster).classes)
        return table[:, :width].ravel().take(self.pair)

    @property
    def tasks(self) -> Sequence[HeldTask]:
        """The tasks themselves."""
        return self.workers.tasks


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Columns:
    """Workers (W,) in the fleet's order: the `place` of their class among `classes` (by name), `speed`
    relative to it, slots, those in use, and flags: `ok` (healthy), `hot` (struck out for any task), `plain`
    (holds nothing but what runs, and all of that is told). `kinds` are the unlike devices of each class,
    `able` (lanes, classes) tells which has a worker that can ever run which lane."""

    classes: tuple[str, ...]
    kinds: tuple[tuple[Hardware, ...], ...]
    able: Flags
    place: Places
    speed: Floats
    slots: Floats
    busy: Floats
    ok: Flags
    hot: Flags
    plain: Flags
    runs: Runs

    def members(self, place: int) -> Places:
        """The workers of one class, in the fleet's order."""
        return np.flatnonzero(self.place == place)


def columns(fleet: Fleet, estimates: Estimates) -> Columns:
    """The fleet's workers as what decides about them, with their speeds by `estimates`."""
    workers = WorkerTable.of(fleet.workers)
    roster, holdings, numbers = workers.roster, workers.holdings, workers.numbers
    sorts = sorts_of(roster)
    busy = np.maximum(holdings.ran, numbers.busy)
    told = (np.minimum(roster.slots, busy) <= holdings.ran) & (holdings.ran <= roster.slots)
    return Columns(
        classes=sorts.classes,
        kinds=sorts.kinds,
        able=able(profiles_of(fleet), roster),
        place=sorts.place,
        speed=_speeds(roster, estimates.worker_class, estimates.worker_speed),
        slots=roster.slots,
        busy=busy,
        ok=holdings.ok,
        hot=numbers.readings[:, TEMPERATURE] >= HOT_CELSIUS,
        plain=told & (holdings.reserved == 0),
        runs=_runs(fleet, workers),
    )


@kept
def profiles_of(fleet: Fleet) -> tuple[TaskProfile, ...]:
    """The profile of each lane."""
    return tuple([lane.profile for lane in fleet.lanes])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sorts:
    """The classes of a roster, their unlike devices and each worker's place, as in `Columns`."""

    classes: tuple[str, ...]
    kinds: tuple[tuple[Hardware, ...], ...]
    place: Places


@kept
def sorts_of(roster: Roster) -> Sorts:
    """The classes that are there; a roster lasts for many turns."""
    classes = tuple(sorted({hardware.hardware_class for hardware in roster.unlike}))
    column = {name: i for i, name in enumerate(classes)}
    of_device = np.array([column[hardware.hardware_class] for hardware in roster.unlike], dtype=np.intp)
    return Sorts(classes=classes, kinds=_kinds(roster.unlike, classes), place=of_device[roster.which])


def _kinds(unlike: Iterable[Hardware], classes: Sequence[str]) -> tuple[tuple[Hardware, ...], ...]:
    """One device of each sort that decides what can run, class by class."""
    found: dict[str, dict[tuple[object, ...], Hardware]] = {name: {} for name in classes}
    for hardware in unlike:
        found[hardware.hardware_class][fitness(hardware)] = hardware
    return tuple(tuple(sorts.values()) for sorts in found.values())


def fitness(hardware: Hardware) -> tuple[object, ...]:
    """All of a hardware that decides what it can run, within one class."""
    return hardware.compute_capability, hardware.gpu_memory_bytes, hardware.memory_bytes, hardware.labels


def _runs(fleet: Fleet, workers: WorkerTable) -> Runs:
    holdings, rows = workers.holdings, workers.holdings.runs
    row = {lane.profile.name: i for i, lane in enumerate(fleet.lanes)}
    known = np.array([row.get(name, -1) for name in holdings.profiles], dtype=np.intp)
    lane = known[rows["profile"]] if known.size else np.zeros(0, dtype=np.intp)
    worker, before = np.repeat(np.arange(len(workers)), holdings.ran.astype(np.intp)), rows["before"]
    sorts = sorts_of(workers.roster)
    place = sorts.place[worker]
    return Runs(
        workers=workers, worker=worker, lane=lane, place=place, pair=lane * len(sorts.classes) + place,
        first=np.ascontiguousarray(rows["first"]),
        size=np.ascontiguousarray(rows["size"]),
        started=np.ascontiguousarray(rows["started"]),
        checkpointed=np.ascontiguousarray(rows["checkpointed"]),
        done=np.ascontiguousarray(rows["done"]),
        before=np.where(np.isnan(before) & rows["first"], 0.0, before),
    )


@kept
def _speeds(roster: Roster, known: Mapping[str, str], learned: Mapping[str, float]) -> Floats:
    """Each worker's speed relative to its class (W,), as `estimate.speed_of` tells it: `learned` where its
    class is `known` to be what it is."""
    if not known:
        return np.ones(len(roster.names))
    return np.where(_as_known(roster, known), Speeds.of(learned).column(roster), 1.0)


@kept
def _as_known(roster: Roster, known: Mapping[str, str]) -> Flags:
    """Whether each worker's class is what it is `known` to be (W,); that changes only as workers come."""
    same = map(eq, map(known.get, roster.names), roster.class_names)
    return np.fromiter(same, dtype=np.bool_, count=len(roster.names))


@kept
def able(profiles: tuple[TaskProfile, ...], roster: Roster) -> Flags:
    """Which classes have a worker that can ever run which lane's profile: (lanes, classes)."""
    answers: dict[Needs, list[bool]] = {}
    sorts = sorts_of(roster)
    for profile in profiles:
        needs = profile.needs
        if needs not in answers:
            wanted = [(name, roster.unlike[roster.which[roster.places[name]]])
                      for name in needs.affinity if name in roster.places]
            answers[needs] = [
                any(can_run(kind, needs) for kind in kinds)
                or any(device.hardware_class == name and can_run(device, needs, worker=worker)
                       for worker, device in wanted)
                for name, kinds in zip(sorts.classes, sorts.kinds, strict=True)
            ]
    return np.array([answers[profile.needs] for profile in profiles], dtype=np.bool_).reshape(
        len(profiles), len(sorts.classes))
