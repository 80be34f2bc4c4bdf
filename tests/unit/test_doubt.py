"""What is not known of a pair that never ran: who tries it first, and who leaves the last tasks alone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from balancer.decide.columns import columns
from balancer.decide.doubt import UNDER_WAY, UNSEEN, Doubts, doubts
from balancer.decide.estimate import Estimates
from balancer.decide.order import orders
from balancer.decide.pull import ranked
from balancer.model import Fleet, Order
from balancer.routing import lane_queue
from balancer.settings import Settings
from tests.unit.fleets import fleet, held, known, lane, situation, with_running

V100, K80 = "cuda-V100", "cuda-K80"
A, B = lane_queue("a"), lane_queue("b")

#: Of a everything is known; b never ran on a K80 and is guessed there from the classes' speeds: 2 s.
HALF = {"a": {V100: 1.0, K80: 2.0}, "b": {V100: 1.0}}


def guessed(table: dict[str, dict[str, float]] = HALF) -> Estimates:
    return replace(known(table), class_speed={V100: 3.0, K80: 1.5}, typical_s=3.0)


def doubted(state: Fleet, estimates: Estimates, **options: object) -> Doubts:
    made = situation(state, estimates, settings=Settings(**options))  # type: ignore[arg-type]
    return doubts(made, columns(state, estimates))


def order_of(state: Fleet, hardware_class: str, estimates: Estimates) -> Order:
    return next(o for o in orders(situation(state, estimates)) if o.hardware_class == hardware_class)


def test_only_what_never_ran_is_in_doubt() -> None:
    found = doubted(fleet(f"{V100} {K80}", lanes="a:9 b:9"), guessed())
    # Classes by name: K80, V100.
    assert found.longer.tolist() == [[1.0, 1.0], [UNSEEN, 1.0]]
    assert found.turn.tolist() == [[1.0, 1.0], [UNDER_WAY, 1.0]]
    assert found.fresh.tolist() == [[False, False], [True, False]]


@pytest.mark.parametrize(("hint", "factor"), [({K80: 3.0}, 1.0), ({"cuda": 3.0}, 1.0), ({V100: 3.0}, UNSEEN)])
def test_an_operators_hint_leaves_no_doubt_of_the_classes_it_names(hint: dict[str, float],
                                                                   factor: float) -> None:
    state = fleet(f"{V100} {K80}", lanes="a:9 b:9")
    assert doubted(state, guessed(), hints={"b": hint}).longer[1, 0] == factor


def test_an_authors_hint_leaves_no_doubt_either() -> None:
    state = replace(fleet(f"{V100} {K80}"), lanes=(lane("b", 9, expected_s={K80: 3.0}),))
    assert doubted(state, guessed()).longer.tolist() == [[1.0, 1.0]]


def test_a_first_run_under_way_is_awaited_by_its_class_and_by_no_other() -> None:
    state = with_running(fleet(f"{V100} {K80}*2", lanes="a:9 b:9"), f"{K80}-0", held("t", "b", ran_s=0.1))
    assert not doubted(state, guessed()).fresh.any()
    state = with_running(fleet(f"{V100} {K80}*2", lanes="a:9 b:9"), f"{V100}-0", held("t", "b", ran_s=0.1))
    assert doubted(state, guessed()).fresh[1, 0]


def test_a_lane_never_tried_comes_first_for_one_worker_until_somebody_tries_it() -> None:
    # By the guess, b is a fifth worse on a K80 than a is.
    table = {"a": {V100: 1.0, K80: 2.0}, "b": {V100: 0.8}}
    ages = {A: 1.0, B: 2.0}
    state = fleet(f"{V100}*4 {K80}*4", lanes="a:90 b:90")
    slower = replace(guessed(table), class_speed={V100: 3.0, K80: 1.2})
    before = order_of(state, K80, slower)
    assert before.first_runs == {f"{K80}-0": B}
    assert ranked(before, {A: 90, B: 90}, ages, first=B)[0] == B
    assert ranked(before, {A: 90, B: 90}, ages)[0] == A
    tried = with_running(state, f"{K80}-0", held("t", "b", ran_s=0.1))
    after = order_of(tried, K80, slower)
    assert not after.first_runs
    assert ranked(after, {A: 90, B: 90}, ages)[0] == A


def test_nobody_is_to_try_what_is_guessed_to_be_far_from_the_best() -> None:
    table = {"a": {V100: 1.0, K80: 2.0}, "b": {V100: 0.8}}
    slow = replace(guessed(table), class_speed={V100: 3.0, K80: 0.8})
    assert not order_of(fleet(f"{V100}*4 {K80}*4", lanes="a:90 b:90"), K80, slow).first_runs


def test_first_runs_are_dealt_one_a_worker_and_first_to_whoever_is_free_soonest() -> None:
    state = with_running(fleet(f"{K80}*3", lanes="a:9 b:9 c:9"), f"{K80}-0", held("t", "a", ran_s=0.1))
    found = order_of(state, K80, Estimates()).first_runs
    assert sorted(found) == [f"{K80}-1", f"{K80}-2"]
    assert sorted(found.values()) == [B, lane_queue("c")]
    alone = order_of(fleet(K80, lanes="a:9 b:9 c:9"), K80, Estimates()).first_runs
    assert list(alone) == [f"{K80}-0"]


def test_a_first_run_comes_before_all_else_but_not_past_the_guard() -> None:
    order = order_of(fleet(f"{V100} {K80}", lanes="a:90 b:4"), K80, guessed())
    assert ranked(order, {A: 90, B: 4}, first=B) == [B, A]
    assert ranked(order, {A: 90, B: 0}, first=B) == [A, B], "nothing waits there"
    assert B not in ranked(order, {A: 0, B: 1}, first=B), "others would be sooner"


def test_the_last_tasks_do_not_go_to_hardware_that_nobody_has_tried() -> None:
    # Four wait for one V100 (1 s each): a K80 of 2 s helps when that is known, not when it is a guess.
    state = fleet(f"{V100} {K80}", lanes="b:4")
    sure = order_of(state, K80, guessed({"b": {V100: 1.0, K80: 2.0}}))
    guess = order_of(state, K80, guessed({"b": {V100: 1.0}}))
    assert ranked(sure, {B: 4}) == [B]
    assert ranked(guess, {B: 4}) == []


def test_where_nothing_at_all_is_known_somebody_serves_a_single_task() -> None:
    state = fleet(f"{V100} {K80}", lanes="b:1")
    assert any(ranked(o, {B: 1}) == [B] for o in orders(situation(state, Estimates())))
