"""What a task takes of a shared device: the prices of packing, against HiGHS's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linprog

from balancer.decide.packing import SETS_MOST, prices, sets_that_fit

#: Sizes by hundredths of a device, and how often each is asked for.
mixes = st.dictionaries(st.integers(3, 100), st.integers(0, 100), min_size=1, max_size=12)


@given(mixes, st.integers(1, 4))
def test_no_prices_are_better(mix: dict[int, int], most: int) -> None:
    shares = tuple(size / 100 for size in sorted(mix))
    demand = tuple(float(mix[size]) for size in sorted(mix))
    found = prices(shares, demand, most)
    fits = np.array(sets_that_fit(shares, most), dtype=np.float64)
    assert (found >= 0).all()
    assert (fits @ found <= 1 + 1e-9).all()
    best = linprog(-np.array(demand), A_ub=fits, b_ub=np.ones(len(fits)), method="highs")
    assert found @ demand == pytest.approx(-best.fun, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize(("mix", "paid"), [
    # Two fit where each needs half or a little less, and one alone where it needs more.
    ({.5: 1}, [1 / 2]), ({.4: 1}, [1 / 2]), ({.3: 1}, [1 / 3]), ({.6: 1}, [1.0]), ({.1: 1}, [1 / 4]),
    # Six tenths pay for their device as long as nothing else asks for what they leave, ...
    ({.4: 1, .6: 9}, [0.0, 1.0]),
    # ... and less than those which could be two on a device where many of these are about.
    ({.4: 9, .6: 1}, [1 / 2, 1 / 2]),
    # A whole device is a whole device; of equally good prices these are the nearest to the shares.
    ({.5: 1, 1.0: 1}, [1 / 2, 1.0]),
])
def test_a_task_takes_what_it_keeps_from_others(mix: dict[float, int], paid: list[float]) -> None:
    assert prices(tuple(mix), tuple(map(float, mix.values())), 4).tolist() == pytest.approx(paid)


def test_many_small_tasks_take_their_share_and_a_place() -> None:
    shares = tuple(n / 100 for n in range(1, 13))
    assert len(sets_that_fit(shares[:3], 4)) < SETS_MOST
    found = prices(shares, (1.0,) * 12, 32)
    assert found.tolist() == pytest.approx([max(share, 1 / 32) for share in shares])
