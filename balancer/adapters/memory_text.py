"""The memory's document as JSON and, apart from it, its columns of numbers.

At ten thousand workers they are megabytes, most of which is the same after each whole tick: a column is
known again by its identity and not written twice. Used by `redis_memory`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from balancer.adapters.documents import write
from balancer.decide.packed import Packed
from balancer.errors import StoreError

#: Begins the text that stands in a document for one of its columns; the column's name follows.
MARK: Final = "\0column\0"

#: Shorter columns stay in the document (characters).
SHORTEST: Final = 1_024


def memory_text(document: Mapping[str, Any], named: Callable[[Packed], str]) -> tuple[str, list[Packed]]:
    """The document as `documents.write` writes it, but for its long columns: of each only what it is `named`.
    Raises `StoreError` for what JSON does not know."""
    columns: list[Packed] = []

    def mark(column: Packed) -> str:
        columns.append(column)
        return MARK + named(column)

    text = write(_with(document, mark), "memory")
    if text.count(write(MARK, "memory")[1:-1]) != len(columns):  # somebody's name looks like the mark
        return write(dict(document), "memory"), []
    return text, columns


def whole(value: Any, columns: Mapping[str, str], where: str = "memory") -> Any:
    """A document as it was before `memory_text` took `columns` out, by name. Raises `StoreError` where one is
    missing."""
    if isinstance(value, str):
        if not value.startswith(MARK):
            return value
        name = value.removeprefix(MARK)
        if name not in columns:
            raise StoreError(f"{where}: its column {name[:60]!r} is missing")
        return columns[name]
    if isinstance(value, dict):
        return {name: whole(part, columns, f"{where}.{name}") for name, part in value.items()}
    return [whole(part, columns, where) for part in value] if isinstance(value, list) else value


def _with(value: Any, mark: Callable[[Packed], str]) -> Any:
    """`value` with its mark in place of each long column; other lists of texts as they are."""
    if type(value) is Packed:
        return mark(value) if len(value) >= SHORTEST else value
    if isinstance(value, Mapping):
        return {name: _with(part, mark) for name, part in value.items()}
    if isinstance(value, list) and value and (type(value[0]) is Packed or isinstance(value[0], Mapping)):
        return [_with(part, mark) for part in value]
    return value
