"""Forecasts: their values, their confidence, and their judgement when they are due."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.decide import forecast, forecasters, tracks
from balancer.decide.forecast import Foresight, Records, foresee, judge, keep, look_ahead
from balancer.decide.foreseen import METHODS, SYSTEM, Foreseen, Verdicts
from balancer.decide.series import Series
from balancer.decide.tracks import Track
from balancer.model import Forecast
from balancer.settings import Settings

SETTINGS = Settings()
TIMES = [30.0 * i for i in range(10)]
RNG = np.random.default_rng(7)
W = "w@h"


def records(times: Sequence[float], series: Mapping[str, Sequence[float | None]]) -> Records:
    """Records of these workers; the system's load is their mean, where somebody unseen has none."""
    workers = Series.of(series, len(times))
    return Records(times=times, series=workers,
                   system=np.nansum(workers.table, axis=0) / max(1, len(workers)))


def knowing(*names: str, **columns: Sequence[float]) -> Foresight:
    """What is kept of these workers, with these columns of their tracks (the system's is not known)."""
    kept = Foresight().of((SYSTEM, *names))
    made = {name: getattr(kept.tracks, name).copy() for name in columns}
    for name, values in columns.items():
        made[name][..., 1:] = np.array(values, dtype=made[name].dtype)[..., None]
    return replace(kept, tracks=replace(kept.tracks, **made))


def erring(count: int, **errors: float) -> Foresight:
    """A worker of whose forecasts so many were judged, with these mean errors by method."""
    by_method = [errors.get(method, 0.0) for method in METHODS]
    return knowing(W, counts=[count] * len(METHODS), errors=by_method, count=[count])


def one(values: Sequence[float | None], kept: Foresight | None = None) -> Forecast:
    """The forecast of one worker with these loads."""
    there = records(TIMES[: len(values)], {W: values})
    (told,) = (f for f in foresee((kept or Foresight()).of(there.names), there, SETTINGS) if f.subject == W)
    return told


def noisy(level: float, sigma: float) -> list[float]:
    return [float(np.clip(v, 0, 1)) for v in RNG.normal(level, sigma, len(TIMES))]


def waiting(values: Sequence[float | None] = (0.5,) * 10, name: str = W) -> Foresight:
    """One batch of forecasts that waits."""
    there = records(TIMES, {name: values})
    kept = Foresight().of(there.names)
    return keep(kept, foresee(kept, there, SETTINGS))


def test_a_ramp_goes_on() -> None:
    told = one([0.10 + 0.04 * i for i in range(10)])
    assert told.value == pytest.approx(0.10 + 0.04 * 15)  # six ticks of 30 s ahead of the last
    assert told.due_at == TIMES[-1] + 180
    assert told.confidence == pytest.approx(1.0)


def test_a_forecast_stays_a_ratio() -> None:
    assert one([0.1 * i for i in range(10)]).value == 1.0


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
    assert least - 1e-9 <= one(values).confidence <= most


def test_the_interval_holds_what_it_promises() -> None:
    """About 80 % of what came later lies inside, on 400 straight lines with normal noise."""
    inside = 0
    for _ in range(400):
        line = 0.3 + 0.01 * np.arange(16) + RNG.normal(0, 0.03, 16)
        told = one([float(v) for v in line[:10]])
        inside += told.low <= line[15] <= told.high
    assert 0.73 <= inside / 400 <= 0.87


def test_three_records_say_nothing() -> None:
    there = records(TIMES[:3], {W: [0.1, 0.2, 0.3]})
    assert list(foresee(Foresight().of(there.names), there, SETTINGS)) == []


def test_holes_in_a_series_are_left_out() -> None:
    with_holes = one([None, None, 0.2, None, 0.3, 0.35, None, 0.45, 0.5, 0.55])
    assert with_holes.value == pytest.approx(0.55 + 6 * 0.05)


def test_of_who_is_not_there_now_nothing_is_foreseen() -> None:
    there = records(TIMES, {W: [*[0.5] * 9, None]})
    assert [f.subject for f in foresee(Foresight().of(there.names), there, SETTINGS)] == [SYSTEM]


def test_errors_beyond_the_interval_widen_it() -> None:
    steady = one([0.6] * 10).confidence
    assert steady == pytest.approx(1.0)
    assert one([0.6] * 10, knowing(W, reach=[0.62])).confidence == steady
    wrong = one([0.6] * 10, knowing(W, reach=[15.0]))
    assert wrong.confidence == pytest.approx(1 - 15 * 1.606 * 0.02)
    assert (wrong.low, wrong.high) == pytest.approx((0.6 - 15 * 1.606 * 0.02, 1.0))


