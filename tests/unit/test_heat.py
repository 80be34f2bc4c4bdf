"""Heat: who counts as slower when it is warm, and what that does to an order."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from balancer.decide.columns import columns
from balancer.decide.estimate import Estimates
from balancer.decide.heat import LEAST, eagerness
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
    assert eagerness(seen, Settings()).tolist() == pytest.approx(eager)
    assert eagerness(seen, Settings(enable_resource_efficiency=False)).tolist() == [1.0] * len(eager)


def test_a_worker_that_is_not_well_is_nobodys_cool_one() -> None:
    state = at(f"{V100}*2", 90.0, 40.0)
    state = replace(state, workers=(state.workers[0], replace(state.workers[1], health="degraded")))
    assert eagerness(columns(state, Estimates()), Settings())[0] == 1.0


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
