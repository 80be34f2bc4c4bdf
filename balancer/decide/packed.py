"""Columns of numbers as text that JSON can hold, for the document of the memory.

A column that is asked for again gives the same text, the very same object: who writes it down then knows it
again (`adapters.memory_text`). Pure: told apart by identity, as columns never change once they are packed.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from binascii import Error
from typing import Any, Final
from weakref import ref

import numpy as np
from numpy.typing import NDArray

from balancer.decide.kept import kept
from balancer.errors import StoreError

#: Columns of fewer bytes are packed anew each time.
KEPT_BYTES: Final = 768


class Packed(str):
    """A column as text; known as such to whoever writes it."""

    __slots__ = ()


#: The text of each column that was packed and is still there, by its identity.
_kept: dict[int, tuple[ref[NDArray[Any]], str, Packed]] = {}


def pack(values: NDArray[Any], dtype: str = "<f8") -> Packed:
    """The numbers as little-endian bytes in base64: exact, and fifty times as fast as writing the digits.
    `values` cannot be changed any more."""
    if values.nbytes < KEPT_BYTES:
        return _text(values, dtype)
    place = id(values)
    known = _kept.get(place)
    if known is not None and known[0]() is values and known[1] == dtype:
        return known[2]
    values.flags.writeable = False
    text = _text(values, dtype)
    _kept[place] = ref(values, lambda gone: _forget(place, gone)), dtype, text
    return text


def unpack(text: Any, shape: tuple[int, ...], where: str, dtype: str = "<f8") -> NDArray[Any]:
    """The numbers of `pack`; `StoreError` where there are not as many as `shape` needs."""
    try:
        raw = b64decode(text, validate=True)
        return np.frombuffer(raw, dtype=dtype).reshape(shape).astype(np.dtype(dtype).newbyteorder("="))
    except (TypeError, ValueError, Error) as error:
        raise StoreError(f"{where}: {error}") from error


@kept
def pack_names(names: tuple[str, ...]) -> Packed:
    """Names as one text, the same as long as they are the same objects."""
    return Packed(json.dumps(names, ensure_ascii=False, separators=(",", ":")))


def unpack_names(text: Any, where: str) -> tuple[str, ...]:
    """The names of `pack_names`, or of a plain list. Raises `StoreError` for anything else."""
    try:
        names = json.loads(text) if isinstance(text, str) else text
    except ValueError as error:
        raise StoreError(f"{where}: {error}") from error
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise StoreError(f"{where}: a list of names was expected")
    return tuple(names)


def _text(values: NDArray[Any], dtype: str) -> Packed:
    return Packed(b64encode(np.ascontiguousarray(values, dtype=dtype).tobytes()), "ascii")


def _forget(place: int, gone: ref[NDArray[Any]]) -> None:
    if place in _kept and _kept[place][0] is gone:
        del _kept[place]
