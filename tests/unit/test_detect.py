"""Imbalance now and foreseen, and the alarm that ignores blips."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.decide.detect import Alarm, Ranked, current, foreseen, sound
from balancer.decide.load import system_load, utilisations
from balancer.decide.thresholds import initial
from balancer.model import Fleet, Forecast, Imbalance
from balancer.settings import Settings
from tests.unit.fleets import fleet

SETTINGS = Settings()
BOUNDS = initial(SETTINGS)


def now(there: Fleet, settings: Settings = SETTINGS) -> Imbalance | None:
    return current(there, utilisations(there), BOUNDS, settings)


@pytest.mark.parametrize(
    ("text", "overloaded", "underloaded"),
    [
        ("cuda:.95 cpu:.1", ("cuda-0",), ("cpu-0",)),
        ("cpu:.90 cpu:.99 cpu:.15 cpu:.05", ("cpu-1", "cpu-0"), ("cpu-3", "cpu-2")),
        ("cpu:.85 cpu:.1", None, None),  # at the threshold is not over it
        ("cpu:.95 cpu:.2", None, None),  # nor under
        ("cpu:.95 cpu:.95", None, None),  # over without under: overload, not imbalance
        ("cpu:.1 cpu:.1", None, None),
        ("", None, None),
    ],
)
def test_current(text: str, overloaded: tuple[str, ...] | None, underloaded: tuple[str, ...] | None) -> None:
    found = now(fleet(text))
    if overloaded is None:
        assert found is None
    else:
        assert found is not None
        assert (found.kind, found.overloaded, found.underloaded) == ("current", overloaded, underloaded)


def test_score_is_the_distance_and_must_exceed_the_threshold() -> None:
    found = now(fleet("cpu:.95 cpu:.1"))
    assert found is not None
    assert found.score == pytest.approx(0.85)
    assert now(fleet("cpu:.95 cpu:.1"), replace(SETTINGS, imbalance_threshold=0.86)) is None


def test_a_worker_that_ails_is_no_place_to_move_to() -> None:
    there = fleet("cpu:.95 cpu:.1")
    hot, idle = there.workers
    ailing = replace(there, workers=(hot, replace(idle, health="degraded")))
    assert now(ailing) is None


def foretell(confidence: float = 0.9, **values: float) -> list[Forecast]:
    return [
        Forecast(
            subject=name.replace("_", "-"), made_at=0, due_at=180, value=v, low=v, high=v,
            confidence=confidence,
        )
        for name, v in values.items()
    ]


@pytest.mark.parametrize(
    ("confidence", "cpu_0", "cpu_1", "found"),
    [
        (0.9, 0.95, 0.05, True),
        (0.69, 0.95, 0.05, False),  # not sure enough
        (0.9, 0.84, 0.05, False),  # not over
        (0.9, 0.95, 0.30, False),  # not under
    ],
)
def test_foreseen(confidence: float, cpu_0: float, cpu_1: float, found: bool) -> None:
    there = fleet("cpu:.6 cpu:.4")
    load = system_load(there.at, utilisations(there))
    seen = foreseen(there, foretell(confidence, cpu_0=cpu_0, cpu_1=cpu_1), load, BOUNDS, SETTINGS)
    assert (seen is not None) == found
    if seen is not None:
        assert (seen.kind, seen.overloaded, seen.underloaded) == ("predicted", ("cpu-0",), ("cpu-1",))


def test_a_foreseen_imbalance_must_be_more_substantial_than_a_present_one() -> None:
    there = fleet("cpu:.95 cpu:.10")
    load = system_load(there.at, utilisations(there))
    assert foreseen(there, foretell(cpu_0=0.95, cpu_1=0.11), load, BOUNDS, SETTINGS) is None
    calm = replace(load, imbalance=0.1)
    strict = replace(SETTINGS, imbalance_threshold=0.6)
    assert foreseen(there, foretell(cpu_0=0.95, cpu_1=0.11), calm, BOUNDS, SETTINGS) is not None
    assert foreseen(there, foretell(cpu_0=0.95, cpu_1=0.11), calm, BOUNDS, strict) is None


@pytest.mark.parametrize(
    ("samples", "acts"),
    [
        ("B", "-"),
        ("BB", "--"),
        ("BBB", "--B"),
        ("BBGBB", "-----"),  # a good one in between begins the count again
        ("BBBGB", "--B-B"),  # one good sample does not clear
        ("BBBGGB", "--B---"),  # two do
        ("BBBBB", "--BBB"),
    ],
)
def test_the_alarm_trips_and_clears_by_streaks(samples: str, acts: str) -> None:
    alarm, seen = Alarm(), ""
    for sample in samples:
        alarm, act = sound(alarm, sample == "B", SETTINGS)
        seen += "B" if act else "-"
    assert seen == acts


def test_with_one_sample_to_trip_it_is_the_seeds_own() -> None:
    assert sound(Alarm(), True, replace(SETTINGS, trip_samples=1))[1]


@given(st.lists(st.sampled_from([0.1, 0.2, 0.9]), min_size=1, max_size=12), st.randoms())
def test_whoever_is_first_is_first_however_many_are_asked_for(values: list[float], chance: Random) -> None:
    names = [f"w{i}" for i in range(len(values))]
    chance.shuffle(names)
    ranks = np.array([sorted(names).index(name) for name in names], dtype=np.intp)
    ranked = Ranked(np.array(names, dtype=np.object_), np.array(values), ranks)
    all_ = tuple(name for _, name in sorted(zip(values, names, strict=True)))
    assert (ranked[0], len(ranked), ranked[:3], ranked[-1]) == (all_[0], len(all_), all_[:3], all_[-1])
    assert ranked == all_
    assert all_ == ranked
