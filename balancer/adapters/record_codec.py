"""Records of `balancer.model` to plain JSON values and back, strictly, by their own annotations.

What comes from Redis was written by another process, perhaps by a newer version or by nobody of
ours, so every value is checked against its field's type: a number is finite, a quantity is not
negative, a choice is one of its choices. Used by `balancer.adapters.documents`.
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from types import MappingProxyType
from typing import Any, Final, TypeVar

from balancer.errors import StoreError

R = TypeVar("R")

#: Checks and converts one JSON value; `where` names the field in the error.
Reader = Callable[[Any, str], Any]

#: Fields that hold a quantity, by the end of their name (units) or by name: none is negative.
QUANTITY_SUFFIXES: Final = ("_s", "_bytes", "_w", "_ticks")
QUANTITIES: Final = frozenset(
    {"at", "busy", "checkpointed_at", "compute_capability", "count", "epoch", "share", "share_before",
     "share_done", "slots", "started_at"}
)

#: What JSON says as it is; by far the most there is in a record.
SCALARS: Final = frozenset({str, float, int, bool, type(None)})


def to_plain(value: Any) -> Any:
    """A record as JSON values; fields that are `None` by default are left out when they are."""
    kind = type(value)
    if kind in SCALARS:
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        pairs = ((name, shown, getattr(value, name)) for name, shown in _fields(typing.cast(Any, kind)))
        return {name: v if type(v) in SCALARS else to_plain(v) for name, shown, v in pairs
                if v is not None or shown}
    if isinstance(value, Mapping):
        return {str(key): to_plain(v) for key, v in value.items()}
    if isinstance(value, tuple | list):
        return [to_plain(v) for v in value]
    return value


@cache
def _fields(kind: type) -> tuple[tuple[str, bool], ...]:
    """Names of a record's fields, and whether a `None` in them is written."""
    return tuple((f.name, f.default is not None) for f in dataclasses.fields(kind))


def from_plain(record: type[R], value: Any, where: str = "") -> R:
    """The record in `value`. Unknown fields are ignored, as a newer writer may add some.

    Raises `StoreError` that names the field and what is wrong with it.
    """
    return typing.cast(R, _reader(typing.cast(Any, record))(value, where or record.__name__))


@cache
def _reader(kind: Any) -> Reader:
    """How to read a value of this annotation; made once a type."""
    if dataclasses.is_dataclass(kind):
        return _record_reader(typing.cast(type, kind))
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Literal:
        return _choice_reader(inner)
    if origin in (types.UnionType, typing.Union):
        present = _reader(next(a for a in inner if a is not type(None)))
        return lambda value, where: None if value is None else present(value, where)
    if origin is tuple:
        return _sequence_reader(inner)
    if origin is Sequence:
        return _sequence_reader((*inner, Ellipsis))
    if origin is Mapping:
        return _mapping_reader(_reader(inner[1]))
    return {bool: _read_bool, int: _read_int, float: _read_float, str: _read_str}[kind]


def _record_reader(kind: type) -> Reader:
    hints = typing.get_type_hints(kind)
    required = [f.name for f in dataclasses.fields(kind) if _is_required(f)]
    fields: dict[str, tuple[Reader, bool, Any]] = {
        f.name: (_reader(hints[f.name]), _is_quantity(f.name), _plain_type(hints[f.name]))
        for f in dataclasses.fields(kind)}

    def read(value: Any, where: str) -> Any:
        if not isinstance(value, dict):
            raise StoreError(f"{where}: an object was expected, not {_short(value)}")
        for name in required:
            if name not in value:
                raise StoreError(f"{where}.{name} is missing")
        found = {}
        for name, item in value.items():
            if name not in fields:
                continue
            reader, quantity, plain = fields[name]
            # Most is as it should be: an ordinary number above 0, a text in ASCII.
            if type(item) is not plain or not (item.isascii() if plain is str else 0.0 < item < 1e300):
                item = reader(item, f"{where}.{name}")
                if quantity and item is not None and item < 0:
                    raise StoreError(f"{where}.{name} is negative: {item:g}")
                if name == "size" and item <= 0:
                    raise StoreError(f"{where}.size must be above 0, not {item:g}")
            found[name] = item
        return kind(**found)

    return read


def _plain_type(kind: Any) -> type | None:
    """`float` or `str` where a field is that, or nothing; then a common value needs no reader."""
    present = next((a for a in typing.get_args(kind) if a is not type(None)), kind)
    optional = typing.get_origin(kind) in (types.UnionType, typing.Union)
    if typing.get_origin(kind) is not None and not optional:
        return None
    return present if present in (float, str) else None


def _is_required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _is_quantity(name: str) -> bool:
    return name in QUANTITIES or (name.endswith(QUANTITY_SUFFIXES) and name != "expected_s")


def _choice_reader(choices: tuple[Any, ...]) -> Reader:
    def read(value: Any, where: str) -> Any:
        if not isinstance(value, str) or value not in choices:
            raise StoreError(f"{where}: unknown {_short(value)}; known: {', '.join(map(str, choices))}")
        return value

    return read


def _sequence_reader(inner: tuple[Any, ...]) -> Reader:
    many = len(inner) == 2 and inner[1] is Ellipsis
    readers = [_reader(a) for a in inner if a is not Ellipsis]

    def read(value: Any, where: str) -> Any:
        if not isinstance(value, list) or not (many or len(value) == len(readers)):
            raise StoreError(f"{where}: a list was expected, not {_short(value)}")
        if many:
            return tuple(readers[0](item, where) for item in value)
        return tuple(reader(item, where) for reader, item in zip(readers, value, strict=True))

    return read


def _mapping_reader(reader: Reader) -> Reader:
    def read(value: Any, where: str) -> Any:
        if not isinstance(value, dict):
            raise StoreError(f"{where}: an object was expected, not {_short(value)}")
        return MappingProxyType({key: reader(item, f"{where}.{key}") for key, item in value.items()})

    return read


def _read_bool(value: Any, where: str) -> bool:
    if not isinstance(value, bool):
        raise StoreError(f"{where}: true or false was expected, not {_short(value)}")
    return value


def _read_int(value: Any, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > 2**63:
        raise StoreError(f"{where}: a whole number was expected, not {_short(value)}")
    return value


def _read_float(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise StoreError(f"{where}: a number was expected, not {_short(value)}")
    if abs(value) > 1e300 or not math.isfinite(value):
        raise StoreError(f"{where}: a finite number was expected, not {_short(value)}")
    return float(value)


def _read_str(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise StoreError(f"{where}: a text was expected, not {_short(value)}")
    if not value.isascii() and not value.isprintable() and any("\ud800" <= c <= "\udfff" for c in value):
        raise StoreError(f"{where}: half a character in {_short(value)}")
    return value


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"
