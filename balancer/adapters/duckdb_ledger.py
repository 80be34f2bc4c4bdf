"""The ledger: rows into one DuckDB file, and out of it.

The last step of a tick. One process writes: it opens, writes all that waits in one transaction
and closes, so that readers get their turn. Whatever goes wrong, the tick goes on: rows wait in
memory up to a bound and the log says once what is the matter and once that it is over.
"""

from __future__ import annotations

import logging
import os
import random
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from typing import Any, Final, TypeVar

import duckdb

from balancer.adapters.ledger_columns import fit, fit_batch, tables
from balancer.adapters.ledger_file import write
from balancer.adapters.ledger_retention import Retention
from balancer.adapters.ledger_waiting import Waiting
from balancer.errors import LedgerError
from balancer.model.batch import Batch

#: Tries to open a file that another process holds, and the longest wait after the first (s); the
#: n-th is n times as long. So a tick is held up for 0.5 s at most; a reader that keeps the file
#: longer delays rows, never the tick.
ATTEMPTS: Final = 5
WAIT_S: Final = 0.05

_MAGIC: Final = b"DUCK"
_T = TypeVar("_T")


class DuckDBLedger:
    """`balancer.ports.Ledger` over the file `path`; with an empty path there is no ledger.

    At most `backlog` rows wait in memory while the file cannot be written; then the oldest go. Rows older
    than `days` are deleted from the file now and then; 0 keeps all (`ledger_retention`).
    A file that is surely corrupt is renamed to `<path>.corrupt-<time>`, never removed.
    """

    def __init__(self, path: str, backlog: int = 100_000, log: logging.Logger | None = None, *,
                 days: float = 0.0) -> None:
        self._path = path
        self._backlog = backlog
        self._log = log or logging.getLogger(__name__)
        self._retention = Retention(days, self._log)
        self._waiting = Waiting()
        self._trouble = ""
        self._dropped = 0
        self._refused: set[str] = set()

    @property
    def waiting(self) -> int:
        """How many rows wait in memory."""
        return len(self._waiting)

    @property
    def dropped(self) -> int:
        """How many rows were given up since the file could last be written."""
        return self._dropped

    def record(self, rows: Mapping[str, Sequence[Mapping[str, Any]]]) -> bool:
        """Append rows by table; `False` when they wait in memory. Never raises."""
        if not self._path:
            return True
        try:
            self._take(rows)
            return self._flush()
        except Exception:
            self._log.exception("the ledger %s failed in a way it should not", self._path)
            return False

    def close(self) -> None:
        """Write what waits, once more; the log says what is lost."""
        if self._waiting and not self.record({}):
            self._log.error(
                "%d rows never reached the ledger %s: %s", len(self._waiting), self._path, self._trouble
            )
            self._waiting.clear()

    def _take(self, rows: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
        known = tables()
        for name, batch in rows.items():
            if isinstance(batch, Batch) and name in known:
                try:
                    self._waiting.add_batch(known[name], fit_batch(known[name], batch), len(batch))
                    continue
                except ValueError:  # row by row, so that only those are left out that do not fit
                    pass
            for row in batch:
                try:
                    if name not in known:
                        raise ValueError(f"the ledger has no table {name}")
                    self._waiting.add(known[name], fit(known[name], row))
                except ValueError as error:
                    self._refuse(str(error))

    def _refuse(self, reason: str) -> None:
        """A row that no database would take is left out; the log says so once a column."""
        kind = reason.split(",", 1)[0]
        if kind not in self._refused:
            self._refused.add(kind)
            self._log.error("a row was left out of the ledger: %s", reason)

    def _flush(self) -> bool:
        if not self._waiting:
            return True
        try:
            self._write_or_begin_anew()
        except (duckdb.Error, OSError, LedgerError) as error:
            self._suffer(error)
            return False
        if self._trouble:
            self._log.warning(
                "the ledger %s can be written again: %d rows are in it, %d were lost",
                self._path,
                len(self._waiting),
                self._dropped,
            )
        self._waiting.clear()
        self._trouble, self._dropped = "", 0
        return True

    def _write_or_begin_anew(self) -> None:
        """Write; where the file turns out to be corrupt, keep it under another name and begin a new one."""
        try:
            _retry(self._write)
        except duckdb.Error as error:
            if not _surely_corrupt(self._path, error):
                raise
            self._log.error(
                "the ledger %s is corrupt (%s); it is kept as %s and a new one begins",
                self._path,
                _reason(error),
                _set_aside(self._path),
            )
            _retry(self._write)

    def _write(self) -> None:
        write(self._path, self._waiting.by_table(), self._retention, self._log)

    def _suffer(self, error: Exception) -> None:
        """Keep what fits in memory, and say so where it is news."""
        reason = _reason(error)
        if reason != self._trouble:
            self._trouble = reason
            self._log.warning(
                "the ledger %s cannot be written, rows wait in memory (at most %d): %s",
                self._path,
                self._backlog,
                reason,
            )
        surplus = len(self._waiting) - self._backlog
        if surplus > 0:
            if not self._dropped:
                self._log.error(
                    "more than %d rows wait for the ledger %s: the oldest are given up",
                    self._backlog,
                    self._path,
                )
            self._dropped += surplus
            self._waiting.forget(surplus)


def read(path: str, statement: str, params: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
    """Rows of a query on the ledger at `path`, each a dict by column; the file is opened for reading only.

    Parameters are named (`$name`). Raises `LedgerError` when there is no such file, it cannot be
    read, or the query fails.
    """
    if not path:
        raise LedgerError("there is no ledger: balancer_db_path is empty")
    if not os.path.exists(path):
        raise LedgerError(f"there is no ledger at {path}; give its place with --db-path or balancer_db_path")

    def ask() -> list[dict[str, Any]]:
        with closing(duckdb.connect(path, read_only=True)) as connection:
            connection.execute("SET TimeZone = 'UTC'")
            _stand_in(connection)
            cursor = connection.execute(statement, dict(params or {}))
            names = [column[0] for column in cursor.description or ()]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    try:
        return _retry(ask)
    except duckdb.Error as error:
        raise LedgerError(f"the ledger {path} cannot be read: {_reason(error)}") from error


def _retry(action: Callable[[], _T]) -> _T:
    """Do it; where another process or thread holds the file, a few more times with growing, uneven waits."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return action()
        except (duckdb.IOException, duckdb.ConnectionException) as error:
            if attempt == ATTEMPTS or not _held(error):
                raise
        time.sleep(random.uniform(0.2, 1.0) * WAIT_S * attempt)
    raise AssertionError("the loop returns or raises")


def _held(error: Exception) -> bool:
    text = str(error)
    return "lock" in text or "different configuration" in text


def _stand_in(connection: duckdb.DuckDBPyConnection) -> None:
    """Empty temporary tables for those the file lacks (one made by the seed's text has only the first), and
    views with the columns that a table of an older version lacks."""
    there = set(connection.execute(
        "SELECT table_name, column_name FROM duckdb_columns() WHERE NOT internal").fetchall())
    named = {table for table, _ in there}
    for table in tables().values():
        lacks = [name for name in table.columns if (table.name, name) not in there]
        if table.name not in named:
            columns = ", ".join(f"{name} {kind}" for name, kind in table.columns.items())
            connection.execute(f"CREATE TEMP TABLE {table.name} ({columns})")
        elif lacks:
            nothing = ", ".join(f"NULL::{table.columns[name]} AS {name}" for name in lacks)
            (place,) = connection.execute("SELECT current_database()").fetchone() or ("",)
            connection.execute(f'CREATE TEMP VIEW {table.name} AS '
                               f'SELECT *, {nothing} FROM "{place}".main.{table.name}')


def _reason(error: Exception) -> str:
    """The first line of what went wrong, without the process ids that change from try to try."""
    return str(error).split("\n", 1)[0].split(" (PID", 1)[0].strip()[:300]


def _surely_corrupt(path: str, error: duckdb.Error) -> bool:
    """Whether the file is a ledger that nothing can read any more.

    A file that never was DuckDB's is somebody's own and is left alone, unless it is empty or its
    name says that it should be DuckDB's. A lock, a full disk or a newer version is no corruption.
    """
    message = str(error)
    if not os.path.isfile(path):
        return False
    if "Corrupt database file" in message or "Could not read enough bytes" in message:
        return _has_magic(path)
    if "not a valid DuckDB database file" in message:
        return path.endswith(".duckdb") or os.path.getsize(path) == 0
    return "replaying WAL" in message and not isinstance(error, duckdb.IOException)


def _has_magic(path: str) -> bool:
    with open(path, "rb") as file:
        return file.read(12)[8:] == _MAGIC


def _set_aside(path: str) -> str:
    """Rename the file, and its write-ahead log with it; the new name."""
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
    place, count = f"{path}.corrupt-{stamp}", 0
    while os.path.exists(place):
        count += 1
        place = f"{path}.corrupt-{stamp}-{count}"
    os.rename(path, place)
    if os.path.exists(f"{path}.wal"):
        os.rename(f"{path}.wal", f"{place}.wal")
    return place
