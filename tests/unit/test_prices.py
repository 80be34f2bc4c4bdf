"""Prices against HiGHS on random instances, and on every kind of nothing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import linprog

from balancer.decide.prices import Prices, solve

Array = NDArray[np.float64]


def reference(n: Array, p: Array, cap: Array, work: Array) -> float:
    """The least T of the fluid program, by HiGHS; lanes nobody can run are left out."""
    lanes, classes = p.shape
    able = np.isfinite(p) & (cap > 0)
    needed = np.where(able.any(axis=1), n, 0.0)
    cost = np.zeros(lanes * classes + 1)
    cost[-1] = 1.0
    equal, most = np.zeros((lanes, cost.size)), np.zeros((classes, cost.size))
    for y in range(lanes):
        equal[y, y * classes:(y + 1) * classes] = 1.0
        for h in range(classes):
            most[h, y * classes + h] = p[y, h] if able[y, h] else 0.0
    most[:, -1] = -cap
    bounds = [(0, None if ok else 0) for ok in able.ravel()] + [(0, None)]
    used = cap > 0
    answer = linprog(cost, A_ub=most[used], b_ub=-work[used], A_eq=equal, b_eq=needed, bounds=bounds)
    assert answer.status == 0, answer.message
    return float(answer.fun)


def is_sound(prices: Prices, p: Array, cap: Array) -> bool:
    """Finite, not negative, Σ π·cap = 1 where there is capacity, and v = min π·p."""
    numbers = np.concatenate([prices.price, prices.value, prices.share.ravel(), [prices.drain_s]])
    able = np.isfinite(p) & (cap > 0)
    at_price = np.where(able, prices.price * np.where(able, p, 0.0), np.inf).min(axis=1, initial=np.inf)
    return bool(
        np.isfinite(numbers).all() and (numbers >= 0).all()
        and (not (cap > 0).any() or abs(prices.price @ cap - 1) < 1e-9)
        and np.allclose(prices.value, np.where(np.isfinite(at_price), at_price, 0.0), rtol=1e-9, atol=1e-300)
    )


@st.composite
def instances(draw: st.DrawFn) -> tuple[Array, Array, Array, Array]:
    """Random lanes and classes: times over six decades, holes, empty lanes, classes without capacity."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    lanes, classes = draw(st.integers(1, 30)), draw(st.integers(1, 8))
    p = draw(st.sampled_from([0.01, 1.0, 100.0])) * np.exp(
        rng.normal(0, draw(st.sampled_from([0.0, 0.1, 1.0, 3.0])), (lanes, classes))
    )
    p[rng.random(p.shape) < draw(st.sampled_from([0.0, 0.3, 0.7]))] = np.inf
    n = rng.integers(0, draw(st.sampled_from([2, 50, 100_000])), lanes).astype(float)
    cap = rng.integers(0 if draw(st.booleans()) else 1, 40, classes).astype(float)
    work = rng.exponential(draw(st.sampled_from([0.001, 10.0, 10_000.0])), classes)
    work *= rng.random(classes) < 0.6
    return n, p, cap, np.where(cap > 0, work, 0.0)


@given(instances())
@settings(max_examples=150, deadline=None)
def test_the_drain_time_is_that_of_highs(instance: tuple[Array, Array, Array, Array]) -> None:
    n, p, cap, work = instance
    prices = solve(n, p, cap, work)
    assert is_sound(prices, p, cap)
    if (cap > 0).any():
        truth = reference(n, p, cap, work)
        assert prices.drain_s <= truth * (1 + 1e-6) + 1e-9, "the dual value is a lower bound"
        assert prices.drain_s >= truth * (1 - 0.005) - 1e-9


@given(instances(), st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_a_warm_start_changes_the_way_and_not_the_end(
    instance: tuple[Array, Array, Array, Array], seed: int
) -> None:
    n, p, cap, work = instance
    warm = solve(n, p, cap, work).price * np.random.default_rng(seed).uniform(0, 3, cap.size)
    again = solve(n, p, cap, work, warm)
    assert is_sound(again, p, cap)
    assert again.drain_s == pytest.approx(solve(n, p, cap, work).drain_s, rel=0.005)


def test_the_shares_fill_the_classes_evenly() -> None:
    """Two lanes, each twice as fast on its own class: both go home, and T = 10·1/1."""
    prices = solve(np.array([10.0, 10.0]), np.array([[1.0, 2.0], [2.0, 1.0]]), np.ones(2), np.zeros(2))
    assert prices.drain_s == pytest.approx(10.0, rel=0.002)
    assert prices.share == pytest.approx(np.eye(2), abs=0.02)


def test_committed_work_pushes_tasks_elsewhere() -> None:
    n, p, cap = np.array([10.0]), np.array([[1.0, 1.0]]), np.ones(2)
    free, taken = solve(n, p, cap, np.zeros(2)), solve(n, p, cap, np.array([4.0, 0.0]))
    assert free.share[0] == pytest.approx([0.5, 0.5], abs=0.02)
    assert taken.share[0] == pytest.approx([0.3, 0.7], abs=0.02)
    assert taken.committed_s == pytest.approx(4.0 * taken.price[0])


EMPTY = np.zeros(0)


@pytest.mark.parametrize(
    ("n", "p", "cap", "work"),
    [
        (EMPTY, np.zeros((0, 0)), EMPTY, EMPTY),
        (EMPTY, np.zeros((0, 2)), np.ones(2), np.array([3.0, 0.0])),
        (np.ones(2), np.zeros((2, 0)), EMPTY, EMPTY),
        (np.zeros(2), np.ones((2, 2)), np.ones(2), np.zeros(2)),
        (np.zeros(2), np.ones((2, 2)), np.ones(2), np.array([3.0, 1.0])),
        (np.ones(2), np.full((2, 2), np.inf), np.ones(2), np.zeros(2)),
        (np.ones(2), np.ones((2, 2)), np.zeros(2), np.ones(2)),
        (np.array([np.nan, np.inf]), np.ones((2, 2)), np.ones(2), np.zeros(2)),
        (np.ones(2), np.array([[np.nan, -1.0], [1.0, 0.0]]), np.array([np.nan, 1.0]), np.array([1.0, -1.0])),
    ],
)
def test_nothing_and_nonsense_give_finite_prices(n: Array, p: Array, cap: Array, work: Array) -> None:
    prices = solve(n, p, cap, work)
    numbers = np.concatenate([prices.price, prices.value, prices.share.ravel(), [prices.drain_s]])
    assert np.isfinite(numbers).all()
    assert prices.price.shape == cap.shape
    assert prices.value.shape == n.shape


def test_a_large_fleet_needs_few_steps_and_fewer_when_warm() -> None:
    """200 lanes × 20 classes: steps are what time is made of (about 0.15 ms each), and machines differ."""
    rng = np.random.default_rng(1)
    p, n = np.exp(rng.normal(0, 1, (200, 20))), rng.integers(0, 50, 200).astype(float)
    cap, work = np.full(20, 10.0), rng.exponential(20, 20)
    cold = solve(n, p, cap, work)
    warm = solve(n + rng.integers(0, 3, 200), p, cap, work, cold.price)
    assert cold.steps <= 12
    assert warm.steps <= cold.steps
