"""The bounds of high and low utilisation and the two rules that move them: step 3 of the tick.

`literal` is the seed's pseudocode, line by line, for the strategy `adaptive`. Under a steady load
it runs to (.95, .10) or (.70, .40) within a few ticks and stays there, also when the load is
ordinary again. `tempered` is the rule for every other strategy: it pushes only when the last
records agree, and always leans back toward where the operator set the bounds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from balancer.decide.trend import workload_trend
from balancer.model import SystemLoad, Thresholds
from balancer.settings import Settings

#: The seed's bounds of the high and of the low threshold, and their least separation (utilisation).
HIGH_BOUNDS: Final = (0.6, 0.95)
LOW_BOUNDS: Final = (0.1, 0.4)
MIN_SEPARATION: Final = 0.3

#: Average load above which the seed balances more, and below which it balances less.
HIGH_LOAD: Final = 0.75
LOW_LOAD: Final = 0.3

#: Records whose average is the "current" load: the seed's `system_load_history[-5:]`.
RECENT: Final = 5

#: Share of the way back to the initial bounds that `tempered` goes each tick. With a push of s a
#: tick the bounds settle s / PULL from where they began (0.12 at the seed's rate), and come back
#: within some five ticks of ordinary load.
PULL: Final = 0.5


def initial(settings: Settings) -> Thresholds:
    """The bounds as the operator set them."""
    high, low = settings.utilization_threshold_high, settings.utilization_threshold_low
    return Thresholds(high=high, low=low, initial_high=high, initial_low=low)


def current(kept: Thresholds | None, settings: Settings) -> Thresholds:
    """The bounds to go on from: the kept ones, unless the operator has since set other initial ones."""
    fresh = initial(settings)
    if kept is None or not settings.enable_dynamic_thresholds:
        return fresh
    same = (kept.initial_high, kept.initial_low) == (fresh.initial_high, fresh.initial_low)
    return kept if same else fresh


def literal(thresholds: Thresholds, loads: Sequence[SystemLoad], settings: Settings) -> Thresholds:
    """One step of the seed's "Dynamic Threshold Adjustment Algorithm", unchanged."""
    if not loads:
        return thresholds
    average = _average(loads[-RECENT:])
    high_adjust, low_adjust = _literal_step(average, _factor(loads, settings))
    return _bounded(thresholds, high_adjust, low_adjust)


def tempered(thresholds: Thresholds, loads: Sequence[SystemLoad], settings: Settings) -> Thresholds:
    """One step of the debounced rule that returns to where it began.

    Push: the seed's step, but only in high (> .75) or low (< .3) load, and only when each of the
    last `trip_samples` records says so, so that one blip moves nothing. Pull: `PULL` of the
    distance to the initial bounds, each tick. An ordinary load thus restores the operator's bounds.
    """
    if not loads:
        return thresholds
    recent = [record.average for record in loads[-settings.trip_samples:]]
    agreed = len(recent) >= settings.trip_samples
    high_adjust = low_adjust = 0.0
    if agreed and (min(recent) > HIGH_LOAD or max(recent) < LOW_LOAD):
        high_adjust, low_adjust = _literal_step(recent[-1], _factor(loads, settings))
    high_adjust += PULL * (thresholds.initial_high - thresholds.high)
    low_adjust += PULL * (thresholds.initial_low - thresholds.low)
    return _bounded(thresholds, high_adjust, low_adjust)


def _average(loads: Sequence[SystemLoad]) -> float:
    return math.fsum(record.average for record in loads) / len(loads)


def _factor(loads: Sequence[SystemLoad], settings: Settings) -> float:
    """The seed's adjustment factor: larger while load rises, smaller while it falls."""
    scale = {"increasing": 1.5, "decreasing": 0.5, "stable": 1.0}
    return settings.threshold_adjustment_rate * scale[workload_trend(loads).direction]


def _literal_step(average: float, factor: float) -> tuple[float, float]:
    """The seed's adjustments of the high and of the low threshold at this average load."""
    if average > HIGH_LOAD:
        return -factor * 1.2, factor * 0.8
    if average < LOW_LOAD:
        return factor * 0.8, -factor * 1.2
    return (-factor, factor) if average > 0.5 else (factor, -factor)


def _bounded(thresholds: Thresholds, high_adjust: float, low_adjust: float) -> Thresholds:
    """The seed's last two paragraphs: boundaries, then the least separation."""
    high = max(HIGH_BOUNDS[0], min(HIGH_BOUNDS[1], thresholds.high + high_adjust))
    low = max(LOW_BOUNDS[0], min(LOW_BOUNDS[1], thresholds.low + low_adjust))
    if high - low < MIN_SEPARATION:
        if high_adjust < low_adjust:
            high = low + MIN_SEPARATION
        else:
            low = high - MIN_SEPARATION
    return Thresholds(
        high=high, low=low, initial_high=thresholds.initial_high, initial_low=thresholds.initial_low
    )
