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
from types import NoneType
from typing import Any, Final

import duckdb
import numpy as np
from numpy.typing import NDArray

from balancer.model.batch import Batch, Column

#: Version of `sql/schema.sql`; a ledger with a higher one is left alone.
SCHEMA_VERSION: Final = 3

#: Bounds of the integer columns, by their type.
_INTEGER_BITS: Final = {"INTEGER": 31, "BIGINT": 63}

#: Seconds from the epoch that a TIMESTAMP may hold here: the years 1 to 9999.
_TIME_RANGE: Final = (-62_135_596_800, 253_402_300_799)


#: The greatest FLOAT.
_FLOAT_LIMIT: Final = float(np.finfo(np.float32).max)

#: Columns of a table by name, as DuckDB reads them in place. It knows no absent integer or flag in an array:
#: those are floats, NaN where absent; a BIGINT, which a float would round, is text.
Columns = Mapping[str, NDArray[Any]]
_DTYPES: Final = {"VARCHAR": "O", "JSON": "O", "BIGINT": "O", "TIMESTAMP": "M8[us]",
                  "DOUBLE": "f8", "FLOAT": "f8", "INTEGER": "f8", "BOOLEAN": "f8"}


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


def fit_batch(table: Table, batch: Batch) -> Columns:
    """All rows of a batch, column by column. Raises `ValueError` when any of them does not fit."""
    try:
        given = {name: _ARRAYS[table.columns[name]](values) for name, values in batch.columns.items()}
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise ValueError(f"a batch of {table.name} does not fit ({error})") from error
    if any(values.shape != (len(batch),) for values in given.values()):
        raise ValueError(f"a batch of {table.name} has columns that are not {len(batch)} long")
    absent = [None] * len(batch)
    return {name: given[name] if name in given else _packed(kind, absent)
            for name, kind in table.columns.items()}


def in_columns(table: Table, rows: Sequence[tuple[Any, ...]]) -> Columns:
    """Rows of `fit` as columns."""
    return {name: _packed(kind, [row[place] for row in rows])
            for place, (name, kind) in enumerate(table.columns.items())}


def _packed(kind: str, values: list[Any]) -> NDArray[Any]:
    """Fitted values as an array that DuckDB reads in place."""
    if kind == "BIGINT":
        values = [None if value is None else str(value) for value in values]
    return np.array(values, dtype=_DTYPES[kind])


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


def _single(value: Any) -> float | None:
    number = _real(value)
    if number is not None and abs(number) > _FLOAT_LIMIT:
        raise OverflowError("out of range")
    return number


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


def _numbers(values: Column) -> NDArray[np.float64]:
    """Numbers as floats, NaN where there is none or it is not finite. Raises `TypeError` for all else."""
    if not isinstance(values, np.ndarray) or values.dtype == object:
        if not set(map(type, values)) <= {float, int, NoneType}:
            raise TypeError("numbers are needed")
    elif values.dtype.kind not in "fiu":
        raise TypeError("numbers are needed")
    column = np.array(values, dtype=np.float64)
    column[~np.isfinite(column)] = np.nan
    return column


def _singles(values: Column) -> NDArray[np.float64]:
    column = _numbers(values)
    if (np.abs(column) > _FLOAT_LIMIT).any():
        raise OverflowError("out of range")
    return column


def _integers(values: Column) -> NDArray[np.float64]:
    column = _numbers(values)
    limit = float(1 << _INTEGER_BITS["INTEGER"])
    if ((column != np.trunc(column)) & ~np.isnan(column)).any():
        raise TypeError("whole numbers are needed")
    if ((column < -limit) | (column >= limit)).any():
        raise OverflowError("out of range")
    return column


def _long_integers(values: Column) -> NDArray[Any]:
    fitted = _integer("BIGINT")
    plain = values.tolist() if isinstance(values, np.ndarray) else values
    return _packed("BIGINT", [None if value is None else fitted(value) for value in plain])


def _flags(values: Column) -> NDArray[np.float64]:
    """Flags as 0 and 1; an array may hold them so, with NaN where there is none."""
    if not isinstance(values, np.ndarray) or values.dtype == object:
        if not set(map(type, values)) <= {bool, NoneType}:
            raise TypeError("true or false is needed")
    elif not np.isin(values[values == values], (0, 1)).all():
        raise TypeError("true or false is needed")
    return np.array(values, dtype=np.float64)


def _times(values: Column) -> NDArray[np.datetime64]:
    seconds = _numbers(values)
    absent = np.isnan(seconds)
    if ((seconds < _TIME_RANGE[0]) | (seconds > _TIME_RANGE[1])).any():
        raise OverflowError("no such time")
    column = np.round(np.where(absent, 0.0, seconds) * 1e6).astype(np.int64).astype("M8[us]")
    column[absent] = np.datetime64("NaT")
    return column


def _texts(values: Column) -> NDArray[Any]:
    if not set(map(type, values)) <= {str, NoneType}:
        raise TypeError("text is needed")
    try:
        "".join(filter(None, values)).encode("utf-8")
    except UnicodeEncodeError:
        values = [None if value is None else _text(value) for value in values]
    return np.array(values, dtype=object)


def _documents(values: Column) -> NDArray[Any]:
    return np.array([None if value is None else _document(value) for value in values], dtype=object)


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
    "FLOAT": _single,
    "INTEGER": _integer("INTEGER"),
    "BIGINT": _integer("BIGINT"),
    "BOOLEAN": _flag,
    "TIMESTAMP": _microseconds,
    "JSON": _document,
}

_ARRAYS: Final[Mapping[str, Callable[[Column], NDArray[Any]]]] = {
    "VARCHAR": _texts,
    "DOUBLE": _numbers,
    "FLOAT": _singles,
    "INTEGER": _integers,
    "BIGINT": _long_integers,
    "BOOLEAN": _flags,
    "TIMESTAMP": _times,
    "JSON": _documents,
}
