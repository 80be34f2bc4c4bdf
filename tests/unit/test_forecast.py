"""Forecasts: their values, their confidence, and their judgement when they are due."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.decide import forecast
from balancer.decide.forecast import SYSTEM, Pending, Track, foresee, judge, keep
from balancer.settings import Settings

SETTINGS = Settings()
TIMES = [30.0 * i for i in range(10)]
RNG = np.random.default_rng(7)


def one(values: Sequence[float | None], tracks: dict[str, Track] | None = None) -> Pending:
    made = foresee(TIMES[: len(values)], {"w@h": values}, tracks or {}, SETTINGS)
    assert len(made) == 1
    return made.pending(0)


def noisy(level: float, sigma: float) -> list[float]:
    return [float(np.clip(v, 0, 1)) for v in RNG.normal(level, sigma, len(TIMES))]


def test_a_ramp_goes_on() -> None:
    told = one([0.10 + 0.04 * i for i in range(10)]).forecast
    assert told.value == pytest.approx(0.10 + 0.04 * 15)  # six ticks of 30 s ahead of the last
    assert told.due_at == TIMES[-1] + 180
    assert told.confidence == pytest.approx(1.0)


def test_a_forecast_stays_a_ratio() -> None:
    assert one([0.1 * i for i in range(10)]).forecast.value == 1.0


@pytest.mark.parametrize(
    ("values", "least", "most"),
    [
        ([0.6] * 10, 1.0, 1.0),
        (noisy(0.6, 0.02), 0.9, 1.0),
        (noisy(0.5, 0.08), 0.6, 0.95),
        ([0.05, 0.95, 0.2, 0.9, 0.1, 0.8, 0.0, 1.0, 0.3, 0.7], 0.0, 0.5),
    ],
    ids=["constant", "flat with noise", "restless", "wild"],
)
def test_confidence_is_about_the_interval(values: list[float], least: float, most: float) -> None:
    assert least - 1e-9 <= one(values).forecast.confidence <= most


def test_the_interval_holds_what_it_promises() -> None:
    """About 80 % of what came later lies inside, on 400 straight lines with normal noise."""
    inside = 0
    for _ in range(400):
        line = 0.3 + 0.01 * np.arange(16) + RNG.normal(0, 0.03, 16)
        told = one([float(v) for v in line[:10]]).forecast
        inside += told.low <= line[15] <= told.high
    assert 0.73 <= inside / 400 <= 0.87


def test_three_records_say_nothing() -> None:
    assert list(foresee(TIMES[:3], {SYSTEM: [0.1, 0.2, 0.3]}, {}, SETTINGS)) == []


def test_holes_in_a_series_are_left_out() -> None:
    with_holes = one([None, None, 0.2, None, 0.3, 0.35, None, 0.45, 0.5, 0.55])
    assert with_holes.forecast.value == pytest.approx(0.55 + 6 * 0.05)


def test_errors_beyond_the_interval_widen_it() -> None:
    right = {"w@h": Track(count=5, accuracy=0.99, reach=0.62)}
    wrong = {"w@h": Track(count=5, accuracy=0.7, reach=15.0)}
    steady = one([0.6] * 10).forecast.confidence
    assert steady == pytest.approx(1.0)
    assert one([0.6] * 10, right).forecast.confidence == steady
    assert one([0.6] * 10, wrong).forecast.confidence == pytest.approx(1 - 15 * 1.606 * 0.02)


def test_a_steady_load_that_jumps_loses_its_confidence_and_regains_it() -> None:
    tracks: dict[str, Track] = {}
    confidence = []
    for truth in (0.6, 0.95, *[0.6] * 15):
        waits = one([0.6] * 10, tracks)
        confidence.append(waits.forecast.confidence)
        tracks = dict(judge([waits], [*TIMES, 450.0], {"w@h": [0.6] * 10 + [truth]}, tracks, SETTINGS).tracks)
    assert confidence[1] == pytest.approx(1.0)
    assert confidence[2] < 0.75
    assert confidence[-1] > 0.95


@pytest.mark.parametrize(
    ("errors", "count", "method"),
    [
        ({"regression": 0.20, "last": 0.05}, 9, "last"),
        ({"regression": 0.20, "last": 0.05}, 2, "regression"),  # too few to trust
        ({"regression": 0.05, "last": 0.048}, 9, "regression"),  # not clearly better
        ({"regression": 0.05, "last": 0.20}, 9, "regression"),
    ],
)
def test_each_subject_is_told_the_better_method(errors: dict[str, float], count: int, method: str) -> None:
    track = Track(count=count, accuracy=0.9, errors=errors)
    told = one([0.1 + 0.05 * i for i in range(10)], {"w@h": track}).forecast
    assert told.method == method
    assert told.value == pytest.approx(0.55 if method == "last" else 0.85)


def test_a_forecast_waits_until_it_is_due_and_is_judged_then() -> None:
    waits = one([0.5] * 10)
    assert waits.forecast.due_at == 450
    early = judge([waits], TIMES, {"w@h": [0.5] * 10}, {}, SETTINGS)
    assert (early.judged, early.pending) == ((), (waits,))
    times = [*TIMES, 420.0, 460.0]
    due = judge([waits], times, {"w@h": [0.5] * 10 + [0.7, 0.9]}, {}, SETTINGS)
    assert due.pending == ()
    (verdict,) = due.judged
    assert verdict.truth == pytest.approx(0.85)  # between .7 at 420 and .9 at 460
    assert verdict.accuracy == pytest.approx(0.65)
    assert not verdict.inside
    assert due.tracks["w@h"].accuracy == pytest.approx(0.65)
    assert due.tracks["w@h"].errors == {"regression": pytest.approx(0.35), "last": pytest.approx(0.35)}


def test_accuracy_is_a_moving_average_that_begins_as_the_mean() -> None:
    tracks: dict[str, Track] = {}
    for truth in (0.5, 0.7):
        verdict = judge([one([0.5] * 10)], [*TIMES, 450.0], {"w@h": [0.5] * 10 + [truth]}, tracks, SETTINGS)
        tracks = dict(verdict.tracks)
    assert tracks["w@h"].accuracy == pytest.approx((1.0 + 0.8) / 2)
    assert tracks["w@h"].count == 2


def test_who_left_is_not_judged_and_is_forgotten() -> None:
    waits = one([0.5] * 10)
    track = Track(count=1, accuracy=1.0)
    gone = judge([waits], [*TIMES, 480.0], {SYSTEM: [0.5] * 11}, {"w@h": track}, SETTINGS)
    assert (gone.judged, gone.pending, dict(gone.tracks)) == ((), (), {})


def test_after_a_long_sleep_nothing_is_judged() -> None:
    waits = one([0.5] * 10)
    slept = judge([waits], [*TIMES, 5_000.0], {"w@h": [0.5] * 11}, {}, SETTINGS)
    assert (slept.judged, slept.pending) == ((), ())


def test_pending_forecasts_are_bounded_and_the_system_goes_first() -> None:
    series: dict[str, list[float]] = {f"w{i}@h": [0.5] * 10 for i in range(forecast.PENDING_LIMIT + 9)}
    made = foresee(TIMES, {**series, SYSTEM: [0.5] * 10}, {}, SETTINGS)
    kept = keep((), made, {})
    assert len(kept) == forecast.PENDING_LIMIT + 1
    assert kept[0].forecast.subject == SYSTEM
    again = keep(kept, made, {})
    assert [p.forecast.subject for p in again[len(kept):]] == [SYSTEM]


def test_the_least_judged_workers_are_kept_first() -> None:
    made = foresee(TIMES, {"a": [0.5] * 10, "b": [0.5] * 10}, {}, SETTINGS)
    kept = keep((), made, {"a": Track(count=4, accuracy=1.0)})
    assert [p.forecast.subject for p in kept] == ["b", "a"]


@given(st.lists(st.one_of(st.none(), st.floats(0, 1)), min_size=1, max_size=10))
def test_any_series_gives_finite_numbers_in_range(values: list[float | None]) -> None:
    made = foresee(TIMES[: len(values)], {"w": values}, {}, SETTINGS)
    for row, told in enumerate(made):
        waits = made.pending(row)
        assert waits.forecast == told
        numbers = (told.value, told.low, told.high, told.confidence, *waits.methods.values())
        assert all(math.isfinite(n) and 0 <= n <= 1 for n in numbers)
        assert told.low <= told.value <= told.high
