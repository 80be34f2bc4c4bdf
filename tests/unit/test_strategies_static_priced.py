"""The strategies by name, and what `static` makes of a fleet."""

from __future__ import annotations

from dataclasses import replace

import pytest

from balancer.decide.pull import ranked
from balancer.decide.situation import Strategy, Suggestions
from balancer.decide.strategies import NAMES, by_name
from balancer.errors import SettingError
from balancer.model import Fleet, Order
from balancer.routing import lane_queue
from tests.unit.fleets import fleet, held, known, situation, with_running

V100, P100, K80 = "cuda-V100", "cuda-P100", "cuda-K80"
TABLE = {"a": {V100: 1.0, P100: 2.0, K80: 10.0}, "b": {V100: 2.0, P100: 1.0, K80: 10.0}}


def static(state: Fleet) -> dict[str, Order]:
    return {order.hardware_class: order for order in by_name("static").orders(situation(state, known(TABLE)))}


@pytest.mark.parametrize("name", NAMES)
def test_every_name_gives_a_strategy_that_says_its_name(name: str) -> None:
    strategy: Strategy = by_name(name)
    assert strategy.name == name
    assert {order.strategy for order in strategy.orders(situation(fleet("cpu", lanes="a:1")))} == {name}


@pytest.mark.parametrize(
    ("name", "meant"), [("pricd", "priced"), ("Static", "static"), ("adaptiv", "adaptive")]
)
def test_a_wrong_name_is_refused_with_the_nearest(name: str, meant: str) -> None:
    with pytest.raises(SettingError, match=rf"balancer_strategy.*'{name}'.*did you mean '{meant}'"):
        by_name(name)


def test_a_name_near_nothing_is_refused_without_a_guess() -> None:
    with pytest.raises(SettingError, match=r"'xyzzy' is none of static, fixed, adaptive, priced") as caught:
        by_name("xyzzy")
    assert "did you mean" not in str(caught.value)


def test_static_gives_each_lane_to_its_fastest_class_alone() -> None:
    orders = static(fleet(f"{V100} {P100} {K80}", lanes="a:9 b:9"))
    assert orders[V100].groups == ((lane_queue("a"),),)
    assert orders[P100].groups == ((lane_queue("b"),),)
    assert orders[K80].groups == ()
    assert all(order.exclusive and not order.guarded for order in orders.values())
    backlog = {lane_queue("a"): 9, lane_queue("b"): 9}
    assert [ranked(orders[name], backlog) for name in (V100, P100, K80)] == [
        [lane_queue("a")], [lane_queue("b")], []]


def test_static_keeps_serving_when_the_fastest_class_is_not_there_or_takes_nothing_new() -> None:
    assert static(fleet(f"{P100} {K80}", lanes="a:9"))[P100].groups == ((lane_queue("a"),),)
    state = fleet(f"{V100} {K80}", lanes="a:9")
    draining = tuple(replace(w, health="draining") if V100 in w.name else w for w in state.workers)
    assert static(replace(state, workers=draining))[K80].groups == ((lane_queue("a"),),)


def test_static_gives_lanes_that_tie_to_the_class_with_more_slots() -> None:
    orders = {o.hardware_class: o for o in by_name("static").orders(
        situation(fleet(f"{V100} {P100}*3", lanes="c:9"), known({"c": {V100: 1.0, P100: 1.0}})))}
    assert orders[P100].groups == ((lane_queue("c"),),)
    assert orders[V100].groups == ()


def test_static_moves_nothing_where_priced_does() -> None:
    state = fleet(f"{V100} {K80}", lanes="a:0")
    state = with_running(state, f"{K80}-0", held("t", "a", ran_s=50.0, checkpoint_ago_s=1.0, size=100.0))
    given = situation(state, known(TABLE))
    assert by_name("static").suggest(given) == Suggestions()
    assert len(by_name("priced").suggest(given).moves) == 1


def test_what_the_strategies_want_of_the_tick() -> None:
    wants = {name: (by_name(name).moves_thresholds, by_name(name).foresees) for name in ("static", "priced")}
    assert wants == {"static": (False, False), "priced": (True, True)}
