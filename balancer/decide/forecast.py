"""What the load will be, and how good earlier forecasts were: step 4 of the tick.

Two forecasters look at every series: the seed's linear regression and the last value. Each
subject ("system" or a worker) is told the one that has erred less so far. A forecast is kept until
its time has come and only then judged. Confidence speaks of the *interval* of the forecast and
not of how well a line fits: a flat load with a little noise is easy to foresee, whatever its R².
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray

from balancer.model import Forecast, JudgedForecast
from balancer.settings import Settings

#: The subject of forecasts about the fleet's average load; workers' names hold an "@".
SYSTEM: Final = "system"

#: Records a series needs before anything is foreseen: a line through three points says nothing.
MIN_POINTS: Final = 4

#: Floor of the weight of a new error in the moving averages of a subject.
ERROR_ALPHA: Final = 0.2

#: Judged forecasts before another method than the seed's regression may be preferred, and by how
#: much smaller its error must be.
TRUSTED_COUNT: Final = 3
CLEARLY_BETTER: Final = 0.9

#: Forecasts of workers that may wait to be judged. Beyond it those judged least often go first.
PENDING_LIMIT: Final = 2_000

#: Student's t for a one-sided 90 % (the two-sided 80 % interval), by degrees of freedom.
_T_DOF: Final = (1, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 60, 1_000)
_T_90: Final = (3.078, 1.886, 1.638, 1.533, 1.476, 1.440, 1.397, 1.372, 1.341, 1.325, 1.310, 1.296, 1.282)

#: From a mean absolute error to the half width of the 80 % interval of a normal error: 1.2816 · √(π/2).
_MAE_TO_HALF: Final = 1.606

#: Half width (utilisation) below which an error is not held against an interval.
_FINEST: Final = 0.02

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Track:
    """How one subject's forecasts did: how many were judged, and moving averages.

    `accuracy` is of what was told (0–1), `errors` absolute by method, `reach` the error as a share of
    the half width that the told method gave: 0.62 where its intervals are right.
    """

    count: int
    accuracy: float
    reach: float = 0.0
    errors: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """A forecast that is not due yet, what each method foresaw, so that all are judged, and the half
    width that the told method gave, before past errors stretched it."""

    forecast: Forecast
    half: float
    methods: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What came due, what still waits, and the tracks after it."""

    judged: tuple[JudgedForecast, ...]
    pending: tuple[Pending, ...]
    tracks: Mapping[str, Track]


def foresee(
    times: Sequence[float],
    series: Mapping[str, Sequence[float | None]],
    tracks: Mapping[str, Track],
    settings: Settings,
) -> tuple[Pending, ...]:
    """One forecast a subject, `prediction_window` minutes after the last of `times` (s, ascending).

    `series` holds, by subject, utilisations (0–1) at those times, `None` where the subject was not
    there. Subjects with fewer than `MIN_POINTS` values are not foreseen.
    """
    names = [n for n, values in series.items() if sum(v is not None for v in values) >= MIN_POINTS]
    if not names:
        return ()
    ahead_s = 60.0 * settings.prediction_window
    y = np.array([[math.nan if v is None else v for v in series[n]] for n in names], dtype=np.float64)
    x = np.asarray(times, dtype=np.float64) - times[-1]
    values, halves = {}, {}
    values["regression"], halves["regression"] = _regression(x, y, ahead_s)
    values["last"], halves["last"] = _last_value(x, y, ahead_s)
    made = []
    for row, name in enumerate(names):
        track = tracks.get(name)
        method = _preferred(track)
        told = {m: float(min(1.0, max(0.0, v[row]))) for m, v in values.items()}
        given = float(halves[method][row])
        half, value = _stretched(given, track), told[method]
        made.append(Pending(methods=told, half=given, forecast=Forecast(
            subject=name, made_at=times[-1], due_at=times[-1] + ahead_s, value=value,
            low=max(0.0, value - half), high=min(1.0, value + half),
            confidence=max(0.0, 1.0 - half), method=method,
        )))
    return tuple(made)


def keep(
    pending: Sequence[Pending], made: Sequence[Pending], tracks: Mapping[str, Track]
) -> tuple[Pending, ...]:
    """`pending`, the system's of `made`, and as many more as fit, the subjects judged least often first."""

    def judged(new: Pending) -> int:
        track = tracks.get(new.forecast.subject)
        return track.count if track else 0

    system = [new for new in made if new.forecast.subject == SYSTEM]
    workers = sorted((new for new in made if new.forecast.subject != SYSTEM), key=judged)
    room = max(0, PENDING_LIMIT - sum(waits.forecast.subject != SYSTEM for waits in pending))
    return (*pending, *system, *workers[:room])


