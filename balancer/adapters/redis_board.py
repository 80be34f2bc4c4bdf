"""The board: a row of fixed size for each worker in one string, so that one GET shows the whole fleet.

`publish.lua` writes a worker's row with each beat, beside the hashes, which stay what is true. A look reads
the hashes when who is there has changed; from then on the board alone, and of what workers hold only the
documents whose digest on the board is new.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from balancer.adapters import beat, beat_rows
from balancer.adapters.documents import Description, Holds
from balancer.model.table import RUN, Holdings, Numbers, Roster, WorkerTable, run_rows

#: One row: the beat, the server's clock (s), the first half of the SHA-1 of both documents in hexadecimal.
ROW: Final = np.dtype([*beat_rows.DTYPE.descr, ("seen", "<f8"), ("holds", "S16"), ("description", "S16")])

#: Names of profiles that are kept at most; then all are forgotten and the fleet is read anew.
PROFILES_KEPT: Final = 50_000

Rows = np.ndarray[Any, np.dtype[Any]]


def digest(document: bytes) -> bytes:
    """What the board shows of a document."""
    return hashlib.sha1(document, usedforsecurity=False).hexdigest()[:16].encode()


def rows_of(raw: bytes | None) -> Rows:
    """The whole rows of a board; one whose rows were of another size has none that agree with the hashes."""
    whole = len(raw or b"") // ROW.itemsize
    return np.frombuffer(raw or b"", ROW, whole) if whole else np.zeros(0, ROW)


class HeldColumns:
    """What each worker holds, in columns that follow single changes. `unreadable` are reasons and
    documents by place."""

    def __init__(self, held: Sequence[Holds | str], raws: Sequence[bytes]) -> None:
        count = len(held)
        self.digests = np.zeros(count, dtype="S16")
        self.unreadable: dict[int, tuple[str, bytes]] = {}
        self.profiles: dict[str, int] = {}
        self._held: list[Holds] = [Holds()] * count
        self._counts = np.zeros((2, count))
        self._ok = np.zeros(count, dtype=np.bool_)
        self._runs = [b""] * count
        self.put(range(count), held, raws)

    def put(self, places: Sequence[int], held: Sequence[Holds | str], raws: Sequence[bytes]) -> None:
        """What the workers at `places` hold now, or why that cannot be read in the documents `raws`."""
        sound = []
        for place, holds, raw in zip(places, held, raws, strict=True):
            self.unreadable.pop(place, None)
            if isinstance(holds, str):
                self.unreadable[place] = holds, raw
                holds = Holds(health="degraded")
            self._held[place] = holds
            sound.append(holds)
        at = np.array(places, dtype=np.intp)
        self.digests[at] = [digest(raw) if raw else b"" for raw in raws]
        self._counts[:, at] = [len(h.running) for h in sound], [len(h.reserved) for h in sound]
        self._ok[at] = [h.health == "ok" for h in sound]
        rows = run_rows([task for h in sound for task in h.running], self.profiles).tobytes()
        end = 0
        for place, holds in zip(places, sound, strict=True):
            start, end = end, end + len(holds.running) * RUN.itemsize
            self._runs[place] = rows[start:end]

    def holdings(self, chosen: NDArray[np.bool_], degraded: Sequence[int] = ()) -> Holdings:
        """The columns of the `chosen` workers now; of those at `degraded` nothing else is sound."""
        held, ok = list(self._held), self._ok.copy()
        for place in degraded:
            held[place] = Holds(running=held[place].running, reserved=held[place].reserved, health="degraded")
            ok[place] = False
        runs, counts = self._runs, self._counts.copy()
        if not chosen.all():
            places = np.flatnonzero(chosen).tolist()
            held, runs = [held[i] for i in places], [runs[i] for i in places]
            counts, ok = counts[:, chosen], ok[chosen]
        return Holdings(held=held, ran=counts[0], reserved=counts[1], ok=ok,
                        runs=np.frombuffer(b"".join(runs), RUN), profiles=tuple(self.profiles))


class Board:
    """Reads a fleet off its board, as long as who is there stays as the last whole look found it."""

    def __init__(self, described: Mapping[bytes, Description], rows: Rows, places: NDArray[np.intp],
                 held: HeldColumns, counts: tuple[int, ...]) -> None:
        self.names = list(described)
        self.described = tuple(described.values())
        self.held = held
        self.faults: dict[int, beat_rows.Fault] = {}
        self._counts = counts
        self._places = places
        self._digests = rows["description"][places]
        self._roster = (np.ones(len(self.names), dtype=np.bool_), Roster(self.described))

    def rows(self, raw: bytes | None, counts: tuple[int, ...], since: float) -> Rows | None:
        """The workers' rows (W,); `None` where others are there, or not all of them are on the board. The
        last of `counts` is how many are known to have spoken `since`."""
        rows = rows_of(raw)
        if counts[:-1] != self._counts or (self._places.size and self._places.max() >= len(rows)):
            return None
        mine = rows.take(self._places)
        same = (mine["description"] == self._digests).all() and (mine["version"] == beat.VERSION).all()
        same = same and int((mine["seen"] >= since).sum()) == counts[-1]
        return mine if same and len(self.held.profiles) <= PROFILES_KEPT else None

    def hold(self, rows: Rows, fresh: NDArray[np.bool_],
             read: Callable[[list[bytes]], tuple[list[Holds | str], list[bytes]]]) -> None:
        """Read what those of the `fresh` workers hold of whom the board tells something new."""
        changed = np.flatnonzero(fresh & (rows["holds"] != self.held.digests)).tolist()
        if changed:
            self.held.put(changed, *read([self.names[i] for i in changed]))

    def table(self, rows: Rows, fresh: NDArray[np.bool_]) -> WorkerTable:
        """The `fresh` workers by these rows; `faults` then tells what of them is broken."""
        self.faults = {}
        beat_rows.clear_faults(rows, self.faults)
        for place in np.flatnonzero(~fresh).tolist():
            self.faults.pop(place, None)
        known, roster = self._roster
        if not np.array_equal(known, fresh):
            roster = Roster([self.described[i] for i in np.flatnonzero(fresh).tolist()])
            self._roster = (fresh, roster)
        degraded = [place for place, fault in self.faults.items() if fault.whole]
        theirs = rows if fresh.all() else rows[fresh]
        numbers = Numbers(at=theirs["seen"].copy(), busy=theirs["busy"].astype(np.float64),
                          loop_ticks=theirs["loop_ticks"].copy(), readings=beat_rows.numbers(theirs))
        return WorkerTable(roster, self.held.holdings(fresh, degraded), numbers)


def sound_board(described: Mapping[bytes, Description], raw: bytes | None, places: Mapping[bytes, bytes],
                held: Sequence[Holds | str], tables: Mapping[str, Mapping[bytes, Any]],
                counts: tuple[int, ...]) -> Board | None:
    """A board to go on from, when its rows say exactly what the hashes `tables` say of all workers."""
    rows, at = rows_of(raw), []
    for name in described:
        place = places.get(name, b"")
        if not place.isdigit() or int(place) >= len(rows):
            return None
        at.append(int(place))
    found = np.array(at, dtype=np.intp)
    mine = rows[found]
    whole = mine[list(beat_rows.DTYPE.names or ())].astype(beat_rows.DTYPE).tobytes()
    size = beat_rows.DTYPE.itemsize
    documents, beats, holds = tables["descriptions"], tables["beats"], tables["holds"]
    raws = [holds.get(name, b"") for name in described]
    alive = [tables["alive"].get(d.instance.encode(), -1.0) for d in described.values()]
    same = (
        all(beats.get(name) == whole[i * size:(i + 1) * size] for i, name in enumerate(described))
        and all(digest(documents[name]) == mine["description"][i] for i, name in enumerate(described))
        and mine["holds"].tolist() == [digest(raw) if raw else b"" for raw in raws]
        and mine["seen"].tolist() == alive
        and len(described) == len(documents) == len(beats)
    )
    return Board(described, rows, found, HeldColumns(held, raws), counts) if same else None