@pytest.mark.parametrize(("coverage", "confidence"), [(0.95, 1.0), (0.8, 1.0), (0.4, 0.5), (0.0, 0.0)])
def test_who_breaks_the_intervals_told_is_trusted_less(coverage: float, confidence: float) -> None:
    assert one([0.6] * 10, knowing(W, coverage=[coverage])).confidence == pytest.approx(confidence)


def test_a_steady_load_that_jumps_loses_its_confidence_and_regains_it() -> None:
    kept, confidence = Foresight(), []
    there, later = records(TIMES, {W: [0.6] * 10}), [*TIMES, 450.0]
    for truth in (0.6, 0.95, *[0.6] * 15):
        kept = kept.of(there.names)
        made = foresee(kept, there, SETTINGS)
        confidence.append(made[1].confidence)
        kept, _ = judge(keep(kept, made), records(later, {W: [0.6] * 10 + [truth]}), SETTINGS)
    assert confidence[1] == pytest.approx(1.0)
    assert confidence[2] < 0.75
    assert confidence[-1] > 0.95


@pytest.mark.parametrize(
    ("errors", "count", "method"),
    [
        ({"regression": 0.20, "last": 0.05, "damped": 0.3}, 9, "last"),
        ({"regression": 0.20, "last": 0.05, "damped": 0.04}, 9, "damped"),
        ({"regression": 0.20, "last": 0.05, "damped": 0.3}, 2, "regression"),  # too few to trust
        ({"regression": 0.05, "last": 0.048, "damped": 0.3}, 9, "regression"),  # not clearly better
        ({"regression": 0.05, "last": 0.20, "damped": 0.3}, 9, "regression"),
        ({"regression": 0.20, "last": 0.20, "damped": 0.3, "seasonal": 0.01}, 9, "regression"),  # no period
    ],
)
def test_each_subject_is_told_the_better_method(errors: dict[str, float], count: int, method: str) -> None:
    told = one([0.1 + 0.05 * i for i in range(10)], erring(count, **errors))
    assert told.method == method
    assert told.value == pytest.approx({"last": 0.55, "damped": 0.73, "regression": 0.85}[method], abs=0.06)


def test_a_forecast_waits_until_it_is_due_and_is_judged_then() -> None:
    kept = waiting()
    assert [batch.due_at for batch in kept.pending] == [450]
    assert judge(kept, records(TIMES, {W: [0.5] * 10}), SETTINGS) == (kept, Verdicts())
    times = [*TIMES, 420.0, 460.0]
    after, judged = judge(kept, records(times, {W: [0.5] * 10 + [0.7, 0.9]}), SETTINGS)
    assert after.pending == ()
    verdict = judged[1]
    assert [v.forecast.subject for v in judged] == [SYSTEM, W]
    assert verdict.truth == pytest.approx(0.85)  # between .7 at 420 and .9 at 460
    assert verdict.accuracy == pytest.approx(0.65)
    assert not verdict.inside
    track = after.track(W)
    assert track is not None
    assert track.accuracy == pytest.approx(0.65)
    assert track.coverage == pytest.approx(0.8 * 4 / 5)
    assert track.errors == dict.fromkeys(METHODS[:3], pytest.approx(0.35))


def test_accuracy_is_a_moving_average_that_begins_as_the_mean() -> None:
    kept = Foresight()
    for truth in (0.5, 0.7):
        made = waiting()
        kept, _ = judge(replace(kept.of(made.names), pending=made.pending),
                        records([*TIMES, 450.0], {W: [0.5] * 10 + [truth]}), SETTINGS)
    track = kept.track(W)
    assert track is not None
    assert track.accuracy == pytest.approx((1.0 + 0.8) / 2)
    assert track.count == 2


def test_who_left_is_forgotten_and_who_came_begins() -> None:
    kept, _ = judge(waiting(), records([*TIMES, 450.0], {W: [0.5] * 11}), SETTINGS)
    kept = replace(kept, pending=waiting().pending)
    others = kept.of((SYSTEM, "new@h", W))
    assert (others.track("new@h"), others.track(W)) == (None, kept.track(W))
    gone = kept.of((SYSTEM, "new@h"))
    assert (gone.track(W), gone.track(SYSTEM)) == (None, kept.track(SYSTEM))
    there = records([*TIMES, 450.0], {"new@h": [None] * 10 + [0.9]})
    assert [v.forecast.subject for v in judge(gone, there, SETTINGS)[1]] == [SYSTEM]


def test_after_a_long_sleep_nothing_is_judged() -> None:
    after, judged = judge(waiting(), records([*TIMES, 5_000.0], {W: [0.5] * 11}), SETTINGS)
    assert (len(judged), after.pending) == (0, ())


