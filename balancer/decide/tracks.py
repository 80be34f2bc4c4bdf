"""How good earlier forecasts were, by subject: which forecaster is told, and how far it may be trusted.

Columns that `forecast` keeps between ticks. Moving averages weigh the newest with max(1/n, `ERROR_ALPHA`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from balancer.decide.columnar import Column, Columnar
from balancer.decide.foreseen import METHODS, Judged, Singles

#: Floor of the weight of a new error in the moving averages of a subject.
ERROR_ALPHA: Final = 0.2

#: Judged forecasts of a method before it may be preferred to the seed's regression, and by how much smaller
#: its error must be.
TRUSTED_COUNT: Final = 3
CLEARLY_BETTER: Final = 0.9

#: The coverage that the intervals are made for; how many judged forecasts this expectation counts as, and
#: the floor of the weight of a new one.
NOMINAL: Final = 0.8
PRIOR: Final = 4
COVERAGE_ALPHA: Final = 0.05

#: Half width (utilisation) below which an error is not held against an interval.
FINEST: Final = 0.02

#: From a mean absolute error to the half width of the 80 % interval of a normal error: 1.2816 · √(π/2).
MAE_TO_HALF: Final = 1.606


@dataclass(frozen=True, slots=True, kw_only=True)
class Track:
    """How one subject's forecasts did: how many were judged; the accuracy (0–1) of what was told; the share
    of truths inside the interval told; the error as a share of the half width that the told method gave
    (0.62 where its intervals are right); absolute errors by method."""

    count: int
    accuracy: float
    coverage: float = NOMINAL
    reach: float = 0.0
    errors: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tracks(Columnar):
    """The tracks of n subjects: by method (m, n) how many forecasts were judged and their mean absolute
    error, and (n,) the accuracy, coverage and reach of what was told, of `count` (n,) forecasts."""

    LAYOUT: ClassVar[Mapping[str, Column]] = {
        "counts": Column(dtype="<i4", axes="mn"),
        "errors": Column(dtype="<f4", axes="mn"),
        "count": Column(dtype="<i4", axes="n"),
        "accuracy": Column(dtype="<f4", axes="n"),
        "coverage": Column(dtype="<f4", axes="n", fill=NOMINAL),
        "reach": Column(dtype="<f4", axes="n"),
    }

    counts: NDArray[np.int32]
    errors: Singles
    count: NDArray[np.int32]
    accuracy: Singles
    coverage: Singles
    reach: Singles

    def track(self, row: int) -> Track | None:
        """The track of the subject in this row, if any forecast of it was judged."""
        if not self.count[row]:
            return None
        known = enumerate(self.errors[:, row].tolist())
        errors = {METHODS[i]: error for i, error in known if self.counts[i, row]}
        return Track(count=int(self.count[row]), accuracy=float(self.accuracy[row]),
                     coverage=float(self.coverage[row]), reach=float(self.reach[row]),
                     errors=MappingProxyType(errors))


def none(subjects: int) -> Tracks:
    """No tracks of so many subjects."""
    return Tracks.of_nobody({"m": len(METHODS), "n": subjects})


def learned(tracks: Tracks, judged: Judged) -> Tracks:
    """The tracks after these verdicts, of the same subjects."""
    truth, batch = judged.truth.astype(np.float32), judged.forecasts.batch
    errors, missed = np.abs(truth - batch.values), np.abs(truth - batch.value())
    known, told = np.isfinite(errors), np.isfinite(missed)
    counts, count = tracks.counts + known, tracks.count + told
    reach = missed / np.maximum(batch.given, FINEST)
    return Tracks(
        counts=counts, count=count,
        errors=_mean(tracks.errors, errors, known, counts),
        accuracy=_mean(tracks.accuracy, judged.accuracy(), told, count),
        coverage=_mean(tracks.coverage, judged.inside(), told, count, _SELDOM),
        reach=_mean(tracks.reach, reach, told, count),
    )


def preferred(tracks: Tracks, values: Singles) -> NDArray[np.int8]:
    """The place of the method that is told of each subject (n,): the seed's regression until another that has
    something to say in `values` (m, n) has clearly erred less."""
    told: NDArray[np.int8] = np.zeros(tracks.count.size, dtype=np.int8)
    if tracks.counts.max(initial=0) < TRUSTED_COUNT:
        return told
    least = np.where(tracks.counts[0] >= TRUSTED_COUNT, CLEARLY_BETTER * tracks.errors[0], np.inf)
    for place in range(1, len(METHODS)):
        trusted = (tracks.counts[place] >= TRUSTED_COUNT) & np.isfinite(values[place])
        better = trusted & (tracks.errors[place] < least)
        told[better] = place
        least = np.where(better, tracks.errors[place], least)
    return told


def widened(tracks: Tracks, given: Singles) -> Singles:
    """The half widths (n,) `given` by the methods told, stretched where past errors reached further."""
    factor = np.float32(MAE_TO_HALF) * tracks.reach
    return np.where(factor <= 1.0, given, factor * np.maximum(given, np.float32(FINEST)))


def confidences(tracks: Tracks, halves: Singles) -> Singles:
    """How far a forecast may be acted upon (n,): what its interval leaves open, as far as it held so far.

    (1 − half width) · min(1, coverage / `NOMINAL`). The half width (utilisation) is that of the 80 %
    interval: one over ±0.5 is of no use however surely it holds. The coverage is the share of truths in the
    intervals told, which begins as the nominal one. A constant load thus has 1.0, a flat one with 2 % noise
    about 0.95, a random walk of 5 % a tick about 0.85 six ticks ahead, a load that broke its intervals less.
    """
    kept = np.minimum(tracks.coverage * np.float32(1 / NOMINAL), np.float32(1.0))
    sure: Singles = np.maximum(np.float32(1.0) - halves, np.float32(0.0)) * kept
    return sure


def _weights(floor: float, prior: int) -> Singles:
    """max(1 / (n + prior), `floor`) for n = 0, 1, … until it stays at the floor."""
    counts = np.maximum(np.arange(1 + round(1 / floor)) + prior, 1)
    return np.maximum(1.0 / counts, floor).astype(np.float32)


#: The weight of a new value after so many, the last one for all that are more.
_OFTEN: Final = _weights(ERROR_ALPHA, 0)
_SELDOM: Final = _weights(COVERAGE_ALPHA, PRIOR)


def _mean(before: Singles, new: NDArray[np.generic], known: NDArray[np.bool_], counts: NDArray[np.int32],
          weights: Singles = _OFTEN) -> Singles:
    # Where all have as many, which is soon so of a fleet that stays, one weight serves all.
    alike = counts.size > 0 and counts.min() == counts.max()
    weight = weights.take(counts.flat[0] if alike else counts, mode="clip")
    with np.errstate(invalid="ignore"):
        after = before + weight * (new.astype(np.float32, copy=False) - before)
    return after if known.all() else np.where(known, after, before)
