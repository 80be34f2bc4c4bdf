"""The packed heartbeat: a worker's numbers in 119 bytes, written each second (`redis_beats.publish`).

Absent is a cleared bit of `present`, never 0. Little-endian, version first. Read by `beat_rows`, a whole
fleet at a time; the writer does without numpy, which a worker has no other use for.
"""

from __future__ import annotations

import struct
from dataclasses import fields
from typing import Final

from balancer.model import Reading

#: The layout's version, in the first byte.
VERSION: Final = 2

#: The numbers of a reading, in the order of their bits in `present`.
FIELDS: Final = tuple(f.name for f in fields(Reading))

#: How many of `FIELDS` the beats of each version hold, and nothing after them: what is new comes last.
HELD: Final = {1: 11, VERSION: len(FIELDS)}

#: version, present, busy, loop ticks, at, then the numbers.
LAYOUT: Final = struct.Struct(f"<BHIQd{len(FIELDS)}d")


def pack(reading: Reading, *, busy: int, loop_ticks: int, at: float) -> bytes:
    """One beat. `at` is the worker's clock (s); `busy` and `loop_ticks` as in `model.Worker`."""
    values = [getattr(reading, name) for name in FIELDS]
    present = sum(1 << bit for bit, value in enumerate(values) if value is not None)
    numbers = [0.0 if value is None else float(value) for value in values]
    return LAYOUT.pack(VERSION, present, busy, loop_ticks, at, *numbers)
