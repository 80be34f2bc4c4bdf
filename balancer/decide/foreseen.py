"""The forecasts of one tick and the verdicts on earlier ones, in columns.

Both read as sequences of records (`Forecast`, `JudgedForecast`), which are made only where somebody looks at
one: of ten thousand workers mostly nobody does. `forecast` fills them, `detect` and the ledger read them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, overload

import numpy as np
from numpy.typing import NDArray

from balancer.decide.columnar import Column, Columnar, Places
from balancer.decide.kept import kept
from balancer.decide.load import Utilisations
from balancer.model import Forecast, JudgedForecast

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]

#: The subject of forecasts about the fleet's average load; workers' names hold an "@".
SYSTEM: Final = "system"

#: The forecasters (`forecasters`), the first as long as no other has clearly erred less.
METHODS: Final = ("regression", "last", "damped", "seasonal")

#: How far a truth may be outside an interval by rounding.
_ROUNDING: Final = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Batch(Columnar):
    """Forecasts made at one time (s): `values` (m, n) by method, NaN where it had nothing to say; `told` (n,)
    the place of the method whose value is told, `given` (n,) the half width of its interval, `halves` (n,)
    the same stretched by past errors, and `confidences` (n,), 0–1. Loads are 0–1."""

    LAYOUT: ClassVar[Mapping[str, Column]] = {
        "values": Column(dtype="<f4", axes="mn", fill=np.nan),
        "told": Column(dtype="<i1", axes="n", places=len(METHODS)),
        "given": Column(dtype="<f4", axes="n"),
        "halves": Column(dtype="<f4", axes="n"),
        "confidences": Column(dtype="<f4", axes="n"),
    }

    made_at: float = 0.0
    due_at: float = 0.0
    values: Singles
    told: NDArray[np.int8]
    given: Singles
    halves: Singles
    confidences: Singles

    def value(self) -> Singles:
        """The values told (n,), NaN where none is."""
        return _told(self)

    def bounds(self) -> tuple[Singles, Singles]:
        """The intervals' lower and upper ends (n,)."""
        value = self.value()
        return np.maximum(value - self.halves, 0.0), np.minimum(value + self.halves, 1.0)


@kept
def _told(batch: Batch) -> Singles:
    return of_told(batch.told, batch.values)


def of_told(told: NDArray[np.int8], by_method: Sequence[Floats] | Singles) -> Singles:
    """Of each subject (n,) the value of the method that is told."""
    chosen: Singles = by_method[0].astype(np.float32)
    for place in range(1, len(by_method)):
        np.copyto(chosen, by_method[place], where=told == place, casting="same_kind")
    return chosen


