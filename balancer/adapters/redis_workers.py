"""Who is in the fleet: descriptions, beats and holdings from Redis made into workers.

First part of `redis_store.observe`. Pure but for what it remembers: documents that did not
change are not parsed again, so that a look at ten thousand workers reads what is new. Whatever
cannot be read is set aside with its reason; the other workers are not touched by it. As long as the same
workers are there, the board alone is looked at (`redis_board`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Generic, TypeVar

import numpy as np

from balancer.adapters import beat, beat_rows
from balancer.adapters.asides import aside
from balancer.adapters.documents import Description, Holds, read_description, read_holds
from balancer.adapters.redis_board import Board, sound_board
from balancer.errors import StoreError
from balancer.model import Reading, SetAside, Worker
from balancer.model import table as who
from balancer.model.table import Holdings, Numbers, WorkerTable

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
    board: bytes | None = None
    places: Mapping[bytes, bytes] = field(default_factory=dict)

    @property
    def counts(self) -> tuple[int, ...]:
        """How many are described, report, and are listed as alive."""
        return len(self.descriptions), len(self.beats), len(self.alive)


@dataclass(frozen=True, slots=True, kw_only=True)
class Roster:
    """Workers whose report is fresh, names that fell silent since the last look, all names described,
    and (name, instance, description) of those that may be forgotten."""

    workers: Sequence[Worker]
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
        self._board: Board | None = None
        #: Those who spoke since then must be as many in `alive` as on the board (s).
        self.horizon = 0.0

    def glance(self, now: float, raw: bytes | None, counts: tuple[int, ...],
               read: Callable[[list[bytes]], Sequence[bytes | None]]) -> Roster | None:
        """The roster off the board `raw`, where who is there has not changed since the last whole look; else
        `None`. `counts` are `Reports.counts` and how many of `alive` spoke since `horizon`; `read` gets what
        the named workers hold.
        """
        board, since = self._board, self.horizon
        self.horizon = now - self._ttl_s
        rows = board.rows(raw, counts, since) if board else None
        if board is None or rows is None:
            return None
        age = now - rows["seen"]
        fresh = age <= self._ttl_s
        if (age >= FORGET_AFTER * self._ttl_s).any():
            return None
        board.hold(rows, fresh, lambda names: self._read_holds(names, read(names)))
        workers = board.table(rows, fresh)
        stale = [(board.names[i], board.described[i]) for i in np.flatnonzero(~fresh).tolist()]
        asides = [aside(f"beat of {_text(board.names[i])}", fault.reason, fault.detail)
                  for i, fault in sorted(board.faults.items())]
        asides += [aside(f"holds of {_text(board.names[i])}", *why)
                   for i, why in sorted(board.held.unreadable.items()) if fresh[i]]
        return Roster(workers=workers, silent=self._newly_silent(stale), described=board.described, gone=(),
                      set_aside=tuple(asides))

    def read(self, reports: Reports) -> Roster:
        """The roster at `reports.now`, from every table."""
        asides: list[SetAside] = []
        described = self._described(reports, asides)
        self.horizon = reports.now - self._ttl_s
        self._board = None if asides else self._sound_board(described, reports)
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
            silent=self._newly_silent(stale),
            described=tuple(described.values()),
            gone=self._gone(stale, described, reports),
            set_aside=tuple(asides),
        )

    def _sound_board(self, described: Mapping[bytes, Description], reports: Reports) -> Board | None:
        held = [self._holds.get(name, reports.holds[name]) if name in reports.holds else Holds()
                for name in described]
        tables: dict[str, Mapping[bytes, Any]] = {
            "descriptions": reports.descriptions, "beats": reports.beats, "holds": reports.holds,
            "alive": reports.alive}
        return sound_board(described, reports.board, reports.places, held, tables, reports.counts)

    def _read_holds(self, names: list[bytes],
                    raws: Sequence[bytes | None]) -> tuple[list[Holds | str], list[bytes]]:
        held = [Holds() if raw is None else self._holds.get(name, raw)
                for name, raw in zip(names, raws, strict=True)]
        return held, [raw or b"" for raw in raws]

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
                 asides: list[SetAside]) -> WorkerTable:
        """The fresh workers; "degraded" where part of a report is unreadable, so that nothing moves there."""
        blank = beat.pack(Reading(), busy=0, loop_ticks=0, at=0.0)
        rows, faults = beat_rows.unpack_many([reports.beats.get(name, blank) for name, _, _ in fresh])
        for i, fault in faults.items():
            asides.append(aside(f"beat of {_text(fresh[i][0])}", fault.reason, fault.detail))
        held = []
        for i, (name, _, _) in enumerate(fresh):
            holds = self._held(name, reports.holds.get(name), asides)
            broken = holds is None or (i in faults and faults[i].whole)
            held.append(replace(holds or Holds(), health="degraded") if broken else holds or Holds())
        numbers = Numbers(
            at=np.array([at for _, _, at in fresh], dtype=np.float64), busy=rows["busy"].astype(np.float64),
            loop_ticks=rows["loop_ticks"].copy(), readings=beat_rows.numbers(rows))
        return WorkerTable(who.Roster([d for _, d, _ in fresh]), Holdings.of(held), numbers)

    def _held(self, name: bytes, raw: bytes | None, asides: list[SetAside]) -> Holds | None:
        if raw is None:
            return Holds()
        holds = self._holds.get(name, raw)
        if isinstance(holds, str):
            asides.append(aside(f"holds of {_text(name)}", holds, raw))
            return None
        return holds

    def _newly_silent(self, stale: list[tuple[bytes, Description]]) -> tuple[str, ...]:
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


def _text(name: bytes) -> str:
    return name.decode("utf-8", "backslashreplace")
