"""The loads of many subjects at the same times: one matrix that reads as a mapping of their values.

Kept in the memory (`Memory.worker_loads`), made longer by `engine.observe`, looked at by `forecast`. Ten
thousand workers a tick are one array to append to, and one for every formula. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import compress

import numpy as np
from numpy.typing import NDArray

from balancer.decide.load import Utilisations

Floats = NDArray[np.float64]


class Series(Mapping[str, tuple[float | None, ...]]):
    """Values by subject; `table` (subjects, times) holds NaN where a subject was not seen. Never changed.

    `columns` (subjects,) are those of the table by time, the same arrays as long as the subjects stay: what
    is written of them (`packed`) is then made once.
    """

    __slots__ = ("_columns", "_place", "names", "table")

    def __init__(self, names: Sequence[str], table: Floats, columns: Sequence[Floats] | None = None) -> None:
        self.names = tuple(names)
        self.table = table
        self._columns = columns
        self._place: dict[str, int] | None = None

    @classmethod
    def of(cls, values: Mapping[str, Sequence[float | None]], length: int) -> Series:
        """Any mapping of as many values a subject as `length`, as one matrix (numpy reads `None` as NaN)."""
        if isinstance(values, cls):
            return values
        table = np.array(list(values.values()), dtype=np.float64).reshape(len(values), length)
        return cls(tuple(values), table)

    @property
    def columns(self) -> Sequence[Floats]:
        """The table's columns, each an array of its own."""
        if self._columns is None:
            self._columns = tuple(column.copy() for column in self.table.T)
        return self._columns

    def at(self, places: Sequence[int]) -> Series:
        """The values at `places`, of the subjects that were seen then."""
        return _ever_seen(self.names, self._table(places))

    def then(self, places: Sequence[int], latest: Mapping[str, float]) -> Series:
        """The values at `places` and after them `latest`, of the subjects that were seen then."""
        loads = Utilisations.of(latest)
        if loads.names == self.names:
            columns = [*(self.columns[place] for place in places), loads.shares]
            return _ever_seen(self.names, _longer(self._table(places), loads.shares), columns)
        column = np.array([loads.get(name, np.nan) for name in self.names], dtype=np.float64)
        names, table = self.names, _longer(self._table(places), column)
        if np.isfinite(column).sum() < len(loads):
            new = tuple(name for name in loads if name not in self)
            fresh = np.full((len(new), table.shape[1]), np.nan)
            fresh[:, -1] = [loads[name] for name in new]
            names, table = (*names, *new), np.concatenate([table, fresh])
        return _ever_seen(names, table)

    def _table(self, places: Sequence[int]) -> Floats:
        """The values at `places`; most often those are a run of neighbours, and nothing is copied."""
        if places and places[-1] - places[0] == len(places) - 1:
            return self.table[:, places[0]:places[-1] + 1]
        return self.table[:, list(places)]

    def rows(self) -> list[list[float | None]]:
        """Plain lists, in the order of `names`."""
        plain = self.table.astype(object)
        plain[~np.isfinite(self.table)] = None
        rows: list[list[float | None]] = plain.tolist()
        return rows

    def __getitem__(self, name: str) -> tuple[float | None, ...]:
        values = self.table[self._places()[name]]
        return tuple(None if v != v else v for v in values.tolist())

    def __contains__(self, name: object) -> bool:
        return name in self._places()

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)

    def _places(self) -> dict[str, int]:
        if self._place is None:
            self._place = {name: i for i, name in enumerate(self.names)}
        return self._place


def _longer(table: Floats, column: Floats) -> Floats:
    """The table with one more column; columns lie one after the other, as they are looked at and dropped."""
    longer = np.empty((len(table), table.shape[1] + 1), order="F")
    longer[:, :-1], longer[:, -1] = table, column
    return longer


def _ever_seen(names: Sequence[str], table: Floats, columns: Sequence[Floats] | None = None) -> Series:
    seen = np.isfinite(table[:, -1]) if table.shape[1] else np.zeros(len(table), dtype=np.bool_)
    if not seen.all():
        seen[~seen] = np.isfinite(table[~seen]).any(axis=1)
    if seen.all():
        return Series(names, table, columns)
    return Series(list(compress(names, seen.tolist())), table[seen])
