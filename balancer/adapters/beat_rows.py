"""Heartbeats of a whole fleet, read with one numpy view: the store reads ten thousand at a time.

The layout is that of `beat`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from balancer.adapters.beat import FIELDS, HELD, VERSION
from balancer.model import Reading

#: Those that are shares of a whole.
RATIOS: Final = ("cpu", "memory", "gpu", "gpu_memory", "pressure", "io")

#: A ratio above this is not a busy device but a broken reading (samplers overshoot 1 a little).
RATIO_LIMIT: Final = 1.5

#: More slots in use than any worker has: the number is broken.
BUSY_LIMIT: Final = 1_000_000

DTYPE: Final = np.dtype(
    [("version", "u1"), ("present", "<u2"), ("busy", "<u4"), ("loop_ticks", "<u8"), ("at", "<f8")]
    + [(name, "<f8") for name in FIELDS]
)

#: The bit of each number in `present`, and what each is at least and at most. Cold rooms are real: only a
#: temperature may be negative, and not below the absolute zero.
BITS: Final = np.left_shift(np.uint16(1), np.arange(len(FIELDS), dtype=np.uint16))
LEAST: Final = np.array([-273.15 if name == "temperature_celsius" else 0.0 for name in FIELDS])
MOST: Final = np.array([RATIO_LIMIT if name in RATIOS else math.inf for name in FIELDS])


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Why a beat, or some of its numbers, cannot be used. `whole`: nothing of it can."""

    reason: str
    detail: str = ""
    whole: bool = False


def unpack_many(raws: Sequence[bytes]) -> tuple[np.ndarray[Any, np.dtype[Any]], dict[int, Fault]]:
    """Rows of `DTYPE`, one a beat, and what is wrong with which row. Beats of older workers lack what is new.

    A row with a `whole` fault is all zeros; a broken number alone is only taken out of `present`.
    """
    faults = {i: fault for i, raw in enumerate(raws) if (fault := _whole_fault(raw)) is not None}
    size = DTYPE.itemsize
    joined = b"".join(bytes(size) if i in faults else raw.ljust(size, b"\0") for i, raw in enumerate(raws))
    rows = np.frombuffer(joined, DTYPE).copy()
    clear_faults(rows, faults)
    return rows, faults


def clear_faults(rows: np.ndarray[Any, np.dtype[Any]], faults: dict[int, Fault]) -> None:
    """Clear what cannot be in rows of `DTYPE` (or one with the same fields) and note it in `faults`: all of a
    row, or a number alone, which is then absent."""
    for i in np.flatnonzero(~np.isfinite(rows["at"]) | (rows["busy"] > BUSY_LIMIT)
                            | (rows["present"] >> len(FIELDS) != 0)).tolist():
        said = rows[list(DTYPE.names or ())][i:i + 1].astype(DTYPE).tobytes().hex()
        faults[i] = Fault(reason="no numbers of ours", detail=said, whole=True)
        rows[i] = np.zeros(1, rows.dtype)[0]
    _clear_broken(rows, faults)


def numbers(rows: np.ndarray[Any, np.dtype[Any]]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The readings in cleared rows as columns (rows, `FIELDS`), NaN where a number is absent. Each column is
    in one piece, as they are looked at one by one."""
    return np.asfortranarray(np.where(_there(rows), _values(rows), np.nan))


def readings(rows: np.ndarray[Any, np.dtype[Any]]) -> list[Reading]:
    """The readings in rows of `unpack_many`."""
    present = rows["present"].tolist()
    columns = [rows[name].tolist() for name in FIELDS]
    return [
        Reading(**{name: column[i] for bit, (name, column) in enumerate(zip(FIELDS, columns, strict=True))
                   if mask >> bit & 1})
        for i, mask in enumerate(present)
    ]


def _whole_fault(raw: bytes) -> Fault | None:
    if raw[:1] and raw[0] > VERSION:
        return Fault(reason=f"version {raw[0]} is newer than {VERSION}", detail=raw[:256].hex(), whole=True)
    held = HELD.get(raw[0]) if raw else None
    if held is None or len(raw) != DTYPE.itemsize - 8 * (len(FIELDS) - held):
        return Fault(reason=f"{len(raw)} bytes, not a beat of {DTYPE.itemsize}", detail=raw[:256].hex(),
                     whole=True)
    if int.from_bytes(raw[1:3], "little") >> held:
        return Fault(reason="no numbers of ours", detail=raw.hex(), whole=True)
    return None


def _clear_broken(rows: np.ndarray[Any, np.dtype[Any]], faults: dict[int, Fault]) -> None:
    """Take numbers that cannot be out of `present`, and note them in `faults`."""
    values = _values(rows)
    with np.errstate(invalid="ignore"):
        broken = _there(rows) & ~(np.isfinite(values) & (values >= LEAST) & (values <= MOST))
    for bit, i in np.argwhere(broken.T).tolist():
        said = f"{FIELDS[bit]} {values[i, bit]:g}"
        before = faults[i].detail + ", " if i in faults else ""
        faults[i] = Fault(reason="numbers that cannot be", detail=before + said)
        rows["present"][i] &= ~np.uint16(1 << bit)


def _there(rows: np.ndarray[Any, np.dtype[Any]]) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Which numbers are present (rows, `FIELDS`)."""
    present: np.ndarray[Any, np.dtype[np.bool_]] = rows["present"][:, None] & BITS != 0
    return present


def _values(rows: np.ndarray[Any, np.dtype[Any]]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The numbers (rows, `FIELDS`) as they stand in the rows: they lie side by side there."""
    begin, size = DTYPE.fields[FIELDS[0]][1], 8 * len(FIELDS)  # type: ignore[index]
    raw = np.ascontiguousarray(rows).view(np.uint8).reshape(len(rows), rows.dtype.itemsize)
    return np.ascontiguousarray(raw[:, begin:begin + size]).view("<f8")