#: No forecasts, of nobody.
NONE: Final = Batch.of_nobody({"m": len(METHODS), "n": 0})


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Foreseen(Sequence[Forecast]):
    """The forecasts of a batch whose subjects are `names`; `rows` are those of whom something is told."""

    names: tuple[str, ...] = ()
    batch: Batch = NONE
    rows: Places = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "rows", np.flatnonzero(np.isfinite(self.batch.value())))

    def __len__(self) -> int:
        return self.rows.size

    @overload
    def __getitem__(self, place: int) -> Forecast: ...
    @overload
    def __getitem__(self, place: slice) -> tuple[Forecast, ...]: ...
    def __getitem__(self, place: int | slice) -> Forecast | tuple[Forecast, ...]:
        if isinstance(place, slice):
            return tuple(self.of(row) for row in self.rows[place].tolist())
        return self.of(int(self.rows[place]))

    def of(self, row: int) -> Forecast:
        """The forecast of the subject in this row of the batch."""
        batch = self.batch
        method, half = int(batch.told[row]), float(batch.halves[row])
        value = float(batch.values[method, row])
        return Forecast(
            subject=self.names[row], made_at=batch.made_at, due_at=batch.due_at, value=value,
            low=max(0.0, value - half), high=min(1.0, value + half),
            confidence=float(batch.confidences[row]), method=METHODS[method],
        )

    def __eq__(self, other: object) -> bool:
        return _as_told(self, other)

    def __hash__(self) -> int:
        return hash((self.batch.made_at, self.names))

    def columns(self, rows: Places | None = None) -> dict[str, NDArray[Any]]:
        """The fields of the forecasts by name, of all or of those in `rows` of the batch."""
        rows = self.rows if rows is None else rows
        batch, count = self.batch, rows.size
        low, high = batch.bounds()
        return {
            "subject": np.array(self.names, dtype=object)[rows], "made_at": np.full(count, batch.made_at),
            "due_at": np.full(count, batch.due_at),
            "method": np.array(METHODS, dtype=object)[batch.told[rows]],
            "value": batch.value()[rows], "low": low[rows], "high": high[rows],
            "confidence": batch.confidences[rows],
        }

    def confident(self, least: float) -> Utilisations:
        """The values told of the workers with at least this confidence, by name."""
        workers = int(bool(self.names) and self.names[0] == SYSTEM)
        sure = np.where(self.batch.confidences >= least, self.batch.value(), np.nan)[workers:]
        return Utilisations(self.names[workers:], sure.astype(np.float64))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Judged:
    """Forecasts whose time came, and the truths (n,) then, NaN where a subject was not seen."""

    forecasts: Foreseen
    truth: Floats

    def rows(self) -> Places:
        """The rows of the batch that were judged."""
        rows = self.forecasts.rows
        return rows[np.isfinite(self.truth[rows])]

    def accuracy(self) -> Floats:
        """1 − |truth − value| of each, floored at 0."""
        return np.maximum(0.0, 1.0 - np.abs(self.truth - self.forecasts.batch.value()))

    def inside(self) -> NDArray[np.bool_]:
        """Whether the truth lay in the interval told."""
        low, high = self.forecasts.batch.bounds()
        found: NDArray[np.bool_] = (low - _ROUNDING <= self.truth) & (self.truth <= high + _ROUNDING)
        return found


class Verdicts(Sequence[JudgedForecast]):
    """All that came due at one tick."""

    __slots__ = ("_places", "judged")

    def __init__(self, judged: Sequence[Judged] = ()) -> None:
        self.judged = tuple(judged)
        self._places: list[tuple[Judged, int]] | None = None

    def __len__(self) -> int:
        return sum(one.rows().size for one in self.judged)

    @overload
    def __getitem__(self, place: int) -> JudgedForecast: ...
    @overload
    def __getitem__(self, place: slice) -> tuple[JudgedForecast, ...]: ...
    def __getitem__(self, place: int | slice) -> JudgedForecast | tuple[JudgedForecast, ...]:
        if isinstance(place, slice):
            return tuple(_verdict(*which) for which in self._listed()[place])
        return _verdict(*self._listed()[place])

    def _listed(self) -> list[tuple[Judged, int]]:
        if self._places is None:
            self._places = [(one, row) for one in self.judged for row in one.rows().tolist()]
        return self._places

    def __eq__(self, other: object) -> bool:
        return _as_told(self, other)

    def __hash__(self) -> int:
        return hash(len(self))

    def columns(self) -> dict[str, NDArray[Any]]:
        """The fields of the forecasts by name, and "truth", "accuracy" and "inside"."""
        parts = [
            one.forecasts.columns(rows) | {
                "truth": one.truth[rows], "accuracy": one.accuracy()[rows], "inside": one.inside()[rows]}
            for one, rows in ((one, one.rows()) for one in self.judged)]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]} if parts else {}


def confident(forecasts: Sequence[Forecast], least: float = 0.0) -> Mapping[str, float]:
    """The values of the forecasts of workers of at least this confidence, by name."""
    if isinstance(forecasts, Foreseen):
        return forecasts.confident(least)
    return {f.subject: f.value for f in forecasts if f.confidence >= least and f.subject != SYSTEM}


def _verdict(one: Judged, row: int) -> JudgedForecast:
    forecast, truth = one.forecasts.of(row), float(one.truth[row])
    return JudgedForecast(
        forecast=forecast, truth=truth, accuracy=max(0.0, 1.0 - abs(truth - forecast.value)),
        inside=forecast.low - _ROUNDING <= truth <= forecast.high + _ROUNDING)


def _as_told(mine: Sequence[Any], other: object) -> bool:
    if not isinstance(other, Sequence) or isinstance(other, str):
        return False
    return mine is other or tuple(mine) == tuple(other)
