"""The slope of the load and its bands."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.decide.trend import slope, workload_trend
from balancer.model import SystemLoad


def records(*averages: float) -> tuple[SystemLoad, ...]:
    return tuple(
        SystemLoad(at=30.0 * i, average=a, deviation=0, imbalance=0) for i, a in enumerate(averages)
    )


@pytest.mark.parametrize(
    ("averages", "direction"),
    [
        ((), "stable"),
        ((0.5,), "stable"),
        ((0.1, 0.2, 0.3, 0.4, 0.5), "increasing"),
        ((0.5, 0.4, 0.3, 0.2, 0.1), "decreasing"),
        ((0.5, 0.5, 0.5, 0.5, 0.5), "stable"),
        ((0.500, 0.509, 0.518, 0.527, 0.536), "stable"),  # .009 a tick: inside the band
        ((0.500, 0.511, 0.522, 0.533, 0.544), "increasing"),  # .011 a tick: outside
        ((0.9, 0.9, 0.9, 0.1, 0.2, 0.3, 0.4, 0.5), "increasing"),  # only the last five count
    ],
)
def test_direction(averages: tuple[float, ...], direction: str) -> None:
    trend = workload_trend(records(*averages))
    assert trend.direction == direction
    assert trend.magnitude == abs(trend.slope)


@given(st.lists(st.floats(0, 1), min_size=2, max_size=20))
def test_slope_is_that_of_numpy(values: list[float]) -> None:
    assert slope(values) == pytest.approx(np.polyfit(range(len(values)), values, 1)[0], abs=1e-9)
