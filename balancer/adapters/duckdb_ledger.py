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
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from typing import Any, Final, TypeVar

import duckdb

from balancer.adapters.ledger_columns import SCHEMA_VERSION, Table, fit, fit_batch, placeholder, sql, tables
from balancer.errors import LedgerError
from balancer.model.batch import Batch

#: Files are written so that DuckDB 1.4 and later read them.
STORAGE_VERSION: Final = "v1.4.0"

#: Threads of the database: rows are only appended, and each thread more holds memory of its own.
THREADS: Final = 1

#: Tries to open a file that another process holds, and the longest wait after the first (s); the
#: n-th is n times as long. So a tick is held up for 0.5 s at most; a reader that keeps the file
#: longer delays rows, never the tick.
ATTEMPTS: Final = 5
WAIT_S: Final = 0.05

#: Rows of one INSERT; bounds the memory a long backlog needs while it is written.
BATCH_ROWS: Final = 50_000

_MAGIC: Final = b"DUCK"
_T = TypeVar("_T")


class DuckDBLedger:
    """`balancer.ports.Ledger` over the file `path`; with an empty path there is no ledger.

    At most `backlog` rows wait in memory while the file cannot be written; then the oldest go.
    A file that is surely corrupt is renamed to `<path>.corrupt-<time>`, never removed.
    """

    def __init__(self, path: str, backlog: int = 100_000, log: logging.Logger | None = None) -> None:
        self._path = path
        self._backlog = backlog
        self._log = log or logging.getLogger(__name__)
        self._waiting: deque[tuple[str, tuple[Any, ...]]] = deque()
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
                    self._waiting.extend((name, row) for row in fit_batch(known[name], batch))
                    continue
                except ValueError:  # row by row, so that only those are left out that do not fit
                    pass
            for row in batch:
                try:
                    if name not in known:
                        raise ValueError(f"the ledger has no table {name}")
                    self._waiting.append((name, fit(known[name], row)))
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
        """Everything that waits in one transaction. What fails after the commit is only logged."""
        connection = _open(self._path)
        try:
            _prepare(connection)
            connection.begin()
            for name, rows in _by_table(self._waiting).items():
                _append(connection, tables()[name], rows)
            connection.commit()
        finally:
            try:
                connection.close()
            except duckdb.Error as error:
                self._log.warning("closing the ledger %s: %s", self._path, error)

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
            for _ in range(surplus):
                self._waiting.popleft()


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


def _open(path: str) -> duckdb.DuckDBPyConnection:
    return duckdb.connect(path, config={"storage_compatibility_version": STORAGE_VERSION, "threads": THREADS})


def _prepare(connection: duckdb.DuckDBPyConnection) -> None:
    """Make the tables where they are not there yet. Raises `LedgerError` on a newer ledger."""
    try:
        found = connection.execute("SELECT max(version) FROM schema_version").fetchone()
    except duckdb.CatalogException:
        found = None
    version = found[0] if found else None
    if version is not None and version > SCHEMA_VERSION:
        raise LedgerError(f"a newer celery-balancer wrote it (its tables {version}, here {SCHEMA_VERSION})")
    if version == SCHEMA_VERSION:
        return
    connection.begin()
    connection.execute(sql("schema"))
    _number_rows(connection)
    connection.execute("DELETE FROM schema_version")
    connection.execute("INSERT INTO schema_version VALUES (?)", [SCHEMA_VERSION])
    connection.commit()


def _number_rows(connection: duckdb.DuckDBPyConnection) -> None:
    """A table made by the seed's own text has no default for `id`: give it one, after its last."""
    default = connection.execute(
        "SELECT column_default FROM duckdb_columns() "
        "WHERE table_name = 'load_balancer_metrics' AND column_name = 'id'"
    ).fetchone()
    if default is not None and default[0] is None:
        last = connection.execute("SELECT coalesce(max(id), 0) FROM load_balancer_metrics").fetchone()
        start = int(last[0]) + 1 if last else 1
        sequence = "load_balancer_metrics_id"
        connection.execute(f"CREATE OR REPLACE SEQUENCE {sequence} START {start}")
        connection.execute(
            f"ALTER TABLE load_balancer_metrics ALTER COLUMN id SET DEFAULT nextval('{sequence}')"
        )


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


def _by_table(
    waiting: Sequence[tuple[str, tuple[Any, ...]]] | deque[tuple[str, tuple[Any, ...]]],
) -> dict[str, list[tuple[Any, ...]]]:
    grouped: dict[str, list[tuple[Any, ...]]] = {}
    for name, row in waiting:
        grouped.setdefault(name, []).append(row)
    return grouped


def _append(connection: duckdb.DuckDBPyConnection, table: Table, rows: list[tuple[Any, ...]]) -> None:
    """Add rows; where the table has a key, the last row of each key takes the place of all before it."""
    names = list(table.columns)
    if table.key:
        places = [names.index(column) for column in table.key]
        rows = list({tuple(row[place] for place in places): row for row in rows}.values())
    numbered = table.name == "load_balancer_metrics" and "id" in names
    kept = [place for place, name in enumerate(names) if not (numbered and name == "id")]
    into = ", ".join(names[place] for place in kept)
    values = ", ".join(placeholder(table.columns[names[place]]) for place in kept)
    for start in range(0, len(rows), BATCH_ROWS):
        batch = rows[start : start + BATCH_ROWS]
        if table.key:
            _forget(connection, table, batch)
        columns = [[row[place] for row in batch] for place in kept]
        connection.execute(f"INSERT INTO {table.name} ({into}) SELECT {values}", columns)


def _forget(connection: duckdb.DuckDBPyConnection, table: Table, batch: list[tuple[Any, ...]]) -> None:
    """Remove the earlier rows of these keys. The bound on the first column spares reading old blocks."""
    names = list(table.columns)
    lists = [[row[names.index(column)] for row in batch] for column in table.key]
    new = ", ".join(f"{placeholder(table.columns[column])} AS {column}" for column in table.key)
    same = " AND ".join(f"old.{column} = new.{column}" for column in table.key)
    first = table.key[0]
    known = [value for value in lists[0] if value is not None]
    if known:
        bound = "make_timestamp(?::BIGINT)" if table.columns[first] == "TIMESTAMP" else "?"
        connection.execute(
            f"DELETE FROM {table.name} AS old USING (SELECT {new}) AS new "
            f"WHERE {same} AND old.{first} >= {bound}",
            [*lists, min(known)],
        )


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
