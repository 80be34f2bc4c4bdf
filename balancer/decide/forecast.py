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
from typing import Any, Final, overload

import numpy as np
from numpy.typing import NDArray

from balancer.decide.load import Utilisations
from balancer.decide.series import Series
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

#: The forecasters, the first as long as no other has clearly erred less.
METHODS: Final = ("regression", "last")

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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Foreseen(Sequence[Forecast]):
    """The forecasts made at one tick, in columns: what nobody looks at is not made into a record.

    `values` (methods, names) are what each of `METHODS` foresaw, `told` (names,) the place of the one whose
    value is told, `given` the half width that it gave and `halves` the same stretched by past errors.
    """

    made_at: float = 0.0
    due_at: float = 0.0
    names: tuple[str, ...] = ()
    values: Floats = field(default_factory=lambda: np.zeros((len(METHODS), 0)))
    told: NDArray[np.intp] = field(default_factory=lambda: np.zeros(0, dtype=np.intp))
    given: Floats = field(default_factory=lambda: np.zeros(0))
    halves: Floats = field(default_factory=lambda: np.zeros(0))

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, row: int) -> Forecast: ...
    @overload
    def __getitem__(self, row: slice) -> tuple[Forecast, ...]: ...
    def __getitem__(self, row: int | slice) -> Forecast | tuple[Forecast, ...]:
        if isinstance(row, slice):
            return tuple(self[i] for i in range(*row.indices(len(self))))
        method, half = int(self.told[row]), float(self.halves[row])
        value = float(self.values[method, row])
        return Forecast(
            subject=self.names[row], made_at=self.made_at, due_at=self.due_at, value=value,
            low=max(0.0, value - half), high=min(1.0, value + half), confidence=max(0.0, 1.0 - half),
            method=METHODS[method],
        )

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Sequence) and not isinstance(other, str):
            return self is other or tuple(self) == tuple(other)
        return NotImplemented

    def __hash__(self) -> int:
        return hash((self.made_at, self.names))

    def pending(self, row: int) -> Pending:
        """The forecast as it waits to be judged."""
        methods = dict(zip(METHODS, self.values[:, row].tolist(), strict=True))
        return Pending(methods=methods, half=float(self.given[row]), forecast=self[row])

    def value(self) -> Floats:
        """The values told (names,)."""
        chosen: Floats = self.values[self.told, np.arange(len(self))]
        return chosen

    def columns(self) -> dict[str, Sequence[Any]]:
        """The fields of the forecasts by name."""
        value = self.value()
        return {
            "subject": self.names, "made_at": [self.made_at] * len(self), "due_at": [self.due_at] * len(self),
            "method": [METHODS[i] for i in self.told.tolist()], "value": value.tolist(),
            "low": np.maximum(0.0, value - self.halves).tolist(),
            "high": np.minimum(1.0, value + self.halves).tolist(),
            "confidence": np.maximum(0.0, 1.0 - self.halves).tolist(),
        }

    def confident(self, least: float) -> Utilisations:
        """The values told with at least this confidence, by subject."""
        sure = np.maximum(0.0, 1.0 - self.halves) >= least
        return Utilisations(self.names, np.where(sure, self.value(), np.nan))


def confident(forecasts: Sequence[Forecast], least: float = 0.0) -> Mapping[str, float]:
    """The values of the forecasts of at least this confidence, by subject."""
    if isinstance(forecasts, Foreseen):
        return forecasts.confident(least)
    return {f.subject: f.value for f in forecasts if f.confidence >= least}


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
) -> Foreseen:
    """One forecast a subject, `prediction_window` minutes after the last of `times` (s, ascending).

    `series` holds, by subject, utilisations (0–1) at those times, `None` where the subject was not
    there. Subjects with fewer than `MIN_POINTS` values are not foreseen.
    """
    known = Series.of(series, len(times)).known(MIN_POINTS)
    if not known:
        return Foreseen()
    ahead_s, at = 60.0 * settings.prediction_window, times[-1]
    x = np.asarray(times, dtype=np.float64) - at
    found = (_regression(x, known.table, ahead_s), _last_value(x, known.table, ahead_s))
    values = np.clip(np.stack([middle for middle, _ in found]), 0.0, 1.0)
    told, reach = _past(known.names, tracks)
    given = np.stack([half for _, half in found])[told, np.arange(len(known))]
    factor = _MAE_TO_HALF * reach
    halves = np.where(factor <= 1.0, given, factor * np.maximum(given, _FINEST))
    return Foreseen(made_at=at, due_at=at + ahead_s, names=known.names, values=values, told=told, given=given,
                    halves=halves)


def _past(names: Sequence[str], tracks: Mapping[str, Track]) -> tuple[NDArray[np.intp], Floats]:
    """By subject the method that is told, and how far its errors reached; 0 where none was judged."""
    told, reach = np.zeros(len(names), dtype=np.intp), np.zeros(len(names))
    past = list(map(tracks.get, names)) if tracks else []
    for row, track in enumerate(past):
        if track is not None:
            reach[row] = track.reach
            if track.count >= TRUSTED_COUNT:
                told[row] = METHODS.index(_preferred(track))
    return told, reach


def keep(
    pending: Sequence[Pending], made: Foreseen, tracks: Mapping[str, Track]
) -> tuple[Pending, ...]:
    """`pending`, the system's of `made`, and as many more as fit, the subjects judged least often first."""

    system = [row for row, name in enumerate(made.names[:1]) if name == SYSTEM] or [
        row for row, name in enumerate(made.names) if name == SYSTEM]
    room = max(0, PENDING_LIMIT - sum(waits.forecast.subject != SYSTEM for waits in pending))
    workers: list[int] = []
    if room:
        count = [track.count if track else 0 for track in map(tracks.get, made.names)]
        workers = [i for i in np.argsort(count, kind="stable").tolist() if i not in system][:room]
    return (*pending, *(made.pending(row) for row in (*system, *workers)))


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
    if there.all():
        return _dense_regression(x, y, ahead_s)
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


def _dense_regression(x: Floats, y: Floats, ahead_s: float) -> tuple[Floats, Floats]:
    """The same where every subject was always there."""
    n = x.size
    dx, mean_y = x - x.mean(), y.mean(axis=1)
    spread = max(float(dx @ dx), 1e-12)
    steep = y @ dx / spread
    rest = y - mean_y[:, None] - steep[:, None] * dx
    sigma = np.sqrt(np.einsum("ij,ij->i", rest, rest) / max(n - 2, 1))
    reach = ahead_s - float(x.mean())
    half = float(np.interp(n - 2, _T_DOF, _T_90)) * sigma * math.sqrt(1 + 1 / n + reach * reach / spread)
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
