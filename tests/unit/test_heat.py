"""Heat: who counts as slower when it is warm, and what that does to an order."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from balancer.decide.columns import columns
from balancer.decide.estimate import Estimates
from balancer.decide.heat import (
    AHEAD_S,
    COOL,
    LEAST,
    LOOKS,
    OLDEST_S,
    Warming,
    eagerness,
    foreseen,
    learn_warming,
)
from balancer.decide.order import orders
from balancer.decide.pull import ranked
from balancer.model import Fleet, Reading
from balancer.routing import lane_queue
from balancer.settings import Settings
from tests.unit.fleets import fleet, held, known, situation, with_running

V100, K80 = "cuda-V100", "cuda-K80"


def at(text: str, *celsius: float | None, lanes: str = "") -> Fleet:
    """A fleet of workers at these temperatures, in order."""
    state = fleet(text, lanes=lanes)
    pairs = zip(state.workers, celsius, strict=True)
    return replace(state, workers=tuple(replace(w, reading=Reading(temperature_celsius=c)) for w, c in pairs))


@pytest.mark.parametrize(
    ("text", "celsius", "eager"),
    [
        # Cool ones and those that say nothing count whole.
        (f"{V100}*3", (20.0, 80.0, None), (1.0, 1.0, 1.0)),
        # 5 of the last 15 degrees are left.
        (f"{V100}*2", (90.0, 40.0), (1 / 3, 1.0)),
        # All are warm: the coolest counts whole.
        (f"{V100}*2", (90.0, 85.0), (0.5, 1.0)),
        (f"{V100}", (94.0,), (1.0,)),
        # Classes apart.
        (f"{V100} {K80}*2", (90.0, 92.0, 89.0), (1.0, 0.5, 1.0)),
        # At the limit and above little is left.
        (f"{V100}*2", (99.0, 40.0), (LEAST, 1.0)),
    ],
)
def test_warm_devices_count_as_slower_than_the_coolest(
    text: str, celsius: tuple[float | None, ...], eager: tuple[float, ...]
) -> None:
    seen = columns(at(text, *celsius), Estimates())
    assert eagerness(seen, COOL, Settings()).tolist() == pytest.approx(eager)
    assert eagerness(seen, COOL, Settings(enable_resource_efficiency=False)).tolist() == [1.0] * len(eager)


def test_a_worker_that_is_not_well_is_nobodys_cool_one() -> None:
    state = at(f"{V100}*2", 90.0, 40.0)
    state = replace(state, workers=(state.workers[0], replace(state.workers[1], health="degraded")))
    assert eagerness(columns(state, Estimates()), COOL, Settings())[0] == 1.0


@pytest.mark.parametrize(
    ("cool_busy_s", "seconds", "takes"),
    [
        # The cool one is idle: it is left to it.
        (0.0, 6.0, False),
        # It is busy for so long that the warm one, counted at a third of its speed, is as good.
        (20.0, 6.0, True),
        # For a long task it is worth waiting for, for a short one it is not.
        (5.0, 6.0, False), (5.0, 1.0, True),
    ],
)
def test_a_warm_worker_leaves_work_to_a_cool_one(cool_busy_s: float, seconds: float, takes: bool) -> None:
    state = at(f"{V100}*2", 90.0, 40.0, lanes="a:1")
    if cool_busy_s:
        task = held("t", "b", ran_s=0.0)
        state = with_running(state, f"{V100}-1", task)
    now = situation(state, known({"a": {V100: seconds}, "b": {V100: cool_busy_s or 1.0}}))
    order = orders(now)[0]
    speed = order.speeds[f"{V100}-0"]
    assert math.isclose(speed, 1 / 3, rel_tol=1e-6)
    assert (lane_queue("a") in ranked(order, {lane_queue("a"): 1}, speed=speed)) == takes


def looked(text: str, *courses: tuple[float | None, ...], every_s: float = 1.0) -> tuple[Fleet, Warming]:
    """The fleet at the last of these temperatures (one course a worker), and what the looks at it told."""
    warming, state = COOL, Fleet(at=0.0)
    for i, celsius in enumerate(zip(*courses, strict=True)):
        state = replace(at(text, *celsius), at=1000.0 + every_s * i)
        warming = learn_warming(warming, state, Settings())
    return state, warming


RISING = tuple(60.0 + i for i in range(12))


def test_what_surely_gets_warm_counts_as_warm_before_it_is() -> None:
    state, warming = looked(f"{V100}*3", RISING, (60.0,) * 12, RISING[::-1])
    seen = columns(state, Estimates())
    # The line has no scatter: 71 °C now and a degree a second more.
    assert foreseen(seen.runs.workers, warming).tolist() == pytest.approx([71.0 + AHEAD_S, 60.0, 60.0])
    assert eagerness(seen, warming, Settings()).tolist() == pytest.approx([9 / 15, 1.0, 1.0])
    assert eagerness(seen, COOL, Settings()).tolist() == [1.0, 1.0, 1.0]
    now = replace(situation(state, known({})), warming=warming)
    assert orders(now)[0].speeds == pytest.approx({f"{V100}-0": 9 / 15})


def test_a_rise_that_may_be_chance_is_none() -> None:
    shaking = tuple(70.0 + (6.0 if i % 2 else 0.0) for i in range(12))
    state, warming = looked(f"{V100}*2", shaking, (60.0,) * 12)
    assert foreseen(columns(state, Estimates()).runs.workers, warming).tolist() == [76.0, 60.0]


def test_a_device_that_cools_is_as_warm_as_it_is() -> None:
    state, warming = looked(f"{V100}*2", tuple(94.0 - i for i in range(12)), (40.0,) * 12)
    assert eagerness(columns(state, Estimates()), warming, Settings())[0] == pytest.approx(12 / 15)


def test_few_looks_old_ones_and_cool_fleets_tell_no_trend() -> None:
    for every_s, courses in ((1.0, RISING[:3]), (OLDEST_S / 2, RISING)):
        state, warming = looked(f"{V100}", courses, every_s=every_s)
        assert foreseen(columns(state, Estimates()).runs.workers, warming).tolist() == [courses[-1]]
    assert looked(f"{V100}", (20.0,) * 12)[1] is COOL
    assert learn_warming(looked(f"{V100}", RISING)[1], at(f"{V100}", None), Settings()) is COOL


def test_looks_are_few_in_order_and_outlive_those_who_come_and_go() -> None:
    state, warming = looked(f"{V100}*2", (*RISING, *RISING), (60.0,) * 24)
    assert (len(warming.times), warming.times[-1]) == (LOOKS, state.at)
    later = replace(at(f"{K80} {V100}", 50.0, 75.0), at=state.at + 1.0)
    warming = learn_warming(warming, later, Settings())
    assert warming.names == (f"{K80}-0", f"{V100}-0")
    assert warming.celsius[:, 1].tolist() == [*RISING[1:], 75.0]
    assert math.isnan(warming.celsius[0, 0])
    # The server's clock was set back: what lies ahead of it is forgotten.
    again = learn_warming(warming, replace(later, at=later.at - 5.0), Settings())
    assert again.times[-1] == later.at - 5.0
    assert list(again.times) == sorted(set(again.times))
