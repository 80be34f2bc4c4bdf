"""What is known of each worker's speed, by name and, without looking each name up again, as a column.

Ten thousand workers are asked for at every turn, and a few hundred of them have changed: what a batch of runs
changes is changed in the column, too. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from balancer.model.table import Roster

Floats = NDArray[np.float64]


class Speeds(Mapping[str, float]):
    """Speeds by worker, in the order in which they were learned; never changed. The column of the roster that
    was asked for last is kept, and handed on to what is learned next."""

    __slots__ = ("_column", "_roster", "_values")

    def __init__(self, values: Mapping[str, float]) -> None:
        self._values = values if isinstance(values, dict) else dict(values)
        self._roster: Roster | None = None
        self._column = np.empty(0)

    @classmethod
    def of(cls, values: Mapping[str, float]) -> Speeds:
        """Any speeds by name."""
        return values if isinstance(values, cls) else cls(values)

    def copy(self) -> dict[str, float]:
        """The same as a dict that may be changed."""
        return self._values.copy()

    def column(self, roster: Roster) -> Floats:
        """The speed of each worker of a roster (W,); 1 where none is known."""
        if self._roster is not roster:
            found = map(self._values.get, roster.names)
            speeds = np.array([1.0 if speed is None else speed for speed in found], dtype=np.float64)
            self._roster, self._column = roster, speeds
        return self._column

    def then(self, values: dict[str, float], changed: Iterable[str]) -> Speeds:
        """The speeds `values`, which differ from these at those that have `changed`."""
        after = Speeds(values)
        if self._roster is not None:
            after._roster, after._column = self._roster, self._column.copy()
            places = self._roster.places
            there = [(places[name], values.get(name, 1.0)) for name in changed if name in places]
            for place, speed in there:
                after._column[place] = speed
        return after

    def __getitem__(self, name: str) -> float:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)