def test_batches_that_wait_are_bounded_by_the_number_of_workers() -> None:
    """Every forecast of every worker waits at the usual pace; at a hurried one an even choice of them."""
    for count, interval, most in ((10_000, 30.0, 6), (10_000, 1.0, 10), (3, 1.0, 180), (3, 0.1, 512)):
        kept = Foresight().of((SYSTEM, *(f"w{i}@h" for i in range(count))))
        batch = Foreseen(names=kept.names, batch=replace(
            kept_batch(len(kept.names)), made_at=0.0, due_at=180.0))
        for tick in range(int(180 / interval)):
            at = tick * interval
            made = replace(batch, batch=replace(batch.batch, made_at=at, due_at=at + 180.0))
            kept = keep(kept, made)
        gaps = np.diff([b.made_at for b in kept.pending])
        assert len(kept.pending) <= most
        assert gaps.max() <= 1.5 * max(interval, 180 / most)


def kept_batch(subjects: int) -> forecast.Batch:
    batch = forecast.Batch.of_nobody({"m": len(METHODS), "n": subjects})
    return replace(batch, values=np.zeros_like(batch.values))


def test_many_records_are_looked_at_evenly_and_the_last_one_always() -> None:
    for count in (1, 4, 31, 32, 33, 64, 500, 512):
        places = forecast._looked_at(count)
        assert places[-1] == count - 1
        assert len(places) <= forecast.DEPTH
        assert len(set(np.diff(places))) <= 1
        assert len(places) > count // 2 or len(places) > forecast.DEPTH / 2


def test_columns_say_what_the_records_say() -> None:
    series = {f"w{i}@h": [None if i == 3 else 0.1 * i] * 10 for i in range(5)}
    there = records(TIMES, series)
    kept = Foresight().of(there.names)
    made = foresee(kept, there, SETTINGS)
    assert [f.subject for f in made] == [SYSTEM, "w0@h", "w1@h", "w2@h", "w4@h"]
    for name, values in made.columns().items():
        told = [getattr(f, name) for f in made]
        assert values.tolist() == (pytest.approx(told) if isinstance(told[0], float) else told)
    later = records([*TIMES, 450.0], {name: [*v, 0.3] for name, v in series.items()})
    _, judged = judge(keep(kept, made), later, SETTINGS)
    due = {name: values.tolist() for name, values in judged.columns().items()}
    assert due["subject"] == [v.forecast.subject for v in judged]
    assert due["truth"] == [v.truth for v in judged]
    assert due["accuracy"] == pytest.approx([v.accuracy for v in judged])
    assert due["inside"] == [v.inside for v in judged]


@given(st.lists(st.one_of(st.none(), st.floats(0, 1)), min_size=1, max_size=14))
def test_any_series_gives_finite_numbers_in_range(values: list[float | None]) -> None:
    kept = Foresight()
    for end in range(1, len(values) + 1):
        there = records([60.0 * i for i in range(end)], {"w": values[:end]})
        kept, made, judged = look_ahead(kept, there, SETTINGS)
        for told in made:
            numbers = (told.value, told.low, told.high, told.confidence)
            assert all(math.isfinite(n) and 0 <= n <= 1 for n in numbers)
            assert told.low <= told.value <= told.high
        assert all(0 <= v.accuracy <= 1 for v in judged)
    for name in kept.names:
        track = kept.track(name) or Track(count=0, accuracy=0.0)
        assert all(0 <= error <= 1 for error in (track.accuracy, track.coverage, *track.errors.values()))


def test_nobody_is_foreseen_in_columns_of_nobody() -> None:
    assert tracks.none(0).taken(np.array([-1, -1])).coverage.tolist() == pytest.approx([0.8, 0.8])
    kept, made, judged = look_ahead(Foresight(), records([0.0], {}), SETTINGS)
    assert (len(made), len(judged), kept.names) == (0, 0, (SYSTEM,))


@given(st.integers(0, 2**32), st.integers(0, 9), st.sampled_from([0.0, 0.1]))
def test_the_line_alone_is_the_same_as_beside_the_others(seed: int, count: int, holes: float) -> None:
    chance = np.random.default_rng(seed)
    table = chance.random((count, 7))
    table[chance.random(table.shape) < holes] = np.nan
    times = np.array(TIMES[:count])
    alone, beside = forecasters.line(times, table, 60.0), forecasters.guesses(times, table, 60.0)[0]
    assert alone.value.tobytes() == beside.value.tobytes()
    assert alone.half.tobytes() == beside.half.tobytes()
    assert holes or np.isfinite(alone.value).all() == (count >= forecasters.MIN_POINTS)