def judge(
    pending: Sequence[Pending],
    times: Sequence[float],
    series: Mapping[str, Sequence[float | None]],
    tracks: Mapping[str, Track],
    settings: Settings,
) -> Judgement:
    """Hold every forecast that is due against what came; the rest goes on waiting.

    The truth is read off the series between the two records around the due time. A forecast whose
    subject was not seen then (a worker that left, a balancer that slept) is dropped unjudged.
    """
    widest_gap = max(2.0 * settings.check_interval, 30.0 * settings.prediction_window)
    now = times[-1] if times else -math.inf
    kept_tracks = {name: track for name, track in tracks.items() if name in series}
    judged, waiting = [], []
    for waits in pending:
        if waits.forecast.due_at > now:
            waiting.append(waits)
            continue
        subject = waits.forecast.subject
        truth = _value_at(waits.forecast.due_at, times, series.get(subject, ()), widest_gap)
        if truth is None:
            continue
        judged.append(_judged(waits.forecast, truth))
        kept_tracks[subject] = _learned(kept_tracks.get(subject), waits, truth)
    return Judgement(judged=tuple(judged), pending=tuple(waiting), tracks=MappingProxyType(kept_tracks))


def _regression(x: Floats, y: Floats, ahead_s: float) -> tuple[Floats, Floats]:
    """Value and half width of the 80 % prediction interval of a least-squares line, row by row.

    The half width is t · s · √(1 + 1/n + (x₀ − x̄)² / Sxx), the textbook interval for one new value.
    """
    there = np.isfinite(y)
    n = there.sum(axis=1)
    xs = np.where(there, x, 0.0)
    mean_x = xs.sum(axis=1) / n
    mean_y = np.where(there, y, 0.0).sum(axis=1) / n
    dx = np.where(there, x - mean_x[:, None], 0.0)
    dy = np.where(there, y - mean_y[:, None], 0.0)
    spread = np.maximum((dx * dx).sum(axis=1), 1e-12)
    steep = (dx * dy).sum(axis=1) / spread
    rest = ((dy - steep[:, None] * dx) ** 2).sum(axis=1)
    sigma = np.sqrt(rest / np.maximum(n - 2, 1))
    reach = ahead_s - mean_x
    half = np.interp(n - 2, _T_DOF, _T_90) * sigma * np.sqrt(1 + 1 / n + reach * reach / spread)
    return mean_y + steep * reach, half


def _last_value(x: Floats, y: Floats, ahead_s: float) -> tuple[Floats, Floats]:
    """The last known value, and the half width of the 80 % interval of a random walk from it."""
    places = np.arange(y.shape[1])
    last = np.where(np.isfinite(y), places, -1).max(axis=1)
    value = y[np.arange(len(y)), last]
    steps = np.diff(y, axis=1)
    known = np.isfinite(steps)
    count = known.sum(axis=1)
    squares = np.where(known, steps, 0.0) ** 2
    step = np.sqrt(squares.sum(axis=1) / np.maximum(count, 1))
    tick_s = float(np.median(np.diff(x)))
    ahead = max(1.0, ahead_s / tick_s) if tick_s > 0 else 1.0
    half = np.interp(count, _T_DOF, _T_90) * step * math.sqrt(ahead)
    return value, np.where(count > 0, half, 1.0)


def _preferred(track: Track | None) -> str:
    """The method a subject is told: the seed's regression until another has clearly erred less."""
    if track is None or track.count < TRUSTED_COUNT or "regression" not in track.errors:
        return "regression"
    best = min(track.errors, key=lambda method: (track.errors[method], method))
    return best if track.errors[best] < CLEARLY_BETTER * track.errors["regression"] else "regression"


def _stretched(half: float, track: Track | None) -> float:
    """The half width, wider by as much as past errors exceeded what past half widths allowed."""
    factor = _MAE_TO_HALF * track.reach if track else 0.0
    return half if factor <= 1.0 else factor * max(half, _FINEST)


def _judged(forecast: Forecast, truth: float) -> JudgedForecast:
    return JudgedForecast(
        forecast=forecast,
        truth=truth,
        accuracy=max(0.0, 1.0 - abs(truth - forecast.value)),
        inside=forecast.low - 1e-9 <= truth <= forecast.high + 1e-9,
    )


def _learned(track: Track | None, waits: Pending, truth: float) -> Track:
    """The track with one more forecast judged: alpha = max(1/n, `ERROR_ALPHA`)."""
    count = (track.count if track else 0) + 1
    alpha = max(1.0 / count, ERROR_ALPHA)
    before = track.errors if track else {}
    errors = dict(before)
    for method, value in waits.methods.items():
        error = abs(truth - value)
        errors[method] = error if method not in before else (1 - alpha) * before[method] + alpha * error
    told = max(0.0, 1.0 - abs(truth - waits.forecast.value))
    reach = abs(truth - waits.forecast.value) / max(waits.half, _FINEST)
    return Track(
        count=count,
        accuracy=told if track is None else (1 - alpha) * track.accuracy + alpha * told,
        reach=reach if track is None else (1 - alpha) * track.reach + alpha * reach,
        errors=MappingProxyType(errors),
    )


def _value_at(
    at: float, times: Sequence[float], values: Sequence[float | None], widest_gap: float
) -> float | None:
    """The series at time `at` (s), between the records around it; `None` where it was not seen."""
    if not values or len(values) != len(times):
        return None
    place = bisect_left(times, at)
    if place == len(times):
        return None
    after = values[place]
    if times[place] == at or place == 0:
        return after if times[place] - at <= widest_gap else None
    before, gap = values[place - 1], times[place] - times[place - 1]
    if before is None or after is None or gap > widest_gap:
        return None
    return before + (after - before) * (at - times[place - 1]) / gap
