"""Batches grow while Redis is quick and shrink at once when it is not."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from balancer.adapters.pace import Pace


def sizes(*seconds: float) -> list[int]:
    pace = Pace(size=100, low=20, high=400, target_s=0.002)
    found = []
    for took in seconds:
        pace.record(pace.size, took)
        found.append(pace.size)
    return found


def test_quick_calls_double_it_up_to_its_bound() -> None:
    assert sizes(0.0005, 0.0005, 0.0005) == [200, 400, 400]


def test_a_slow_call_halves_it_down_to_its_bound() -> None:
    assert sizes(0.003, 0.003, 0.003) == [50, 25, 20]


def test_a_call_near_the_target_leaves_it() -> None:
    assert sizes(0.0015) == [100]


def test_a_call_for_less_than_a_batch_says_nothing_about_more() -> None:
    pace = Pace(size=100, low=20, high=400, target_s=0.002)
    pace.record(3, 0.0001)
    assert pace.size == 100


@given(st.lists(st.tuples(st.integers(1, 10_000), st.floats(0, 10))))
def test_it_stays_in_its_bounds(calls: list[tuple[int, float]]) -> None:
    pace = Pace(size=100, low=20, high=400)
    for asked, seconds in calls:
        pace.record(asked, seconds)
        assert 20 <= pace.size <= 400
