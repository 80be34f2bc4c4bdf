"""Whether the fleet is out of balance, now or soon: step 5 of the tick.

A worker is overloaded when its utilisation (`load.utilisation`: the greatest dimension) is above the
high threshold, underloaded when it is below the low one and the worker is healthy. One bad sample
is a blip: several in a row trip the alarm, several good ones in a row clear it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Final, Literal, overload

import numpy as np
from numpy.typing import NDArray

from balancer.decide.foreseen import confident
from balancer.decide.load import Utilisations
from balancer.model import Fleet, Forecast, Imbalance, SystemLoad, Thresholds
from balancer.model.table import WorkerTable
from balancer.settings import Settings

#: A foreseen imbalance must be this many times `imbalance_threshold`, since it may not come.
FORESEEN_FACTOR: Final = 1.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """Bad and good samples in a row, and whether the alarm is on."""

    bad: int = 0
    good: int = 0
    on: bool = False


def current(
    fleet: Fleet, values: Mapping[str, float], thresholds: Thresholds, settings: Settings
) -> Imbalance | None:
    """The imbalance of the utilisations (0–1) by worker: the seed's three conditions, or `None`."""
    return _imbalance("current", fleet, values, thresholds, settings.imbalance_threshold)


def foreseen(
    fleet: Fleet,
    forecasts: Sequence[Forecast],
    load: SystemLoad,
    thresholds: Thresholds,
    settings: Settings,
) -> Imbalance | None:
    """The imbalance that confident forecasts of workers show, when it is worse than today's.

    Only forecasts of at least `prediction_confidence` count, and the foreseen imbalance must
    exceed both `FORESEEN_FACTOR` times `imbalance_threshold` and the present one.
    """
    sure = confident(forecasts, settings.prediction_confidence)
    least = max(FORESEEN_FACTOR * settings.imbalance_threshold, load.imbalance)
    return _imbalance("predicted", fleet, sure, thresholds, least)


def sound(alarm: Alarm, bad: bool, settings: Settings) -> tuple[Alarm, bool]:
    """The alarm after one more sample, and whether this sample is to be acted upon."""
    if not bad:
        good = alarm.good + 1
        return Alarm(good=good, on=alarm.on and good < settings.clear_samples), False
    streak = alarm.bad + 1
    on = alarm.on or streak >= settings.trip_samples
    return Alarm(bad=streak, on=on), on


def _imbalance(
    kind: Literal["current", "predicted"],
    fleet: Fleet,
    values: Mapping[str, float],
    thresholds: Thresholds,
    least: float,
) -> Imbalance | None:
    """Workers over and under the thresholds, when both exist and are more than `least` apart."""
    loads, workers = Utilisations.of(values), WorkerTable.of(fleet.workers)
    places = _places(loads, workers)
    here = places >= 0
    healthy = here & workers.holdings.ok[places] if len(workers) else here
    with np.errstate(invalid="ignore"):
        above = np.flatnonzero(here & (loads.shares > thresholds.high))
        below = np.flatnonzero(healthy & (loads.shares < thresholds.low))
    if not above.size or not below.size:
        return None
    score = float(loads.shares[above].max() - loads.shares[below].min())
    if score <= least:
        return None
    roster = workers.roster
    labels = roster.labels if loads.names == roster.names else np.array(loads.names, dtype=np.object_)
    return Imbalance(
        kind=kind,
        score=score,
        overloaded=Ranked(labels[above], -loads.shares[above], roster.ranks[places[above]]),
        underloaded=Ranked(labels[below], loads.shares[below], roster.ranks[places[below]]),
    )


class Ranked(Sequence[str]):
    """Names (n,), those of the least of their `values` first, by `ranks` where these are the same. Who comes
    first is known at once; thousands are put in order only where somebody asks for more. Equal to any
    sequence of the same names."""

    __slots__ = ("_labels", "_names", "_ranks", "_values")

    def __init__(self, labels: NDArray[np.object_], values: NDArray[np.float64],
                 ranks: NDArray[np.intp]) -> None:
        self._labels = labels
        self._values = values
        self._ranks = ranks
        self._names: tuple[str, ...] | None = None

    def first(self) -> str:
        """The first name; there must be one."""
        least = np.flatnonzero(self._values == self._values.min())
        return str(self._labels[least[self._ranks[least].argmin()]])

    def _all(self) -> tuple[str, ...]:
        """All of them. Ranks of two bytes are sorted by their digits, many times as fast."""
        if self._names is None:
            small = self._ranks.max(initial=0) < 1 << 16
            ranks = self._ranks.astype(np.uint16) if small else self._ranks
            self._names = tuple(self._labels[np.lexsort((ranks, self._values))].tolist())
        return self._names

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> tuple[str, ...]: ...
    def __getitem__(self, place: int | slice) -> str | tuple[str, ...]:
        return self.first() if place == 0 and self._values.size else self._all()[place]

    def __len__(self) -> int:
        return int(self._values.size)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or isinstance(other, str):
            return NotImplemented
        return self is other or self._all() == tuple(other)

    def __hash__(self) -> int:
        return hash(self._all())

    def __repr__(self) -> str:
        return repr(self._all())


def _places(loads: Utilisations, workers: WorkerTable) -> NDArray[np.intp]:
    """Where each subject is among the workers; −1 where it is none of them."""
    if loads.names == workers.roster.names:
        return np.arange(len(workers))
    found = map(workers.roster.places.get, loads.names, repeat(-1))
    return np.fromiter(found, dtype=np.intp, count=len(loads.names))
