"""Sizes as people write them, read as the options of tasks read them: 16GB is 16 · 10⁹, 16GiB 16 · 2³⁰.

One reading for both sides, or a worker declared with 12GB would not fit a task that needs 12GB.
"""

from __future__ import annotations

from typing import Final

from balancer.errors import HardwareError, SettingError
from balancer.option_values import as_bytes

#: More than any device has (bytes): what is above is a slip of the keyboard.
MOST: Final = 2**60


def parse_bytes(text: str, name: str = "size") -> int:
    """`text` in bytes. Raises `HardwareError` naming `name`, the text and what would be right."""
    try:
        amount = as_bytes(name, text)
    except (SettingError, OverflowError) as error:
        raise HardwareError(f"{name}={text!r} is no size; write it as 16GB, 16GiB or 512MB") from error
    if amount > MOST:
        raise HardwareError(f"{name}={text!r} is out of range: at most 2**60 bytes")
    return amount
