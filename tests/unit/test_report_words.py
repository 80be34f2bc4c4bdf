"""Numbers as the report says them, and the buckets of its time axes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.report.questions import BUCKETS, Window
from balancer.report.reasons import MEANINGS
from balancer.report.words import count, in_number, joules, percent, seconds


@pytest.mark.parametrize(
    ("said", "text"),
    [
        (count(0, "move"), "no moves"),
        (count(None, "move"), "no moves"),
        (count(1, "move"), "1 move"),
        (count(1234567, "move"), "1,234,567 moves"),
        (count(2, "entry", "entries"), "2 entries"),
        (in_number(1, "is", "are"), "is"),
        (in_number(0.5, "day"), "days"),
        (percent(None), "unknown"),
        (percent(0.125, 1), "12.5 %"),
        (seconds(None), "unknown"),
        (seconds(0.0123), "12.3 ms"),
        (seconds(0), "0 ms"),
        (seconds(4.0), "4 s"),
        (seconds(100), "100 s"),
        (seconds(600), "10 min"),
        (seconds(86_400), "24 h"),
        (seconds(1_900_000), "22 days"),
        (joules(None), "unknown"),
        (joules(999.4), "999 J"),
        (joules(80_600), "80.6 kJ"),
        (joules(7.2e6), "2 kWh"),
    ],
)
def test_numbers_are_said_as_a_person_says_them(said: str, text: str) -> None:
    assert said == text


def test_every_refusal_is_explained() -> None:
    """By the source of those who refuse: a report that gives a reason also says what it means."""
    refusing = Path("balancer/decide").rglob("*.py")
    told = r'(?:return|why =) "([a-z ]+)", (?:f?"|why)|reason="([a-z ]+)",|_stuck\([^"]*"([a-z ]+)"'
    reasons = {name for path in refusing for found in re.findall(told, path.read_text()) for name in found}
    reasons.discard("")
    assert {"young", "only swaps", "nowhere to go", "target unfit", "unknown profile"} <= reasons
    assert reasons - MEANINGS.keys() == set()


@given(
    span=st.floats(0, 10 * 365 * 86_400),
    tick=st.floats(0, 86_400),
    most=st.integers(10, 300),
)
def test_a_bucket_is_wide_enough_and_not_wider_than_the_next_width_asks(
    span: float, tick: float, most: int
) -> None:
    width = Window(since=0, until=span, tick_s=tick).bucket_s(most)
    needed = max(span / most, min(0.9 * tick, span / 4))
    narrower = [bucket for bucket in BUCKETS if bucket < width]
    assert width >= needed or width == BUCKETS[-1]
    assert not narrower or narrower[-1] < needed
