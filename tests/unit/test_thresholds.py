"""The seed's rule, literally, and the tempered one: before/after tables and bounds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.decide.engine import adjust
from balancer.decide.memory import fresh
from balancer.decide.strategies import by_name
from balancer.decide.thresholds import current, initial, literal, tempered
from balancer.model import SystemLoad, Thresholds
from balancer.settings import Settings
from tests.unit.test_trend import records

Rule = Callable[[Thresholds, Sequence[SystemLoad], Settings], Thresholds]

SETTINGS = Settings()
START = initial(SETTINGS)


def after(rule: Rule, loads: tuple[SystemLoad, ...], start: Thresholds = START) -> tuple[float, float]:
    """The bounds after a tick at each of `loads`, with the history growing as it does in the tick."""
    bounds = start
    for place in range(len(loads)):
        bounds = rule(bounds, loads[: place + 1], SETTINGS)
    return round(bounds.high, 3), round(bounds.low, 3)


@pytest.mark.parametrize(
    ("averages", "high", "low"),
    [
        # One step from (.85, .20): worked out by hand from the pseudocode, rate .05.
        ((0.80,), 0.79, 0.24),  # high, stable: −.05·1.2, +.05·.8
        ((0.20,), 0.89, 0.14),  # low, stable: +.05·.8, −.05·1.2
        ((0.60,), 0.80, 0.25),  # normal above a half: −.05, +.05
        ((0.40,), 0.90, 0.15),  # normal below: +.05, −.05
        ((0.50,), 0.90, 0.15),  # exactly a half is not above it
    ],
)
def test_literal_first_step(averages: tuple[float, ...], high: float, low: float) -> None:
    assert after(literal, records(*averages)) == (high, low)


@pytest.mark.parametrize(
    ("averages", "factor"),
    [((0.70, 0.80, 0.90), 1.5), ((0.98, 0.88, 0.78), 0.5), ((0.8, 0.8, 0.8), 1.0)],
)
def test_literal_scales_with_the_trend(averages: tuple[float, ...], factor: float) -> None:
    moved = literal(START, records(*averages), SETTINGS)
    assert START.high - moved.high == pytest.approx(0.05 * factor * 1.2)
    assert moved.low - START.low == pytest.approx(0.05 * factor * 0.8)


@pytest.mark.parametrize(
    ("load", "ticks", "literally", "tempered_too"),
    [
        # A steady load: what each rule has made of (.85, .20) after so many ticks.
        (0.80, 1, (0.79, 0.24), (0.85, 0.20)),
        (0.80, 3, (0.67, 0.32), (0.79, 0.24)),
        (0.80, 10, (0.70, 0.40), (0.73, 0.28)),
        (0.40, 5, (0.95, 0.10), (0.85, 0.20)),
        (0.60, 5, (0.70, 0.40), (0.85, 0.20)),
        (0.10, 10, (0.95, 0.10), (0.93, 0.10)),
    ],
)
def test_before_and_after(
    load: float, ticks: int, literally: tuple[float, float], tempered_too: tuple[float, float]
) -> None:
    assert after(literal, records(*[load] * ticks)) == literally
    assert after(tempered, records(*[load] * ticks)) == tempered_too


def test_tempered_returns_when_the_load_is_ordinary_again() -> None:
    storm, calm = [0.9] * 10, [0.5] * 6
    bounds = after(tempered, records(*storm, *calm))
    assert bounds == pytest.approx((0.85, 0.20), abs=0.005)
    assert after(literal, records(*storm, *calm)) != pytest.approx((0.85, 0.20), abs=0.05)


def test_tempered_ignores_a_blip() -> None:
    assert after(tempered, records(0.5, 0.5, 0.95, 0.5, 0.5)) == (0.85, 0.20)


def test_tempered_waits_for_trip_samples() -> None:
    hasty = replace(SETTINGS, trip_samples=1)
    assert tempered(START, records(0.95), hasty).high < START.high
    assert tempered(START, records(0.95), SETTINGS).high == START.high


def test_without_records_nothing_moves() -> None:
    assert literal(START, (), SETTINGS) == tempered(START, (), SETTINGS) == START


def test_other_initial_bounds_begin_anew() -> None:
    moved = literal(START, records(0.9), SETTINGS)
    assert current(moved, SETTINGS) == moved
    other = replace(SETTINGS, utilization_threshold_high=0.7)
    assert current(moved, other) == initial(other)
    assert current(None, SETTINGS) == START


def test_the_switch_pins_them() -> None:
    moved = literal(START, records(0.9), SETTINGS)
    pinned = replace(SETTINGS, enable_dynamic_thresholds=False)
    assert current(moved, pinned) == START
    memory, _ = adjust(replace(fresh(SETTINGS), thresholds=moved), pinned, by_name("adaptive"))
    assert current(memory.thresholds, SETTINGS) == START, "a tick with the switch begins anew"


@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=30),
    st.floats(0.5, 1), st.floats(0, 0.45), st.floats(0, 1), st.integers(1, 5),
    st.sampled_from([literal, tempered]),
)
def test_bounds_and_separation_hold_for_any_load(
    averages: list[float], high: float, low: float, rate: float, trip: int, rule: Rule
) -> None:
    settings = Settings(
        utilization_threshold_high=high, utilization_threshold_low=low, threshold_adjustment_rate=rate,
        trip_samples=trip,
    )
    bounds, loads = initial(settings), records(*averages)
    for place in range(len(loads)):
        bounds = rule(bounds, loads[: place + 1], settings)
        assert 0.6 <= bounds.high <= 0.95
        assert 0.1 <= bounds.low <= 0.4
        assert bounds.high - bounds.low >= 0.3 - 1e-9
