"""What running tasks tell of pairs that have hardly run."""

from __future__ import annotations

from dataclasses import replace

import pytest

from balancer.decide.estimate import seconds
from balancer.decide.progress import with_progress
from balancer.decide.situation import Situation
from balancer.decide.strategies import by_name
from balancer.model import HeldTask
from balancer.routing import lane_queue
from tests.unit.fleets import fleet, hardware, held, known, situation, with_running

V100, K80 = "cuda-V100", "cuda-K80"
SLOW = f"{K80}-0"


def running(task: HeldTask, count: int = 0) -> Situation:
    state = with_running(fleet(f"{V100} {K80}", lanes="a:5 b:5"), SLOW, task)
    return situation(state, known({"a": {K80: 1.0}}, count=count) if count else None)


def on_k80(given: Situation) -> float:
    profile = given.fleet.lanes[0].profile
    return seconds(given.estimates, profile, hardware(K80), given.settings, given.profiles)


def told(share: float, *, before: float | None = None, ran_s: float = 10.0) -> HeldTask:
    task = held("t", "a", ran_s=ran_s, checkpoint_ago_s=0.0, size=2.0)
    return replace(task, share_done=share, share_before=before)


def test_the_pace_of_a_running_task_counts_before_it_ends() -> None:
    assert on_k80(with_progress(running(told(0.1)))) == pytest.approx(50.0)


def test_progress_before_this_run_does_not_count_as_its_pace() -> None:
    assert on_k80(with_progress(running(told(0.6, before=0.5)))) == pytest.approx(50.0)
    moved = replace(told(0.6), epoch=1)
    assert with_progress(running(moved)) == running(moved)


def test_it_counts_as_one_run_beside_those_that_ended_and_not_once_the_pair_is_known() -> None:
    assert on_k80(with_progress(running(told(0.1), count=1))) == pytest.approx((1.0 * 50.0) ** 0.5)
    assert with_progress(running(told(0.1), count=3)) == running(told(0.1), count=3)


def test_a_task_that_outlasts_its_guess_and_tells_nothing_is_slower_than_guessed() -> None:
    silent = held("t", "a", ran_s=100.0, size=2.0)
    assert on_k80(running(silent)) < 1.0
    assert on_k80(with_progress(running(silent))) == pytest.approx(100.0)
    young = held("t", "a", ran_s=0.1, size=2.0)
    assert with_progress(running(young)) == running(young)


def test_a_slow_class_shows_in_lanes_that_never_ran_there() -> None:
    """`a` crawls on the K80, so `b`, which ran nowhere, is expected to crawl there too."""
    given = replace(running(told(0.01)), estimates=known({"a": {V100: 5.0}}))
    before, after = situation_ratio(given), situation_ratio(with_progress(given))
    assert before == pytest.approx(1.0)
    assert after > 2.0


def situation_ratio(given: Situation) -> float:
    """How much longer `b` is expected to take on the K80 than on the V100."""
    profile = given.fleet.lanes[1].profile
    slow, fast = (
        seconds(given.estimates, profile, hardware(h), given.settings, given.profiles) for h in (K80, V100)
    )
    return slow / fast


def test_priced_uses_it_at_once() -> None:
    given = running(told(0.01))
    order = next(o for o in by_name("priced").orders(given) if o.hardware_class == K80)
    offer = next(o for o in order.offers if o.queue == lane_queue("a"))
    assert offer.seconds == pytest.approx(500.0)
