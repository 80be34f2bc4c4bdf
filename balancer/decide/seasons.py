"""Loads that come again: a coarse history of each subject, its period, and what that lets expect.

The records of the performance window are few minutes; a job that runs every ten minutes shows only over
more. So the mean of each subject over every third of `prediction_window` is kept, `BUCKETS` of them in a byte
each, and a few subjects a tick are searched for a period by autocorrelation. A period that is none does no
harm: `forecast` tells the seasonal forecaster only where it has erred less than the others. Pure.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from balancer.decide.columnar import Column, Columnar
from balancer.decide.forecasters import Floats, Guess
from balancer.settings import Settings

#: Buckets kept: with the default `prediction_window` two hours, so periods of up to an hour.
BUCKETS: Final = 128

#: Buckets a `prediction_window`.
A_WINDOW: Final = 3

#: The shortest period told apart from noise, in buckets.
SHORTEST: Final = 3

#: Subjects searched for a period at one tick, each in turn.
SEARCHED: Final = 64

#: Autocorrelation from which a period counts, and the share of the best one that a shorter one needs.
CLEAR: Final = 0.4
SHORTER: Final = 0.9

#: A byte that says the subject was not seen; the others are 250ths of the load.
_UNSEEN: Final = 255
_SCALE: Final = 250.0

#: From a standard deviation to the half width of the 80 % interval.
_HALF: Final = 1.2816


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Seasons(Columnar):
    """The history of n subjects: `levels` (buckets, n), the oldest first, each `width_s` long, the last until
    `until` (s). `period_s` (n,) is 0 where none was found, `spread` (n,) the deviation of the load from what
    it was a period before. `next_row` is who is searched next."""

    LAYOUT: ClassVar[Mapping[str, Column]] = {
        "levels": Column(dtype="|u1", axes="bn", fill=_UNSEEN),
        "period_s": Column(dtype="<f4", axes="n"),
        "spread": Column(dtype="<f4", axes="n"),
    }

    width_s: float = 0.0
    until: float = 0.0
    next_row: float = 0.0
    levels: NDArray[np.uint8]
    period_s: NDArray[np.float32]
    spread: NDArray[np.float32]

    @property
    def held(self) -> int:
        """Buckets from the first in which anybody was seen."""
        return len(self.levels)


def none(subjects: int) -> Seasons:
    """No history of so many subjects."""
    return Seasons.of_nobody({"b": 0, "n": subjects})


def width_s(settings: Settings) -> float:
    """How long a bucket is (s)."""
    return max(60.0 * settings.prediction_window / A_WINDOW, settings.check_interval)


def longer(
    seasons: Seasons, times: Sequence[float], means: Callable[[Sequence[int]], Floats], settings: Settings
) -> Seasons:
    """The history with the buckets that are over by the last of `times` (s, of the records, ascending).

    Buckets lie on a grid of time. `means` gives the means (n,) over some of the records, NaN where a subject
    was not seen. A bucket without a record is unseen; a clock set back, another width, or a pause longer than
    the history begin anew.
    """
    width = width_s(settings)
    over = math.floor(times[-1] / width) * width
    passed = round((over - seasons.until) / width)
    if seasons.width_s != width or not 0 <= passed <= BUCKETS:
        seasons, passed = replace(none(seasons.period_s.size), width_s=width, until=over - width), 1
    if not passed:
        return seasons
    made = np.full((passed, seasons.period_s.size), _UNSEEN, dtype=np.uint8)
    for place in range(passed):
        begin = over - (passed - place) * width
        within = range(bisect_left(times, begin), bisect_left(times, begin + width))
        if within:
            made[place] = _levels(means(within))
    levels = np.concatenate([seasons.levels, made])[-BUCKETS:]
    return replace(seasons, levels=levels, until=over)


def searched(seasons: Seasons) -> Seasons:
    """The periods of the next `SEARCHED` subjects, found anew."""
    count = seasons.period_s.size
    if seasons.held < 2 * SHORTEST + 2 or not count:
        return seasons
    begin = int(seasons.next_row) % count
    rows = (begin + np.arange(min(SEARCHED, count))) % count
    y = _loads(seasons.levels[:, rows]).T
    lag = _lags(y)
    period, spread = seasons.period_s.copy(), seasons.spread.copy()
    period[rows] = lag * seasons.width_s
    spread[rows] = _deviations(y, lag)
    return replace(seasons, period_s=period, spread=spread, next_row=float((begin + rows.size) % count))


def guess(seasons: Seasons, at: float, ahead_s: float) -> Guess:
    """The load that was there whole periods before the time `ahead_s` after `at` (s): seasonal-naïve."""
    value = np.full(seasons.period_s.size, np.nan)
    rows = np.flatnonzero(seasons.period_s > 0)
    if rows.size:
        width, period = seasons.width_s, seasons.period_s[rows].astype(np.float64)
        # In the middle of the last bucket or before; buckets' times are those of their middles.
        newest = seasons.until - width / 2
        back = np.ceil(np.maximum(at + ahead_s - newest, 1e-9) / period) * period
        place = seasons.held - 1 + (at + ahead_s - back - newest) / width
        below = np.floor(place).astype(np.intp)
        inside = (below >= 0) & (below < seasons.held)
        below, part = np.where(inside, below, 0), place - below
        above = np.minimum(below + 1, seasons.held - 1)
        first, second = (_loads(seasons.levels[each, rows]) for each in (below, above))
        value[rows] = np.where(inside, (1 - part) * first + part * second, np.nan)
    return Guess(value=value, half=_HALF * seasons.spread.astype(np.float64))


def _levels(loads: Floats) -> NDArray[np.uint8]:
    known = np.isfinite(loads)
    scaled = np.rint(_SCALE * np.clip(np.where(known, loads, 0.0), 0.0, 1.0))
    return np.where(known, scaled, _UNSEEN).astype(np.uint8)


def _loads(levels: NDArray[np.uint8]) -> Floats:
    return np.where(levels == _UNSEEN, np.nan, levels / _SCALE)


def _lags(y: Floats) -> Floats:
    """The period of each row of `y` (n, buckets) in buckets, 0 where it has none.

    Of the autocorrelation (over the pairs that are seen, by the fast Fourier transform) the shortest local
    maximum that is nearly the highest, after it was low once, refined by a parabola. Two whole periods
    must be there.
    """
    length = y.shape[1]
    lags = np.arange(length)
    there = np.isfinite(y)
    seen = there.sum(axis=1)
    mean = np.where(there, y, 0.0).sum(axis=1) / np.maximum(seen, 1)
    z = np.where(there, y - mean[:, None], 0.0)
    pairs = length - lags if there.all() else np.rint(_correlated(there.astype(np.float64)))
    products = _correlated(z)
    variance = products[:, 0] / np.maximum(seen, 1)
    same = products / np.maximum(pairs, 1) / np.maximum(variance, 1e-12)[:, None]
    longest = np.minimum(length // 2, seen // 2)
    low = np.logical_or.accumulate(same < CLEAR / 2, axis=1)
    peak = np.zeros(same.shape, dtype=bool)
    peak[:, 1:-1] = (same[:, 1:-1] >= same[:, :-2]) & (same[:, 1:-1] > same[:, 2:])
    peak &= low & (lags >= SHORTEST) & (lags <= longest[:, None]) & (same >= CLEAR)
    peak &= (variance > _SCALE**-2)[:, None]
    height = np.where(peak, same, -1.0)
    near = peak & (height >= SHORTER * height.max(axis=1)[:, None])
    lag = near.argmax(axis=1)
    rows = np.arange(len(y))
    before, here, after = (same[rows, np.clip(lag + i, 0, length - 1)] for i in (-1, 0, 1))
    bend = before - 2 * here + after
    shift = np.where(bend < 0, 0.5 * (before - after) / np.where(bend < 0, bend, 1.0), 0.0)
    return np.where(near.any(axis=1), lag + np.clip(shift, -0.5, 0.5), 0.0)


def _correlated(values: Floats) -> Floats:
    """Σ v[t]·v[t + lag] of each row, by lag."""
    length = values.shape[1]
    size = 1 << (2 * length - 1).bit_length()
    power = np.abs(np.fft.rfft(values, size, axis=1)) ** 2
    found: Floats = np.fft.irfft(power, size, axis=1)[:, :length]
    return found


def _deviations(y: Floats, lag: Floats) -> Floats:
    """How far each row is from itself a period earlier: the root of the mean square."""
    at = np.rint(lag).astype(np.intp)
    places = np.arange(y.shape[1])[None, :] - at[:, None]
    before = np.take_along_axis(y, np.maximum(places, 0), axis=1)
    squares = np.where(places >= 0, (y - before) ** 2, np.nan)
    known = np.isfinite(squares)
    found: Floats = np.sqrt(np.where(known, squares, 0.0).sum(axis=1) / np.maximum(known.sum(axis=1), 1))
    return found
