"""Which rows of the ledger are too old, and their end: `balancer_ledger_days`.

DuckDB gives the space of a row group back once all its rows are gone, at the commit of the deletion;
later rows fill it. Rows come in the order of their times, so the oldest lie in the same groups.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Final

import duckdb
import numpy as np

from balancer.adapters.ledger_columns import Columns, Table

#: The tables whose old rows go, each with the time that its rows are as old as. The seed's table stays whole:
#: it has one row a tick, and DuckDB never frees the groups of a table with a primary key.
AGED: Final[Mapping[str, str]] = {
    "worker_samples": "timestamp", "decisions": "timestamp", "moves": "decided_at", "forecasts": "due_at",
    "runs": "ended_at"}

#: The table with a row for each whole tick, by which the ledger's time goes.
_TICKS: Final = "load_balancer_metrics"

_DAY_US: Final = 86_400_000_000

#: Microseconds of the ledger's time between two deletions; and how much of it goes at most at a time, so that
#: a long ledger whose days were cut does not hold a tick up.
EVERY_US: Final = 3_600_000_000
STEP_US: Final = _DAY_US


class Retention:
    """Deletes what is older than `days` (0: nothing) at the first whole tick, then once an hour of ticks; at
    every whole tick while more is too old than goes at a time."""

    def __init__(self, days: float, log: logging.Logger) -> None:
        self._keep_us = round(days * _DAY_US)
        self._log = log
        self._last_us: int | None = None
        self._trouble = ""

    def apply(self, connection: duckdb.DuckDBPyConnection, rows: Iterable[tuple[Table, Columns]]) -> None:
        """Delete if it is time after `rows` were written and committed. What fails is logged, once, and tried
        again when it is time again: the rows are safe already."""
        now = _tick_us(rows)
        if not self._keep_us or now is None or not self._due(now):
            return
        self._last_us = now
        try:
            if _delete(connection, now - self._keep_us):
                self._last_us = None
            self._trouble = ""
        except duckdb.Error as error:
            reason = str(error).split("\n", 1)[0][:300]
            if reason != self._trouble:
                self._trouble = reason
                self._log.warning("rows of the ledger that are too old cannot be deleted: %s", reason)

    def _due(self, now: int) -> bool:
        """Also where the clock was set back."""
        return self._last_us is None or abs(now - self._last_us) >= EVERY_US


def _tick_us(rows: Iterable[tuple[Table, Columns]]) -> int | None:
    """The latest whole tick of the rows in microseconds since the epoch; `None` where they have none."""
    ticks = [columns["timestamp"] for table, columns in rows if table.name == _TICKS]
    known = [times[~np.isnat(times)] for times in ticks]
    return max((int(times.max().astype(np.int64)) for times in known if len(times)), default=None)


def _delete(connection: duckdb.DuckDBPyConnection, before_us: int) -> bool:
    """Delete the oldest rows before a time; whether more are left."""
    more = False
    connection.begin()
    for table, column in AGED.items():
        # Bounds on the time let DuckDB pass over whole row groups; a plain min() reads the column to its end.
        old = connection.execute(
            f"SELECT epoch_us({column}) FROM {table} WHERE {column} < make_timestamp(?) LIMIT 1",
            [before_us]).fetchone()
        if old is None:
            continue
        until_us = min(before_us, old[0] + STEP_US)
        more = more or until_us < before_us
        connection.execute(f"DELETE FROM {table} WHERE {column} < make_timestamp(?)", [until_us])
    connection.commit()
    return more
