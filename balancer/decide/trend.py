"""Whether load rises, falls or stays: the slope that step 3 of the tick adjusts thresholds by."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from balancer.model import SystemLoad, WorkloadTrend

#: Records the slope is taken over: the seed's `system_load_history[-5:]`.
TREND_RECORDS: Final = 5

#: Slope (utilisation a tick) beyond which load counts as rising or falling: the seed's ±0.01.
STABLE_BAND: Final = 0.01


def slope(values: Sequence[float]) -> float:
    """Least-squares slope of `values` over their index (units a tick); 0 for fewer than two values."""
    n = len(values)
    if n < 2:
        return 0.0
    middle = (n - 1) / 2
    spread = n * (n * n - 1) / 12  # Σ (x − mean x)² for x = 0 … n − 1
    return math.fsum((x - middle) * y for x, y in enumerate(values)) / spread


def workload_trend(loads: Sequence[SystemLoad]) -> WorkloadTrend:
    """The trend of the last records' average load, judged by the seed's bands."""
    steepness = slope([record.average for record in loads[-TREND_RECORDS:]])
    if steepness > STABLE_BAND:
        return WorkloadTrend(direction="increasing", slope=steepness, magnitude=abs(steepness))
    if steepness < -STABLE_BAND:
        return WorkloadTrend(direction="decreasing", slope=steepness, magnitude=abs(steepness))
    return WorkloadTrend(direction="stable", slope=steepness, magnitude=abs(steepness))
