"""What a load will be by its last records: a line, the last value, a damped trend.

Each is a formula over the matrix of all subjects at once and gives a value and the half width of its own
80 % interval. `seasons` has the fourth forecaster, `forecast` picks among them. Pure.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

#: Records a series needs before anything is foreseen: a line through three points says nothing.
MIN_POINTS: Final = 4

#: Student's t for a one-sided 90 % (the two-sided 80 % interval), by degrees of freedom.
_T_DOF: Final = (1, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 60, 1_000)
_T_90: Final = (3.078, 1.886, 1.638, 1.533, 1.476, 1.440, 1.397, 1.372, 1.341, 1.325, 1.310, 1.296, 1.282)

#: Holt's weights of the newest value and of the newest slope, and how much of a slope is left a step
#: later: in the middle of what Gardner (1985) recommends; trends of load are short.
LEVEL: Final = 0.5
SLOPE: Final = 0.2
DAMPING: Final = 0.9

#: Subjects at a time: all that is made on the way then fits into the processor's cache.
TOGETHER: Final = 2048

#: Steps whose mean slope the trend begins with, and errors that its interval is taken from.
_FIRST: Final = 3
_ERRORS: Final = 12


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Guess:
    """The value (n,) a forecaster foresees for each subject, NaN where none, and the half width (n,) of its
    80 % interval."""

    value: Floats
    half: Floats


def guesses(x: Floats, table: Floats, ahead_s: float) -> tuple[Guess, Guess, Guess]:
    """Regression, last value and damped trend, `ahead_s` after the last of the times `x` (s, ascending).

    `table` (times, n) holds loads, NaN where a subject was not seen. Nothing is foreseen of a subject that
    was not there at the end, or at fewer than `MIN_POINTS` of the times.
    """
    line, last, damped = _guesses(3, x, table, ahead_s)
    return line, last, damped


def line(x: Floats, table: Floats, ahead_s: float) -> Guess:
    """The first of `guesses`, the regression, alone."""
    return _guesses(1, x, table, ahead_s)[0]


def _guesses(forecasters: int, x: Floats, table: Floats, ahead_s: float) -> list[Guess]:
    """What the first so many forecasters foresee."""
    found = np.empty((forecasters, 2, table.shape[1]))
    if x.size < MIN_POINTS:
        found[:] = np.nan
        return [Guess(value=value, half=half) for value, half in found]
    for begin in range(0, table.shape[1], TOGETHER):
        some = slice(begin, begin + TOGETHER)
        _into(found[:, :, some], x - x[-1], table[:, some], ahead_s)
    return [Guess(value=value, half=half) for value, half in found]


def _into(found: Floats, x: Floats, y: Floats, ahead_s: float) -> None:
    """Write the guesses about some subjects into `found` (forecasters, value or half, n)."""
    steps = _steps(x, ahead_s)
    _whole(found, x, y, ahead_s, steps)
    holed = np.flatnonzero(~np.isfinite(found[0, 0]))
    if not holed.size:
        return
    found[:, :, holed] = np.nan
    there = np.isfinite(y[:, holed])
    holed = holed[there[-1] & (there.sum(axis=0) >= MIN_POINTS)]
    some = np.empty((*found.shape[:2], holed.size))
    _holed(some, x, y[:, holed], ahead_s, steps)
    found[:, :, holed] = some


def _whole(found: Floats, x: Floats, y: Floats, ahead_s: float, steps: float) -> None:
    """The guesses `found` about subjects that were always there, of as many forecasters as it has rows; NaN
    about others."""
    n, newest = x.size, y[-1]
    z = y - newest  # a constant load then errs by nothing, not by rounding
    middle, trend = float(x.mean()), _damped(n)
    dx, reach = x - middle, ahead_s - middle
    spread = max(float(dx @ dx), 1e-12)
    mean, slope, onward = np.stack(
        [np.full(n, 1 / n), dx / spread, trend.level + trend.slope * _faded(steps)]) @ z
    rest = np.maximum(_squares(z) - n * mean * mean - spread * slope * slope, 0.0)
    wide = _t(n - 2) * math.sqrt((1 + 1 / n + reach * reach / spread) / max(n - 2, 1))
    found[0, 0], found[0, 1] = newest + mean + slope * reach, wide * np.sqrt(rest)
    if len(found) == 1:
        return
    wander = _t(n - 1) * math.sqrt(steps / (n - 1))
    found[1, 0], found[1, 1] = newest, wander * np.sqrt(_squares(z[1:] - z[:-1]))
    few = len(trend.errors)
    swing = _t(few) * _growth(steps) / math.sqrt(few)
    found[2, 0], found[2, 1] = newest + onward, swing * np.sqrt(_squares(trend.errors @ z))


def _holed(found: Floats, x: Floats, y: Floats, ahead_s: float, steps: float) -> None:
    """The same about subjects that were not always there: the line through what was seen, the others over
    the last value seen before each hole."""
    if not y.shape[1]:
        return
    _whole(found, x, _filled(y), ahead_s, steps)
    there = np.isfinite(y)
    n = there.sum(axis=0)
    times = np.where(there, x[:, None], 0.0)
    middle, mean = times.sum(axis=0) / n, np.where(there, y, 0.0).sum(axis=0) / n
    dx, dy = np.where(there, times - middle, 0.0), np.where(there, y - mean, 0.0)
    spread = np.maximum(_squares(dx), 1e-12)
    slope = (dx * dy).sum(axis=0) / spread
    reach = ahead_s - middle
    found[0, 0] = mean + slope * reach
    found[0, 1] = np.interp(n - 2, _T_DOF, _T_90) * np.sqrt(
        _squares(dy - slope * dx) / np.maximum(n - 2, 1) * (1 + 1 / n + reach * reach / spread))


def _squares(values: Floats) -> Floats:
    """Σ v² of each subject."""
    found: Floats = np.einsum("ti,ti->i", values, values)
    return found


def _filled(y: Floats) -> Floats:
    """Holes filled by the value before them, those at the beginning by the first value."""
    there = np.isfinite(y)
    at = np.maximum.accumulate(np.where(there, np.arange(len(y))[:, None], -1), axis=0)
    return np.take_along_axis(y, np.where(at < 0, there.argmax(axis=0), at), axis=0)


def _steps(x: Floats, ahead_s: float) -> float:
    """How many records ahead the time foreseen is, at least 1."""
    step_s: float = sorted((x[1:] - x[:-1]).tolist())[(x.size - 1) // 2]
    return max(1.0, ahead_s / step_s) if step_s > 0 else 1.0


def _t(dof: int) -> float:
    return float(np.interp(dof, _T_DOF, _T_90))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trend:
    """Holt's damped trend over n values as what it is, linear in them: `level` and `slope` at the end (n,)
    and the last one-step `errors` (few, n) are these weights times the values."""

    level: Floats
    slope: Floats
    errors: Floats


@lru_cache(maxsize=64)
def _damped(n: int) -> Trend:
    """The recursion (Gardner & McKenzie 1985), run once over the unit vectors: error e = y − l − φb, then
    l ← l + φb + αe, b ← φb + αβe."""
    unit = np.eye(n)
    first = min(_FIRST, n - 1)
    level, slope = unit[0], (unit[first] - unit[0]) / first
    errors = np.zeros((n - 1, n))
    for i in range(1, n):
        errors[i - 1] = unit[i] - level - DAMPING * slope
        level = level + DAMPING * slope + LEVEL * errors[i - 1]
        slope = DAMPING * slope + LEVEL * SLOPE * errors[i - 1]
    return Trend(level=level, slope=slope, errors=errors[-min(_ERRORS, n - 1):])


def _faded(steps: float) -> float:
    """Σ φⁱ over so many steps: how far a slope of 1 a step goes, damped."""
    return DAMPING * (1 - math.pow(DAMPING, steps)) / (1 - DAMPING)


def _growth(steps: float) -> float:
    """How many times wider than one step's the error of so many steps is: √(1 + Σ cⱼ²), cⱼ = α + αβ·Σⱼφ
    (Hyndman et al. 2008, table 6.1)."""
    each = [LEVEL + LEVEL * SLOPE * _faded(float(j)) for j in range(1, min(10_000, math.ceil(steps)))]
    return math.sqrt(1 + math.fsum(c * c for c in each))
