"""The ledger's DuckDB file as its one writer sees it: taken, written in one transaction, given back.

`duckdb_ledger` decides what is written and what a failure means; here are the statements.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Final

import duckdb
import numpy as np

from balancer.adapters.ledger_columns import SCHEMA_VERSION, Columns, Table, sql
from balancer.adapters.ledger_retention import Retention
from balancer.errors import LedgerError

#: Files are written so that DuckDB 1.4 and later read them.
STORAGE_VERSION: Final = "v1.4.0"

#: Rows that are compressed together. Each tick compresses the last, unfinished group anew: with groups as
#: large as DuckDB's own (122,880) that takes twice the time and, now and then, half a second and 70 MB.
ROW_GROUP_ROWS: Final = 20_480

#: One thread, as rows are only appended and each thread more holds memory of its own. A transaction of more
#: than the threshold goes to the file at once, and not to the write-ahead log first.
SETTINGS: Final[Mapping[str, str | int | float | list[str]]] = {
    "threads": 1, "checkpoint_threshold": "1KB", "storage_compatibility_version": STORAGE_VERSION}


def write(path: str, rows: Sequence[tuple[Table, Columns]], retention: Retention,
          log: logging.Logger) -> None:
    """All rows or none into the file, which is nobody's before and after, so that readers get their turn.

    Then the rows go that are too old, in a transaction of their own. What fails after the commit is only
    logged. DuckDB itself is not kept either, which would spare 10 ms or so: a fork of its process would crash
    when it ends.
    """
    connection = duckdb.connect(":memory:", config={**SETTINGS})
    try:
        connection.execute(_attach(path))
        connection.execute("USE ledger")
        _prepare(connection)
        connection.begin()
        for table, columns in rows:
            _append(connection, table, columns)
        connection.commit()
        retention.apply(connection, rows)
    finally:
        try:
            connection.close()
        except duckdb.Error as error:
            log.warning("closing the ledger %s: %s", path, error)


def _attach(path: str) -> str:
    quoted = path.replace("'", "''")
    return f"ATTACH '{quoted}' AS ledger (TYPE duckdb, ROW_GROUP_SIZE {ROW_GROUP_ROWS})"


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


def _append(connection: duckdb.DuckDBPyConnection, table: Table, columns: Columns) -> None:
    """Add rows; where the table has a key, each takes the place of the one with the same key before it."""
    into = ", ".join(name for name in columns if name != "id")  # a sequence numbers the rows
    connection.register("new", columns)
    try:
        if table.key:
            _forget(connection, table, columns)
        connection.execute(f"INSERT INTO {table.name} ({into}) SELECT {into} FROM new")
    finally:
        connection.unregister("new")


def _forget(connection: duckdb.DuckDBPyConnection, table: Table, columns: Columns) -> None:
    """Remove the earlier rows of these keys. The bound on the first column spares reading old blocks."""
    first = table.key[0]
    values = columns[first]
    known = (values if values.dtype == object else np.unique(values)).tolist()
    least = min((value for value in known if value is not None), default=None)
    same = " AND ".join(f"old.{name} = new.{name}" for name in table.key)
    connection.execute(
        f"DELETE FROM {table.name} AS old USING new WHERE {same} AND old.{first} >= ?", [least])
