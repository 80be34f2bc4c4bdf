"""The workers of a fleet as columns: one walk over them, shared by every step of a turn that looks at each.

A formula over ten thousand workers is then one of numpy. Made by `engine` once a turn and carried by the
`Situation`; `slots`, `order`, `progress`, `rescue` and `stranded` read it. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from balancer.decide.estimate import Estimates
from balancer.model import Fleet, Hardware, HeldTask, Needs
from balancer.routing import HOT_CELSIUS, can_run

Floats = NDArray[np.float64]
Places = NDArray[np.intp]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Runs:
    """Running tasks (R,), worker by worker: `worker` is the place of theirs in the fleet, `lane` the row of
    their profile's lane (−1: there is none).

    Times (s), `size` and shares as in `HeldTask`; what is not told is NaN. A task whose earlier runs are not
    told of has `before` 0 in its first epoch, else NaN.
    """

    tasks: Sequence[HeldTask]
    worker: Places
    lane: Places
    size: Floats
    started: Floats
    checkpointed: Floats
    done: Floats
    before: Floats


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
    """The fleet's workers, walked once, with their speeds by `estimates`."""
    workers = fleet.workers
    unlike = {id(w.hardware): w.hardware for w in workers}
    classes = tuple(sorted({hardware.hardware_class for hardware in unlike.values()}))
    kinds = _kinds(unlike.values(), classes)
    column = {name: i for i, name in enumerate(classes)}
    place_of = {key: column[hardware.hardware_class] for key, hardware in unlike.items()}
    slots = np.array([w.slots for w in workers], dtype=np.float64)
    ran = np.array([len(w.running) for w in workers], dtype=np.float64)
    busy = np.maximum(ran, np.array([w.busy for w in workers], dtype=np.float64))
    told = (np.minimum(slots, busy) <= ran) & (ran <= slots)
    return Columns(
        classes=classes,
        kinds=kinds,
        able=_able(fleet, classes, kinds),
        place=np.array([place_of[id(w.hardware)] for w in workers], dtype=np.intp),
        speed=_speeds(fleet, estimates),
        slots=slots,
        busy=busy,
        ok=np.array([w.health == "ok" for w in workers], dtype=np.bool_),
        hot=_floats([w.reading.temperature_celsius for w in workers]) >= HOT_CELSIUS,
        plain=told & np.array([not w.reserved for w in workers], dtype=np.bool_),
        runs=_runs(fleet, ran),
    )


def _kinds(unlike: Iterable[Hardware], classes: Sequence[str]) -> tuple[tuple[Hardware, ...], ...]:
    """One device of each sort that decides what can run, class by class."""
    found: dict[str, dict[tuple[object, ...], Hardware]] = {name: {} for name in classes}
    for hardware in unlike:
        found[hardware.hardware_class][fitness(hardware)] = hardware
    return tuple(tuple(sorts.values()) for sorts in found.values())


def fitness(hardware: Hardware) -> tuple[object, ...]:
    """All of a hardware that decides what it can run, within one class."""
    return hardware.compute_capability, hardware.gpu_memory_bytes, hardware.memory_bytes, hardware.labels


def _runs(fleet: Fleet, ran: Floats) -> Runs:
    tasks = [held for worker in fleet.workers for held in worker.running]
    rows = {lane.profile.name: row for row, lane in enumerate(fleet.lanes)}
    before = _floats([held.share_before for held in tasks])
    first = np.array([held.epoch == 0 for held in tasks], dtype=np.bool_)
    return Runs(
        tasks=tasks,
        worker=np.repeat(np.arange(len(fleet.workers)), ran.astype(np.intp)),
        lane=np.array([rows.get(held.profile, -1) for held in tasks], dtype=np.intp),
        size=_floats([held.size for held in tasks]),
        started=_floats([held.started_at for held in tasks]),
        checkpointed=_floats([held.checkpointed_at for held in tasks]),
        done=_floats([held.share_done for held in tasks]),
        before=np.where(np.isnan(before) & first, 0.0, before),
    )


def _floats(values: Sequence[float | None]) -> Floats:
    """Numbers, NaN where there is none (numpy reads `None` as that)."""
    return np.array(values, dtype=np.float64)


def _speeds(fleet: Fleet, estimates: Estimates) -> Floats:
    """Each worker's speed relative to its class (W,), as `estimate.speed_of` tells it."""
    known, learned = estimates.worker_class, estimates.worker_speed
    if not known:
        return np.ones(len(fleet.workers))
    return np.array([
        learned.get(w.name, 1.0) if known.get(w.name) == w.hardware.hardware_class else 1.0
        for w in fleet.workers
    ], dtype=np.float64)


def _able(fleet: Fleet, classes: Sequence[str], kinds: Sequence[Sequence[Hardware]]) -> Flags:
    """Which classes have a worker that can ever run which lane: (lanes, classes)."""
    named = {w.name: w for w in fleet.workers} if any(n.profile.needs.affinity for n in fleet.lanes) else {}
    answers: dict[Needs, list[bool]] = {}
    for lane in fleet.lanes:
        needs = lane.profile.needs
        if needs not in answers:
            wanted = [named[name] for name in needs.affinity if name in named]
            answers[needs] = [
                any(can_run(kind, needs) for kind in sorts)
                or any(w.hardware.hardware_class == name and can_run(w.hardware, needs, worker=w.name)
                       for w in wanted)
                for name, sorts in zip(classes, kinds, strict=True)
            ]
    return np.array([answers[n.profile.needs] for n in fleet.lanes], dtype=np.bool_).reshape(
        len(fleet.lanes), len(classes))
