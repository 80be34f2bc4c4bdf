"""Rows of the ledger in columns: a row is made only where somebody looks at one.

Made by `ledger_rows` of what there is one of for each worker; written by the ledger column by column.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, overload

Row = dict[str, Any]


class Batch(Sequence[Row]):
    """`count` rows. `make` tells their values by column, all columns as long; called once, if at all."""

    def __init__(self, count: int, make: Callable[[], Mapping[str, Sequence[Any]]]) -> None:
        self._count = count
        self._make = make

    @cached_property
    def columns(self) -> Mapping[str, Sequence[Any]]:
        """The values by column, `None` where there is none."""
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
        return {name: values[row] for name, values in self.columns.items()}
