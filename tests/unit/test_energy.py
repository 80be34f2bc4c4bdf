"""Energy: what reports of power teach, how long a task is left to frugal hardware, and when it is not."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.decide.energy import (
    HALF_LIFE_S,
    REPORTS,
    RUNS_WAITED,
    Draw,
    class_power,
    joules_saved,
    lateness,
    learn_power,
    power_of,
    slack_s,
)
from balancer.decide.order import orders
from balancer.decide.pull import ranked
from balancer.model import HARDWARE_PROFILES, ClassPower, Fleet, Reading
from balancer.routing import lane_queue
from balancer.settings import Settings
from tests.unit.fleets import NOW, fleet, held, known, situation, with_running

V100, A10 = "cuda-V100", "cuda-A10"


def reporting(text: str, watts: Mapping[str, tuple[float, float]], *, busy: tuple[int, ...], at: float = NOW,
              noise: Random | None = None) -> Fleet:
    """A fleet of which these workers, by place, run something; a class draws (idle, more when busy) W."""
    state = fleet(text, at=at)
    made = []
    for place, worker in enumerate(state.workers):
        held_, (idle, more) = int(place in busy), watts[worker.hardware.hardware_class]
        power = idle + more * held_ + (noise.gauss(0.0, 50.0) if noise else 0.0)
        made.append(replace(worker, busy=held_, reading=Reading(power_w=power)))
    return replace(state, workers=tuple(made))


def taught(*fleets: Fleet) -> Mapping[str, Draw]:
    draws: Mapping[str, Draw] = {}
    for one in fleets:
        draws = learn_power(draws, one)
    return draws


def sure(slot_w: float, at: float = NOW) -> Draw:
    """What many exact reports of workers that are busy half the time leave."""
    return Draw(at=at, weight=100.0, busy=0.5, watts=20.0 + slot_w / 2, busy_var=0.25,
                watts_var=slot_w ** 2 / 4, cov=slot_w / 4)


def test_busy_and_idle_reports_tell_what_a_slot_draws() -> None:
    one = {V100: (40.0, 260.0), A10: (15.0, 135.0)}
    text = f"{V100}*4 {A10}*4"
    draws = taught(*(reporting(text, one, busy=(i % 4, 4, 5), at=NOW + i) for i in range(5)))
    for name, (idle, more) in one.items():
        assert draws[name].slot_w == pytest.approx(more)
        assert draws[name].idle_w == pytest.approx(idle)


def test_few_reports_or_only_chance_tell_nothing() -> None:
    one = {V100: (40.0, 260.0)}
    assert taught(reporting(f"{V100}*2", one, busy=(0,)))[V100].slot_w is None
    always = taught(*(reporting(f"{V100}*2", one, busy=(0, 1), at=NOW + i) for i in range(20)))
    assert always[V100].slot_w is None
    chance = Random(3)
    noise = taught(*(reporting(f"{V100}*2", {V100: (200.0, 0.0)}, busy=(i % 2,), at=NOW + i, noise=chance)
                     for i in range(20)))
    assert noise[V100].slot_w is None


def test_noisy_reports_come_near_the_truth_in_the_end() -> None:
    chance = Random(1)
    draws = taught(*(reporting(f"{V100}*4", {V100: (40.0, 260.0)}, busy=(i % 4,), at=NOW + i, noise=chance)
                     for i in range(200)))
    assert draws[V100].slot_w == pytest.approx(260.0, rel=0.1)


def test_old_reports_fade() -> None:
    before = {V100: sure(100.0)}
    now = [reporting(f"{V100}*2", {V100: (20.0, 300.0)}, busy=(0,), at=NOW + 10 * HALF_LIFE_S + i)
           for i in range(50)]
    draws = before
    for one in now:
        draws = dict(learn_power(draws, one))
    assert draws[V100].slot_w == pytest.approx(300.0, rel=0.02)
    assert draws[V100].weight == pytest.approx(100.0, rel=0.05)


def test_a_fleet_without_readings_of_power_teaches_nothing() -> None:
    draws = {V100: sure(100.0)}
    assert learn_power(draws, fleet(f"{V100}:.5 cpu")) is draws


@given(st.lists(st.tuples(st.integers(0, 4), st.floats(0, 500)), min_size=2, max_size=40))
def test_reports_one_by_one_are_reports_all_at_once(reports: list[tuple[int, float]]) -> None:
    """Pooling is least squares over all reports, as numpy does it."""
    draws: Mapping[str, Draw] = {}
    for busy, watts in reports:
        state = fleet(V100)
        worker = replace(state.workers[0], slots=4, busy=busy, reading=Reading(power_w=watts))
        draws = learn_power(draws, replace(state, workers=(worker,)))
    x, y = np.array([b for b, _ in reports], dtype=float), np.array([w for _, w in reports])
    found = draws[V100]
    assert found.weight == len(reports)
    for mine, theirs in ((found.busy, x.mean()), (found.watts, y.mean()), (found.busy_var, x.var()),
                         (found.watts_var, y.var()), (found.cov, ((x - x.mean()) * (y - y.mean())).mean())):
        assert mine == pytest.approx(theirs, abs=1e-6)
    assert found.slot_w is None or (found.weight >= REPORTS and found.slot_w > 0)


def test_what_is_not_told_comes_from_the_table_at_the_scale_of_what_is() -> None:
    power = power_of((V100, "cpu"), {V100: sure(300.0)}, HARDWARE_PROFILES)
    assert power.told.tolist() == [True, False]
    table = (1.0 / 0.7) / (3.0 / 0.5)
    assert power.slot_w.tolist() == pytest.approx([300.0, 300.0 * table])


def test_what_is_known_of_a_class_says_where_it_comes_from() -> None:
    state = fleet(f"{V100} {A10} cpu")
    emulated = replace(state.workers[1], hardware=replace(state.workers[1].hardware, emulated=True))
    state = replace(state, workers=(state.workers[0], emulated, state.workers[2]))
    assert class_power({V100: sure(260.0), A10: sure(130.0)}, state) == {
        V100: ClassPower(source="measured", slot_w=pytest.approx(260.0), idle_w=pytest.approx(20.0)),
        A10: ClassPower(source="emulated", slot_w=pytest.approx(130.0), idle_w=pytest.approx(20.0)),
        "cpu": ClassPower(source="table"),
    }


@pytest.mark.parametrize(
    ("there", "speedup", "saved"),
    [(A10, 1.0, 0.5), (A10, 0.5, 0.0), (A10, 0.25, -0.5), (V100, 1.0, 0.0), ("cpu", 1.0, None)],
)
def test_joules_follow_from_watts_and_speed(there: str, speedup: float, saved: float | None) -> None:
    found = joules_saved({V100: sure(200.0), A10: sure(100.0)}, V100, there, speedup)
    assert found == (None if saved is None else pytest.approx(saved))


P = np.array([[6.0, 9.0]])


@pytest.mark.parametrize(
    ("watts", "slack", "later"),
    [
        # Half the watts for 1.5 times as long: a quarter of the joules is saved.
        ((200.0, 100.0), 8.0, 2.0),
        # Nothing is saved: never later.
        ((200.0, 200.0), 8.0, 0.0),
        # No slack.
        ((200.0, 100.0), 0.0, 0.0),
        # However great the slack, so many runs of the fastest at most.
        ((200.0, 100.0), 1e6, RUNS_WAITED * 6.0 / 4),
    ],
)
def test_a_frugal_class_may_be_later_by_its_share_of_the_slack(
    watts: tuple[float, float], slack: float, later: float
) -> None:
    power = power_of((V100, A10), {V100: sure(watts[0]), A10: sure(watts[1])}, HARDWARE_PROFILES)
    found = lateness(power, P, np.ones((1, 2)), P, slack)
    assert found.tolist() == [[0.0, pytest.approx(later)]]


def test_within_a_kind_the_table_says_nothing() -> None:
    """Of unlike kinds it does: a CPU that needs twice as long as a CUDA device draws less by the table."""
    p = np.array([[1.0, 2.0]])
    blind = power_of((V100, A10), {V100: sure(200.0)}, HARDWARE_PROFILES)
    assert not lateness(blind, p, np.ones((1, 2)), p, 9.0).any()
    by_table = power_of((V100, "cpu"), {}, HARDWARE_PROFILES)
    assert lateness(by_table, p, np.ones((1, 2)), p, 9.0)[0, 1] > 0


def test_what_nobody_can_run_is_later_nowhere() -> None:
    power = power_of((V100, A10), {V100: sure(200.0), A10: sure(10.0)}, HARDWARE_PROFILES)
    p = np.array([[math.inf, math.inf], [math.inf, 4.0]])
    assert not lateness(power, p, np.ones((2, 2)), p, 9.0).any()


@pytest.mark.parametrize(
    ("slack", "counts", "drain", "left"),
    [(10.0, True, 0.0, 10.0), (10.0, True, 4.0, 6.0), (10.0, True, 40.0, 0.0), (10.0, False, 0.0, 0.0)],
)
def test_a_backlog_uses_the_slack_up(slack: float, counts: bool, drain: float, left: float) -> None:
    settings = Settings(energy_slack=slack, enable_resource_efficiency=counts)
    assert slack_s(settings, drain) == left


#: Tasks of b are nearly as fast on an A10, which draws half as much.
TABLE = {"b": {V100: 6.0, A10: 7.0}}
DRAWS = {V100: sure(260.0), A10: sure(130.0)}


def serves(state: Fleet, hardware_class: str, **options: float) -> bool:
    """Whether a worker of the class would take a b now."""
    now = replace(situation(state, known(TABLE), settings=Settings(**options)), power=DRAWS)  # type: ignore[arg-type]
    order = next(o for o in orders(now) if o.hardware_class == hardware_class)
    return lane_queue("b") in ranked(order, {lane.queue: lane.waiting for lane in state.lanes})


@pytest.mark.parametrize(
    ("slack", "waiting", "a10_busy_s", "on_v100", "on_a10"),
    [
        # Energy does not count: the fastest takes it, the other leaves it alone.
        (0.0, 1, 0.0, True, False),
        # An idle A10 is a second later and saves 42 % of the joules.
        (5.0, 1, 0.0, False, True),
        # It is free in a second: still within 42 % of the slack that the task itself leaves; in four no more.
        (10.0, 1, 1.0, False, True),
        (10.0, 1, 4.0, True, True),
        # Work for half a minute: every slot is needed.
        (5.0, 20, 0.0, True, True),
    ],
)
def test_a_task_is_left_to_frugal_hardware_for_so_long(
    slack: float, waiting: int, a10_busy_s: float, on_v100: bool, on_a10: bool
) -> None:
    state = fleet(f"{V100}*2 {A10}*2", lanes=f"b:{waiting}")
    if a10_busy_s:
        for i in range(2):
            state = with_running(state, f"{A10}-{i}", held(f"t{i}", "b", ran_s=7.0 - a10_busy_s))
    assert serves(state, V100, energy_slack=slack) == on_v100
    if not a10_busy_s:
        assert serves(state, A10, energy_slack=slack) == on_a10


def test_without_resource_efficiency_energy_does_not_count() -> None:
    state = fleet(f"{V100}*2 {A10}*2", lanes="b:1")
    assert serves(state, V100, energy_slack=5.0, enable_resource_efficiency=False)
