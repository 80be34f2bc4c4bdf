"""Held deliveries are all renewed in time, however many there are."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from workers.renewal import AT_ONCE, TIMES, due


@settings(deadline=None, max_examples=30)
@given(
    count=st.sampled_from([0, 1, AT_ONCE, AT_ONCE + 1, 3 * AT_ONCE]),
    timeout_s=st.floats(3, 60),
    interval_s=st.floats(0.5, 1.0),
    start=st.integers(0, 10**6),
)
def test_each_is_renewed_within_a_part_of_the_timeout(
    count: int, timeout_s: float, interval_s: float, start: int
) -> None:
    tags = [f"tag-{n}" for n in range(count)]
    reports = max(1, int(timeout_s / TIMES / interval_s))
    renewed = [due(tags, start + n, timeout_s=timeout_s, interval_s=interval_s) for n in range(reports)]
    assert set().union(*renewed) == set(tags)
    if count <= AT_ONCE:
        assert all(part == tags for part in renewed)


def test_many_are_spread_where_there_is_time() -> None:
    tags = [f"tag-{n}" for n in range(100_000)]
    parts = [due(tags, turn, timeout_s=3600, interval_s=1) for turn in range(50)]
    assert max(map(len, parts)) < 1.3 * AT_ONCE
    assert sorted(tag for part in parts for tag in part) == sorted(tags)
