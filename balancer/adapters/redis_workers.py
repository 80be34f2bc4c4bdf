"""Who is in the fleet: descriptions, beats and holdings from Redis made into workers.

First part of `redis_store.observe`. Pure but for what it remembers: documents that did not
change are not parsed again, so that a look at ten thousand workers reads what is new. Whatever
cannot be read is set aside with its reason; the other workers are not touched by it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from balancer.adapters import beat, beat_rows
from balancer.adapters.asides import aside
from balancer.adapters.documents import Description, Holds, read_description, read_holds
from balancer.errors import StoreError
from balancer.model import Reading, SetAside, Worker

T = TypeVar("T")

#: A worker is forgotten after this many times its age limit.
FORGET_AFTER: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Reports:
    """What the keys of the workers held at `now` (server clock, s)."""

    now: float
    alive: Mapping[bytes, float]
    descriptions: Mapping[bytes, bytes]
    beats: Mapping[bytes, bytes]
    holds: Mapping[bytes, bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Roster:
    """Workers whose report is fresh, names that fell silent since the last look, all names described,
    and (name, instance, description) of those that may be forgotten."""

    workers: tuple[Worker, ...]
    silent: tuple[str, ...]
    described: tuple[Description, ...]
    gone: tuple[tuple[bytes, bytes, bytes], ...]
    set_aside: tuple[SetAside, ...]


class DocumentCache(Generic[T]):
    """Reads documents by key, again only when their bytes changed. A reason in place of the unreadable."""

    def __init__(self, read: Callable[[bytes], T]) -> None:
        self._read = read
        self._kept: dict[bytes, tuple[bytes, T | str]] = {}

    def get(self, key: bytes, raw: bytes) -> T | str:
        kept = self._kept.get(key)
        if kept is not None and kept[0] == raw:
            return kept[1]
        value: T | str
        try:
            value = self._read(raw)
        except StoreError as error:
            value = str(error)
        self._kept[key] = (raw, value)
        return value

    def prune(self, keys: Iterable[bytes]) -> None:
        """Forget what is not among `keys` any more."""
        present = set(keys)
        if len(self._kept) > len(present):
            self._kept = {key: kept for key, kept in self._kept.items() if key in present}


class WorkerRegister:
    """The workers of a fleet from look to look. `ttl_s` is the age limit of a report."""

    def __init__(self, ttl_s: float) -> None:
        self._ttl_s = ttl_s
        self._descriptions = DocumentCache(read_description)
        self._holds = DocumentCache(read_holds)
        self._named_silent: set[str] = set()
        self._never_heard: dict[bytes, float] = {}

    def read(self, reports: Reports) -> Roster:
        """The roster at `reports.now`."""
        asides: list[SetAside] = []
        described = self._described(reports, asides)
        fresh: list[tuple[bytes, Description, float]] = []
        stale: list[tuple[bytes, Description]] = []
        for name, description in described.items():
            at = reports.alive.get(description.instance.encode())
            if at is not None and reports.now - at <= self._ttl_s:
                fresh.append((name, description, at))
            else:
                stale.append((name, description))
        workers = self._workers(fresh, reports, asides)
        return Roster(
            workers=workers,
            silent=self._newly_silent(fresh, stale),
            described=tuple(described.values()),
            gone=self._gone(stale, described, reports),
            set_aside=tuple(asides),
        )

    def _described(self, reports: Reports, asides: list[SetAside]) -> dict[bytes, Description]:
        described: dict[bytes, Description] = {}
        for name, raw in sorted(reports.descriptions.items()):
            description = self._descriptions.get(name, raw)
            if isinstance(description, str):
                asides.append(aside(f"worker {_text(name)}", description, raw))
            elif description.name.encode() != name:
                asides.append(aside(f"worker {_text(name)}", "described under another name", raw))
            else:
                described[name] = description
        for name in reports.beats.keys() - reports.descriptions.keys():
            asides.append(aside(f"beat of {_text(name)}", "it reports, and nothing describes it"))
        self._descriptions.prune(reports.descriptions)
        self._holds.prune(reports.holds)
        return described

    def _workers(self, fresh: list[tuple[bytes, Description, float]], reports: Reports,
                 asides: list[SetAside]) -> tuple[Worker, ...]:
        blank = beat.pack(Reading(), busy=0, loop_ticks=0, at=0.0)
        rows, faults = beat_rows.unpack_many([reports.beats.get(name, blank) for name, _, _ in fresh])
        for i, fault in faults.items():
            asides.append(aside(f"beat of {_text(fresh[i][0])}", fault.reason, fault.detail))
        busy, ticks = rows["busy"].tolist(), rows["loop_ticks"].tolist()
        readings = beat_rows.readings(rows)
        workers = []
        for i, (name, description, at) in enumerate(fresh):
            unreadable = i in faults and faults[i].whole
            holds = self._held(name, reports.holds.get(name), asides)
            workers.append(_worker(description, at, readings[i], busy[i], ticks[i], holds, unreadable))
        return tuple(workers)

    def _held(self, name: bytes, raw: bytes | None, asides: list[SetAside]) -> Holds | None:
        if raw is None:
            return Holds()
        holds = self._holds.get(name, raw)
        if isinstance(holds, str):
            asides.append(aside(f"holds of {_text(name)}", holds, raw))
            return None
        return holds

    def _newly_silent(self, fresh: list[tuple[bytes, Description, float]],
                      stale: list[tuple[bytes, Description]]) -> tuple[str, ...]:
        names = {description.name for _, description in stale}
        silent = tuple(sorted(names - self._named_silent))
        self._named_silent = names
        return silent

    def _gone(self, stale: list[tuple[bytes, Description]], described: Mapping[bytes, Description],
              reports: Reports) -> tuple[tuple[bytes, bytes, bytes], ...]:
        """Those silent for `FORGET_AFTER` age limits, and old instances of workers that came back."""
        limit = reports.now - FORGET_AFTER * self._ttl_s
        never: dict[bytes, float] = {}
        gone = []
        for name, description in stale:
            instance = description.instance.encode()
            at = reports.alive.get(instance)
            if at is None:
                at = never[name] = self._never_heard.get(name, reports.now)
            if at <= limit:
                gone.append((name, instance, reports.descriptions[name]))
        self._never_heard = never
        known = {description.instance.encode() for description in described.values()}
        gone += [(b"", instance, b"") for instance, at in reports.alive.items()
                 if at <= limit and instance not in known]
        return tuple(gone)


def _worker(description: Description, at: float, reading: Reading, busy: int, ticks: int,
            holds: Holds | None, unreadable: bool) -> Worker:
    """A worker; "degraded" where part of its report is unreadable, so that nothing is moved to it."""
    held = holds or Holds()
    return Worker(
        name=description.name, instance=description.instance, hardware=description.hardware,
        slots=description.slots, at=at, reading=reading, running=held.running, reserved=held.reserved,
        busy=busy, health="degraded" if unreadable or holds is None else held.health, loop_ticks=ticks,
        pool=description.pool, queues=description.queues,
    )


def _text(name: bytes) -> str:
    return name.decode("utf-8", "backslashreplace")
