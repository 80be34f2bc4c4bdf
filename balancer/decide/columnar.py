"""Records whose fields are columns: compared, re-ordered and written down by one layout each.

`forecast` keeps what it knows of ten thousand workers in a few arrays; `memory` writes them as text. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from balancer.decide.packed import pack, unpack
from balancer.errors import StoreError

Places = NDArray[np.intp]


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One array: its `dtype`, the letters of its `axes` ("n" are the subjects, always last), the value of a
    subject of which nothing is known, and for numbers of places how many places there are."""

    dtype: str
    axes: str
    fill: float = 0.0
    places: int | None = None


class Columnar:
    """The base of such a record; `LAYOUT` names its columns, its other fields are numbers."""

    __slots__ = ()
    LAYOUT: ClassVar[Mapping[str, Column]] = {}

    @classmethod
    def of_nobody(cls, sizes: Mapping[str, int]) -> Self:
        """The record in which nothing is known of anybody; `sizes` by axis."""
        return cls(**{
            name: np.full([sizes[axis] for axis in column.axes], column.fill, dtype=column.dtype)
            for name, column in cls.LAYOUT.items()})

    def taken(self, places: Places) -> Self:
        """The record of the subjects at `places` in turn; −1 is somebody new."""
        new = places < 0
        columns = {}
        for name, column in self.LAYOUT.items():
            old: NDArray[Any] = getattr(self, name)
            if not old.shape[-1]:
                columns[name] = np.full((*old.shape[:-1], places.size), column.fill, dtype=column.dtype)
                continue
            values = old[..., places]
            values[..., new] = column.fill
            columns[name] = values
        return replace(self, **columns)  # type: ignore[type-var]

    def to_document(self) -> dict[str, Any]:
        """The fields; columns as text."""
        return {name: pack(getattr(self, name), self.LAYOUT[name].dtype) if name in self.LAYOUT
                else getattr(self, name) for name in _names(self)}

    @classmethod
    def from_document(cls, document: Any, sizes: Mapping[str, int], where: str) -> Self:
        """The record of `to_document`. Raises `StoreError` where something is missing, is left over or
        does not fit."""
        if not isinstance(document, Mapping) or set(document) != set(_names(cls)):
            raise StoreError(f"{where}: an object of {', '.join(_names(cls))} was expected")
        read: dict[str, Any] = {}
        for name in _names(cls):
            value, at, column = document[name], f"{where}.{name}", cls.LAYOUT.get(name)
            read[name] = _number(value, at) if column is None else _column(value, column, sizes, at)
        return cls(**read)

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        same = ((getattr(self, name), getattr(other, name)) for name in _names(self))
        return all(np.array_equal(mine, theirs, equal_nan=True) for mine, theirs in same)

    def __hash__(self) -> int:
        return hash(type(self))


def _names(record: Columnar | type[Columnar]) -> tuple[str, ...]:
    return tuple(field.name for field in fields(record) if field.init)  # type: ignore[arg-type]


def _number(value: Any, where: str) -> float:
    good = isinstance(value, int | float) and not isinstance(value, bool) and np.isfinite(value)
    if not good:
        raise StoreError(f"{where}: a finite number was expected, not {str(value)[:60]!r}")
    return float(value)


def _column(value: Any, column: Column, sizes: Mapping[str, int], where: str) -> NDArray[Any]:
    values = unpack(value, tuple(sizes[axis] for axis in column.axes), where, column.dtype)
    if column.places is not None and values.size and not 0 <= values.min() <= values.max() < column.places:
        raise StoreError(f"{where}: places from 0 to {column.places - 1} were expected")
    return values
