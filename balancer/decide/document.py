"""Records to JSON documents and back, strictly: what does not fit its type is a `StoreError`.

The types of the records are the schema. Used by `memory`, whose document outlives a process and
may have been written by another version.
"""

from __future__ import annotations

import math
import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from typing import Any, Final, Literal, Union, get_args, get_origin, get_type_hints

from balancer.errors import StoreError

_SCALARS: Final = frozenset({str, float, int, bool, type(None)})


def encode(value: Any) -> Any:
    """A record, mapping, tuple or scalar as what JSON can say."""
    if type(value) in _SCALARS:  # by far the most there is
        return value
    if isinstance(value, dict | types.MappingProxyType):
        return {str(key): item if type(item) in _SCALARS else encode(item) for key, item in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return {name: encode(getattr(value, name)) for name in _hints(type(value))}
    if isinstance(value, Mapping):
        return {str(key): encode(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [encode(item) for item in value]
    return value


def decode(kind: Any, value: Any, where: str) -> Any:
    """`value` as an object of type `kind`; `where` is its path in the document, for the reason."""
    if is_dataclass(kind):
        return _record(kind, value, where)
    origin, args = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in args:
            return None
        return decode(next(arg for arg in args if arg is not type(None)), value, where)
    if origin is Literal:
        return value if value in args else _refuse(value, f"one of {', '.join(map(str, args))}", where)
    if origin is tuple:
        return _tuple(args, value, where)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        items = value if isinstance(value, dict) else _refuse(value, "an object", where)
        return types.MappingProxyType({
            decode(args[0], key, where): decode(args[1], item, f"{where}.{key}")
            for key, item in items.items()
        })
    return _scalar(kind, value, where)


@cache
def _hints(kind: type) -> dict[str, Any]:
    """Names and types of a record's fields, in order."""
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in fields(kind)}


def _record(kind: Any, value: Any, where: str) -> Any:
    document = value if isinstance(value, dict) else _refuse(value, "an object", where)
    hints = _hints(kind)
    if unknown := sorted(set(document) - set(hints)):
        raise StoreError(f"{where}: unknown field {unknown[0]!r}")
    for field in fields(kind):
        required = field.default is MISSING and field.default_factory is MISSING
        if required and field.name not in document:
            raise StoreError(f"{where}: field {field.name!r} is missing")
    return kind(**{name: decode(hints[name], item, f"{where}.{name}") for name, item in document.items()})


def _tuple(args: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    items = value if isinstance(value, list) else _refuse(value, "a list", where)
    if len(args) == 2 and args[1] is Ellipsis:
        return tuple(decode(args[0], item, f"{where}[{place}]") for place, item in enumerate(items))
    if len(items) != len(args):
        _refuse(value, f"a list of {len(args)}", where)
    return tuple(
        decode(arg, item, f"{where}[{place}]")
        for place, (arg, item) in enumerate(zip(args, items, strict=True))
    )


def _scalar(kind: Any, value: Any, where: str) -> Any:
    if kind is float:
        good = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        return float(value) if good else _refuse(value, "a finite number", where)
    if kind is int:
        return value if type(value) is int else _refuse(value, "a whole number", where)
    if kind in (bool, str):
        return value if type(value) is kind else _refuse(value, f"a {kind.__name__}", where)
    raise StoreError(f"{where}: no way to read a {kind}")


def _refuse(value: Any, wanted: str, where: str) -> Any:
    raise StoreError(f"{where}: {wanted} was expected, not {str(value)[:60]!r}")
