"""The memory's document as JSON: columns of numbers are pasted in, as nothing in them needs a look.

At ten thousand workers they are megabytes, kept after each whole tick. Used by `redis_store`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from balancer.adapters.documents import write
from balancer.decide.packed import Packed

#: Stands in a document for the next of its columns.
MARK: Final = "\0column\0"


def memory_text(document: Mapping[str, Any]) -> str:
    """The document as `documents.write` writes it. Raises `StoreError` for what JSON does not know."""
    columns: list[Packed] = []
    parts = write(_without(document, columns), "memory").split(write(MARK, "memory"))
    if len(parts) != len(columns) + 1:  # somebody's name looks like the mark
        return write(dict(document), "memory")
    between = [f'"{column}"' for column in columns] + [""]
    return "".join([piece for pair in zip(parts, between, strict=True) for piece in pair])


def _without(value: Any, columns: list[Packed]) -> Any:
    """`value` with a mark in place of each column, which goes to `columns`; plain lists as they are."""
    if type(value) is Packed:
        columns.append(value)
        return MARK
    if isinstance(value, Mapping):
        return {name: _without(part, columns) for name, part in value.items()}
    if isinstance(value, list) and value and isinstance(value[0], Mapping):
        return [_without(part, columns) for part in value]
    return value
