"""Loads that come again: their periods, what they let expect, and who is told it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from balancer.decide import seasons
from balancer.decide.forecast import Foresight, Records, look_ahead
from balancer.decide.foreseen import METHODS, Verdicts
from balancer.decide.seasons import Seasons
from balancer.decide.series import Series
from balancer.settings import Settings

SETTINGS = Settings()
RNG = np.random.default_rng(5)
BEGIN = RNG.bit_generator.state


@pytest.fixture(autouse=True)
def the_same_noise_whatever_ran_before() -> None:
    """One history in fifty looks as if it came back after two or three periods, which is as true."""
    RNG.bit_generator.state = BEGIN

#: Of the performance window's length; a load with twice this period shows in no window.
WINDOW_S = 60.0 * SETTINGS.performance_window


def wave(period_s: float, sigma: float = 0.0) -> Callable[[float], float]:
    """A load that goes up and down."""
    return lambda at: float(np.clip(
        0.5 + 0.35 * math.sin(2 * math.pi * at / period_s) + RNG.normal(0, sigma), 0, 1))


def watched(
    *loads: Callable[[float], float], hours: float = 1.5, tick_s: float = 30.0
) -> tuple[Foresight, list[Verdicts]]:
    """What is kept of workers of these loads after so long, and the verdicts of each tick."""
    kept, verdicts = Foresight(), []
    names = [f"w{i}@h" for i in range(len(loads))]
    history: list[list[float]] = []
    times: list[float] = []
    for tick in range(round(3600 * hours / tick_s)):
        at = tick * tick_s
        times, history = [*times, at][-11:], [*history, [load(at) for load in loads]][-11:]
        table = np.array(history).T
        there = Records(times=times, series=Series(names, table), system=table.mean(axis=0))
        kept, _, judged = look_ahead(kept, there, SETTINGS)
        verdicts.append(judged)
    return kept, verdicts


def history(rows: np.ndarray[tuple[int, int], np.dtype[np.float64]]) -> Seasons:
    """A history of these loads (n, buckets), a minute each."""
    levels = np.where(np.isfinite(rows), np.rint(250 * np.nan_to_num(rows)), 255).astype(np.uint8).T
    return replace(seasons.none(len(rows)), width_s=60.0, until=60.0 * rows.shape[1], levels=levels)


def minutes(load: Callable[[float], float], count: int = 120) -> list[float]:
    return [load(60.0 * (i + 0.5)) for i in range(count)]


def test_a_period_of_two_windows_is_foreseen_by_the_seasonal_forecaster_and_not_by_the_line() -> None:
    kept, verdicts = watched(wave(2 * WINDOW_S, 0.02))
    track = kept.track("w0@h")
    assert track is not None
    assert track.errors["seasonal"] < 0.06
    assert track.errors["regression"] > 4 * track.errors["seasonal"]
    late = [v.forecast.method for judged in verdicts[-20:] for v in judged if v.forecast.subject == "w0@h"]
    assert set(late) == {"seasonal"}


def test_a_step_every_quarter_of_an_hour_is_foreseen() -> None:
    kept, _ = watched(lambda at: 0.9 if at % 900 < 240 else 0.2)
    track = kept.track("w0@h")
    assert track is not None
    assert track.errors["seasonal"] < 0.5 * min(track.errors[m] for m in ("regression", "last"))


def test_loads_without_a_period_are_told_by_other_forecasters() -> None:
    kept, verdicts = watched(lambda at: 0.6, lambda at: min(1.0, at / 6000), lambda at: RNG.uniform(0.4, 0.6))
    told = [v.forecast for judged in verdicts for v in judged if v.forecast.subject in ("w0@h", "w1@h")]
    assert "seasonal" not in {forecast.method for forecast in told}
    assert kept.seasons.period_s[1:3].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("period_s", [300.0, 420.0, 600.0, 900.0, 1800.0, 3600.0])
def test_periods_are_found(period_s: float) -> None:
    found = seasons.searched(history(np.array([minutes(wave(period_s, 0.05), 128)])))
    assert found.period_s[0] == pytest.approx(period_s, rel=0.05)


def test_a_history_with_holes_has_its_period_all_the_same() -> None:
    rows = np.array([minutes(wave(600.0, 0.02))])
    rows[0, RNG.choice(120, 30, replace=False)] = np.nan
    assert seasons.searched(history(rows)).period_s[0] == pytest.approx(600.0, rel=0.05)


def test_two_whole_periods_must_have_been_seen() -> None:
    rows = np.array([minutes(wave(1200.0), 35)])
    assert seasons.searched(history(rows)).period_s[0] == 0
    assert seasons.searched(history(np.array([minutes(wave(1200.0), 45)]))).period_s[0] == pytest.approx(
        1200.0, rel=0.06)


def test_the_guess_is_what_was_there_a_period_before() -> None:
    load = wave(600.0)
    found = seasons.searched(history(np.array([minutes(load)])))
    for ahead_s in (60.0, 180.0, 600.0, 1500.0):
        guess = seasons.guess(found, 7200.0, ahead_s)
        assert guess.value[0] == pytest.approx(load(7200.0 + ahead_s), abs=0.04)


def test_everybody_is_searched_in_turn() -> None:
    count = 2 * seasons.SEARCHED + 5
    there = history(np.tile(minutes(wave(600.0)), (count, 1)))
    for _ in range(3):
        there = seasons.searched(there)
    assert np.count_nonzero(there.period_s) == count
    assert seasons.searched(replace(there, next_row=float(count + 7))).next_row < count  # some have left


def test_buckets_are_means_on_a_grid_and_gaps_are_unseen() -> None:
    def grown(kept: Seasons, times: list[float], values: list[float]) -> Seasons:
        return seasons.longer(kept, times, lambda places: np.array([np.mean([values[i] for i in places])]),
                              SETTINGS)

    kept = grown(seasons.none(1), [0.0, 20.0, 40.0, 60.0], [0.1, 0.2, 0.3, 0.9])
    assert kept.levels.ravel().tolist() == [50]  # the mean of what came before the minute was over
    assert grown(kept, [60.0, 80.0], [0.9, 0.9]) is kept
    kept = grown(kept, [70.0, 80.0, 250.0], [0.4, 0.4, 0.7])
    assert kept.levels.ravel().tolist() == [50, 100, 255, 255]
    begun = grown(kept, [100.0, 130.0], [0.4, 0.4])  # the clock was set back
    assert (begun.levels.ravel().tolist(), begun.until) == ([100], 120.0)
    anew = grown(kept, [1e6, 1e6 + 60], [0.4, 0.4])
    assert anew.held == 1
    wider = seasons.longer(kept, [300.0], lambda places: np.array([0.5]), Settings(prediction_window=6))
    assert (wider.width_s, wider.held) == (120.0, 1)


def test_the_history_is_bounded() -> None:
    kept = seasons.none(1)
    for minute in range(2 * seasons.BUCKETS):
        kept = seasons.longer(kept, [60.0 * minute], lambda places: np.array([0.5]), SETTINGS)
    assert kept.held == seasons.BUCKETS
    assert METHODS[-1] == "seasonal"
