"""Rows that wait to be written to the ledger, oldest first: rows one by one as tuples, batches in columns.

Filled by `duckdb_ledger` with what `ledger_columns` made fit; emptied by it, by table.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np

from balancer.adapters.ledger_columns import Columns, Table, in_columns


@dataclass(slots=True)
class _Part:
    """Rows of one table that came together: tuples, or columns."""

    table: Table
    rows: list[tuple[Any, ...]] | Columns
    count: int

    def forget(self, count: int) -> None:
        """Drop the first rows."""
        rows = self.rows
        self.rows = rows[count:] if isinstance(rows, list) else {name: v[count:] for name, v in rows.items()}
        self.count -= count


class Waiting:
    """The queue. Its length is the number of rows."""

    def __init__(self) -> None:
        self._parts: deque[_Part] = deque()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, table: Table, row: tuple[Any, ...]) -> None:
        """One row of `ledger_columns.fit`."""
        last = self._parts[-1] if self._parts else None
        if last is None or last.table is not table or not isinstance(last.rows, list):
            last = _Part(table, [], 0)
            self._parts.append(last)
        assert isinstance(last.rows, list)
        last.rows.append(row)
        last.count += 1
        self._count += 1

    def add_batch(self, table: Table, columns: Columns, count: int) -> None:
        """`count` rows of `ledger_columns.fit_batch`."""
        self._parts.append(_Part(table, columns, count))
        self._count += count

    def forget(self, count: int) -> None:
        """Drop the oldest rows."""
        self._count -= count
        while count >= self._parts[0].count:
            count -= self._parts.popleft().count
            if not self._parts:
                return
        self._parts[0].forget(count)

    def clear(self) -> None:
        """Drop all rows."""
        self._parts.clear()
        self._count = 0

    def by_table(self) -> list[tuple[Table, Columns]]:
        """All rows in columns, in order; of rows with the same key of their table the last alone."""
        parts: dict[str, list[_Part]] = {}
        for part in self._parts:
            parts.setdefault(part.table.name, []).append(part)
        return [(those[0].table, _joined(those)) for those in parts.values()]


def _joined(parts: Sequence[_Part]) -> Columns:
    table, found = parts[0].table, list[Columns]()
    for plain, some in groupby(parts, lambda part: isinstance(part.rows, list)):
        if plain:
            found.append(in_columns(table, [row for part in some for row in part.rows]))  # type: ignore[misc]
        else:
            found += [part.rows for part in some if not isinstance(part.rows, list)]
    if len(found) == 1:
        return found[0] if not isinstance(parts[0].rows, list) else _last_of_each(table, found[0])
    columns = {name: np.concatenate([one[name] for one in found]) for name in table.columns}
    return _last_of_each(table, columns)


def _last_of_each(table: Table, columns: Columns) -> Columns:
    """The rows without those that a later one with the same key replaces."""
    if not table.key:
        return columns
    keys = list(zip(*(columns[name].tolist() for name in table.key), strict=True))
    last: Mapping[Any, int] = {key: place for place, key in enumerate(keys)}
    if len(last) == len(keys):
        return columns
    rows = np.array(sorted(last.values()), dtype=np.intp)
    return {name: values[rows] for name, values in columns.items()}
