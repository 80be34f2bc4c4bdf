"""Columns of numbers as text that JSON can hold, for the document of the memory. Pure."""

from __future__ import annotations

from base64 import b64decode, b64encode
from binascii import Error
from typing import Any

import numpy as np
from numpy.typing import NDArray

from balancer.errors import StoreError


class Packed(str):
    """A column as text; known as such to whoever writes it, as there is nothing in it to escape."""

    __slots__ = ()


def pack(values: NDArray[Any], dtype: str = "<f8") -> Packed:
    """The numbers as little-endian bytes in base64: exact, and fifty times as fast as writing the digits."""
    return Packed(b64encode(np.ascontiguousarray(values, dtype=dtype).tobytes()), "ascii")


def unpack(text: Any, shape: tuple[int, ...], where: str, dtype: str = "<f8") -> NDArray[Any]:
    """The numbers of `pack`; `StoreError` where there are not as many as `shape` needs."""
    try:
        raw = b64decode(text, validate=True)
        return np.frombuffer(raw, dtype=dtype).reshape(shape).astype(np.dtype(dtype).newbyteorder("="))
    except (TypeError, ValueError, Error) as error:
        raise StoreError(f"{where}: {error}") from error
