"""The ledger's tables as `sql/schema.sql` declares them, and values made fit for their columns.

Between rows of plain Python and `duckdb_ledger`, which writes them: what passes here cannot
fail to convert inside the database, so that one bad row never holds up the others.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Final

import duckdb

from balancer.model.batch import Batch

#: Version of `sql/schema.sql`; a ledger with a higher one is left alone.
SCHEMA_VERSION: Final = 3

#: Bounds of the integer columns, by their type.
_INTEGER_BITS: Final = {"INTEGER": 31, "BIGINT": 63}

#: Seconds from the epoch that a TIMESTAMP may hold here: the years 1 to 9999.
_TIME_RANGE: Final = (-62_135_596_800, 253_402_300_799)


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """One table: its columns with their types, in order; each one's place with what fits a value to it;
    and the columns that name a row, if any."""

    name: str
    columns: Mapping[str, str]
    places: Mapping[str, tuple[int, Callable[[Any], Any]]]
    key: tuple[str, ...] = ()


def sql(name: str) -> str:
    """The text of `sql/<name>.sql`."""
    return resources.files("balancer.adapters").joinpath("sql", f"{name}.sql").read_text(encoding="utf-8")


@cache
def tables() -> Mapping[str, Table]:
    """Every table of the schema, as DuckDB itself reads it."""
    with duckdb.connect(":memory:") as connection:
        connection.execute(sql("schema"))
        columns: dict[str, dict[str, str]] = {}
        for table, column, kind in connection.execute(
            "SELECT table_name, column_name, data_type FROM duckdb_columns() "
            "WHERE NOT internal ORDER BY table_name, column_index"
        ).fetchall():
            columns.setdefault(table, {})[column] = kind
        keys = dict(connection.execute("SELECT table_name, comment FROM duckdb_tables()").fetchall())
    return {
        name: Table(name=name, columns=found, places=_places(found), key=_key(keys.get(name)))
        for name, found in columns.items()
        if name != "schema_version"
    }


def fit(table: Table, row: Mapping[str, Any]) -> tuple[Any, ...]:
    """The row as a tuple in the order of `table.columns`; what it lacks is `None`.

    TIMESTAMP columns become microseconds since the epoch, JSON columns text. Raises `ValueError`
    with column and value where a value does not fit or a column is not there.
    """
    fitted: list[Any] = [None] * len(table.columns)
    places = table.places
    for column, value in row.items():
        if value is None and column in places:
            continue
        try:
            place, fitter = places[column]
            fitted[place] = fitter(value)
        except KeyError:
            raise ValueError(f"{table.name} has no column {column}") from None
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            kind, shown = table.columns[column], repr(value)[:80]
            raise ValueError(f"{table.name}.{column} takes {kind}, not {shown} ({error})") from error
    return tuple(fitted)


def fit_batch(table: Table, batch: Batch) -> list[tuple[Any, ...]]:
    """`fit` of all rows of a batch, column by column. Raises `ValueError` when any of them does not fit."""
    fitted: list[Sequence[Any]] = [[None] * len(batch)] * len(table.columns)
    try:
        for column, values in batch.columns.items():
            place, fitter = table.places[column]
            fitted[place] = [None if value is None else fitter(value) for value in values]
        return list(zip(*fitted, strict=True))
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise ValueError(f"a batch of {table.name} does not fit ({error})") from error


def placeholder(kind: str) -> str:
    """SQL that turns a bound list of fitted values into a column of type `kind`."""
    if kind == "TIMESTAMP":
        return "make_timestamp(unnest(?::BIGINT[]))"
    return f"unnest(?::{'VARCHAR' if kind == 'JSON' else kind}[])"


def _places(columns: Mapping[str, str]) -> dict[str, tuple[int, Callable[[Any], Any]]]:
    return {column: (place, _FITTERS[kind]) for place, (column, kind) in enumerate(columns.items())}


def _key(comment: str | None) -> tuple[str, ...]:
    if not comment or not comment.startswith("key:"):
        return ()
    return tuple(part.strip() for part in comment.removeprefix("key:").split(","))


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("text is needed")
    if value.isascii():
        return value
    return value.encode("utf-8", "replace").decode("utf-8")


def _real(value: Any) -> float | None:
    if type(value) is float:
        return value if math.isfinite(value) else None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        value = float(value) if hasattr(value, "dtype") else _refuse("a number is needed")
    number = float(value)
    return number if math.isfinite(number) else None


def _integer(kind: str) -> Callable[[Any], int]:
    limit = 1 << _INTEGER_BITS[kind]

    def fitted(value: Any) -> int:
        if isinstance(value, bool) or int(value) != value:
            raise TypeError("a whole number is needed")
        if not -limit <= int(value) < limit:
            raise OverflowError("out of range")
        return int(value)

    return fitted


def _flag(value: Any) -> bool:
    if value is True or value is False:
        return bool(value)
    raise TypeError("true or false is needed")


def _microseconds(value: Any) -> int | None:
    seconds = _real(value)
    if seconds is None:
        return None
    if not _TIME_RANGE[0] <= seconds <= _TIME_RANGE[1]:
        raise OverflowError("no such time")
    return round(seconds * 1e6)


def _document(value: Any) -> str:
    return json.dumps(_finite(value), allow_nan=False)


def _finite(value: Any) -> Any:
    """A JSON value without NaN, infinities and lone surrogates."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, Mapping):
        return {_text(str(name)): _finite(part) for name, part in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray)):
        return [_finite(part) for part in value]
    return value


def _refuse(sentence: str) -> Any:
    raise TypeError(sentence)


_FITTERS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "VARCHAR": _text,
    "DOUBLE": _real,
    "FLOAT": _real,
    "INTEGER": _integer("INTEGER"),
    "BIGINT": _integer("BIGINT"),
    "BOOLEAN": _flag,
    "TIMESTAMP": _microseconds,
    "JSON": _document,
}
