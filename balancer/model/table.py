"""The workers of a fleet as columns: a `Worker` is made only where somebody looks at one.

Between the store, which fills columns from packed heartbeats, and `decide.columns`, which reads them:
ten thousand workers are some arrays and not ten thousand objects. Reads as a sequence of workers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from itertools import chain
from typing import Any, Final, Protocol, overload

import numpy as np
from numpy.typing import NDArray

from balancer.model.fleet import Fleet
from balancer.model.hardware import Hardware
from balancer.model.task import HeldTask
from balancer.model.worker import Reading, Worker

Floats = NDArray[np.float64]
Places = NDArray[np.intp]
Flags = NDArray[np.bool_]
Rows = np.ndarray[Any, np.dtype[Any]]

#: The numbers of a reading: the columns of `Numbers.readings`, in order.
READING_FIELDS: Final = tuple(f.name for f in fields(Reading))

#: One running task: the place of its profile's name, whether this is its first epoch, and its numbers as in
#: `HeldTask`, NaN where it is not told.
RUN: Final = np.dtype([
    ("profile", "<i4"), ("first", "?"), ("size", "<f8"), ("started", "<f8"), ("checkpointed", "<f8"),
    ("done", "<f8"), ("before", "<f8"),
])


class Described(Protocol):
    """What does not change of a worker from beat to beat."""

    @property
    def name(self) -> str: ...
    @property
    def instance(self) -> str: ...
    @property
    def hardware(self) -> Hardware: ...
    @property
    def slots(self) -> int: ...
    @property
    def pool(self) -> str: ...
    @property
    def queues(self) -> tuple[str, ...]: ...


class Holding(Protocol):
    """What a worker holds, and how it is."""

    @property
    def running(self) -> tuple[HeldTask, ...]: ...
    @property
    def reserved(self) -> tuple[HeldTask, ...]: ...
    @property
    def health(self) -> str: ...


class Roster:
    """Who is there, in order. `unlike` are the devices of the fleet, each once, and `which` (W,) tells each
    worker's; `slots` (W,)."""

    def __init__(self, described: Sequence[Described]) -> None:
        self.described = described
        self.names = tuple(d.name for d in described)
        place: dict[Hardware, int] = {}
        which = [place.setdefault(d.hardware, len(place)) for d in described]
        self.unlike = tuple(place)
        self.which = np.array(which, dtype=np.intp)
        self.slots = np.array([d.slots for d in described], dtype=np.float64)

    @cached_property
    def places(self) -> Mapping[str, int]:
        """The place of each worker by name; of two of one name the first."""
        return {name: i for i, name in reversed(list(enumerate(self.names)))}

    @cached_property
    def labels(self) -> NDArray[np.object_]:
        """The names as a column (W,): many are picked at once."""
        return np.array(self.names, dtype=np.object_)

    @cached_property
    def ranks(self) -> Places:
        """Where each worker's name comes among all of them in the order of names (W,)."""
        by_name = np.array(sorted(range(len(self.names)), key=self.names.__getitem__), dtype=np.intp)
        ranks = np.empty_like(by_name)
        ranks[by_name] = np.arange(by_name.size)
        return ranks

    @cached_property
    def class_names(self) -> list[str]:
        """Each worker's hardware class."""
        names = [hardware.hardware_class for hardware in self.unlike]
        return [names[i] for i in self.which.tolist()]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Holdings:
    """What each worker holds: `held` as records, and as columns how many run and are reserved, who is "ok"
    (W,), and what runs, worker by worker (rows of `RUN`), whose profiles are places in `profiles`."""

    held: Sequence[Holding]
    ran: Floats
    reserved: Floats
    ok: Flags
    runs: Rows
    profiles: Sequence[str]

    @classmethod
    def of(cls, held: Sequence[Holding]) -> Holdings:
        """The columns of these records."""
        profiles: dict[str, int] = {}
        return cls(
            held=held,
            ran=np.array([len(h.running) for h in held], dtype=np.float64),
            reserved=np.array([len(h.reserved) for h in held], dtype=np.float64),
            ok=np.array([h.health == "ok" for h in held], dtype=np.bool_),
            runs=run_rows([task for h in held for task in h.running], profiles),
            profiles=tuple(profiles),
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Numbers:
    """The last beats (W,): when they came, slots in use, turns of the event loop, and `readings`
    (W, fields of `Reading`, column by column), NaN where one is unknown."""

    at: Floats
    busy: Floats
    loop_ticks: NDArray[np.uint64]
    readings: Floats

    def reading(self, place: int) -> Reading:
        values = zip(READING_FIELDS, self.readings[place].tolist(), strict=True)
        return Reading(**{name: value for name, value in values if value == value})


class WorkerTable(Sequence[Worker]):
    """Workers in columns. Equal to any sequence of the same workers."""

    __slots__ = ("_made", "_tasks", "holdings", "numbers", "roster")

    def __init__(self, roster: Roster, holdings: Holdings, numbers: Numbers,
                 made: Mapping[int, Worker] | None = None) -> None:
        self.roster = roster
        self.holdings = holdings
        self.numbers = numbers
        self._made = dict(made or {})
        self._tasks: Sequence[HeldTask] | None = None

    @classmethod
    def of(cls, workers: Sequence[Worker]) -> WorkerTable:
        """Any workers as columns."""
        if isinstance(workers, cls):
            return workers
        workers = tuple(workers)
        numbers = Numbers(
            at=np.array([w.at for w in workers], dtype=np.float64),
            busy=np.array([w.busy for w in workers], dtype=np.float64),
            loop_ticks=np.array([w.loop_ticks for w in workers], dtype=np.uint64),
            readings=np.array([[getattr(w.reading, name) for w in workers] for name in READING_FIELDS],
                              dtype=np.float64).reshape(len(READING_FIELDS), len(workers)).T,
        )
        return cls(Roster(workers), Holdings.of(workers), numbers, dict(enumerate(workers)))

    @property
    def tasks(self) -> Sequence[HeldTask]:
        """Everything that runs, in the order of `holdings.runs`."""
        if self._tasks is None:
            self._tasks = list(chain.from_iterable(held.running for held in self.holdings.held))
        return self._tasks

    def named(self, name: str) -> Worker | None:
        """The worker of this name."""
        place = self.roster.places.get(name)
        return None if place is None else self[place]

    def with_readings(self, told: Mapping[str, Mapping[str, float | None]]) -> WorkerTable:
        """The same workers, with these values by worker's name over their own readings."""
        readings = self.numbers.readings.copy(order="K")
        for name in told.keys() & self.roster.places.keys():
            for field, value in told[name].items():
                place = READING_FIELDS.index(field)
                readings[self.roster.places[name], place] = np.nan if value is None else value
        numbers = Numbers(at=self.numbers.at, busy=self.numbers.busy, loop_ticks=self.numbers.loop_ticks,
                          readings=readings)
        return WorkerTable(self.roster, self.holdings, numbers)

    def __len__(self) -> int:
        return len(self.roster.names)

    @overload
    def __getitem__(self, place: int) -> Worker: ...
    @overload
    def __getitem__(self, place: slice) -> tuple[Worker, ...]: ...
    def __getitem__(self, place: int | slice) -> Worker | tuple[Worker, ...]:
        if isinstance(place, slice):
            return tuple(self[i] for i in range(*place.indices(len(self))))
        if place < 0:
            place += len(self)
        if place not in self._made:
            self._made[place] = self._make(place)
        return self._made[place]

    def __iter__(self) -> Iterator[Worker]:
        return (self[i] for i in range(len(self)))

    def __eq__(self, other: object) -> bool:
        if isinstance(other, WorkerTable) or (isinstance(other, Sequence) and not isinstance(other, str)):
            return self is other or tuple(self) == tuple(other)
        return NotImplemented

    def __hash__(self) -> int:
        return hash(self.roster.names)

    def __repr__(self) -> str:
        return f"WorkerTable({list(self)!r})"

    def _make(self, place: int) -> Worker:
        described, held, numbers = self.roster.described[place], self.holdings.held[place], self.numbers
        return Worker(
            name=described.name, instance=described.instance, hardware=described.hardware,
            slots=described.slots, at=float(numbers.at[place]), reading=numbers.reading(place),
            running=held.running, reserved=held.reserved, busy=int(numbers.busy[place]), health=held.health,
            loop_ticks=int(numbers.loop_ticks[place]), pool=described.pool, queues=described.queues,
        )


def in_columns(fleet: Fleet) -> Fleet:
    """The same fleet with its workers in columns."""
    return fleet if isinstance(fleet.workers, WorkerTable) else replace(
        fleet, workers=WorkerTable.of(fleet.workers))


def run_rows(tasks: Sequence[HeldTask], profiles: dict[str, int]) -> Rows:
    """Running tasks as rows of `RUN`; names of profiles that are new get the next place in `profiles`."""
    rows = np.zeros(len(tasks), RUN)
    for name, values in (
        ("profile", [profiles.setdefault(task.profile, len(profiles)) for task in tasks]),
        ("first", [task.epoch == 0 for task in tasks]),
        ("size", [task.size for task in tasks]),
        ("started", [task.started_at for task in tasks]),
        ("checkpointed", [task.checkpointed_at for task in tasks]),
        ("done", [task.share_done for task in tasks]),
        ("before", [task.share_before for task in tasks]),
    ):
        rows[name] = np.array(values, dtype=RUN[name])
    return rows
