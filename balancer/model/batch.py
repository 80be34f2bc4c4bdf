"""Rows of the ledger in columns: a row is made only where somebody looks at one.

Made by `ledger_rows` of what there is one of for each worker; written by the ledger column by column.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

Row = dict[str, Any]

#: The values of a column: a sequence, `None` where there is none, or an array, in which a
#: number that is not finite is none.
Column = Sequence[Any] | NDArray[Any]


class Batch(Sequence[Row]):
    """`count` rows. `make` tells their values by column, all columns as long; called once, if at all. No two
    rows have the same key of their table."""

    def __init__(self, count: int, make: Callable[[], Mapping[str, Column]]) -> None:
        self._count = count
        self._make = make

    @cached_property
    def columns(self) -> Mapping[str, Column]:
        """The values by column."""
        return self._make()

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, row: int) -> Row: ...
    @overload
    def __getitem__(self, row: slice) -> list[Row]: ...
    def __getitem__(self, row: int | slice) -> Row | list[Row]:
        if isinstance(row, slice):
            return [self[i] for i in range(*row.indices(len(self)))]
        if not -self._count <= row < self._count:
            raise IndexError(row)
        return {name: _plain(values[row]) for name, values in self.columns.items()}


def _plain(value: Any) -> Any:
    """A value of an array as plain Python; any other as it is."""
    if not isinstance(value, np.generic):
        return value
    plain = value.item()
    return None if isinstance(plain, float) and not math.isfinite(plain) else plain
