"""Sizes as people write them: "16GB", "16GiB", "512 MiB", "1e9"."""

from __future__ import annotations

import math
import re
from typing import Final

from balancer.errors import HardwareError

#: GB is 10**9 bytes and GiB 2**30: a card sold as "16GB" has at least 16 * 10**9.
UNITS: Final = {
    "": 1, "b": 1,
    "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12,
    "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40,
}  # fmt: skip

SIZE: Final = re.compile(r"(?P<number>[0-9]+(\.[0-9]+)?(e[0-9]+)?)\s*(?P<unit>[a-z]*)")


def parse_bytes(text: str, name: str = "size") -> int:
    """`text` in bytes. Raises `HardwareError` naming `name`, the text and what would be right."""
    match = SIZE.fullmatch(text.strip().lower())
    factor = UNITS.get(match["unit"]) if match else None
    if match is None or factor is None:
        raise HardwareError(f"{name}={text!r} is no size; write it as 16GB, 16GiB or 512MB")
    amount = float(match["number"]) * factor
    if not math.isfinite(amount) or not 1 <= amount <= 2**60:
        raise HardwareError(f"{name}={text!r} is out of range: a size is between 1 B and 2**60 B")
    return int(amount)
