"""The `balancer` header of a message from outside."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.header import Header, read_header

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.sampled_from(["profile", "size", "epoch", "x"]), inner)
    ),
)


def test_a_whole_header_is_read() -> None:
    assert read_header({"profile": "p", "size": 2.5, "epoch": 3}) == Header(profile="p", size=2.5, epoch=3)
    assert read_header({"profile": "p@g", "group": "g"}) == Header(profile="p@g", group="g")
    assert read_header({"group": 7}) == Header()
    assert read_header({"at": 12.5}) == Header(at=12.5)
    assert read_header({"begun": True}) == Header(begun=True)
    assert read_header({"begun": 1}) == Header()


@pytest.mark.parametrize(
    "raw",
    [None, "text", [], {"size": -1}, {"size": True}, {"epoch": "1"}, {"profile": 3}, {"at": -1}, {"at": "n"}],
)
def test_a_broken_one_says_nothing(raw: object) -> None:
    assert read_header(raw) == Header()


@pytest.mark.parametrize(("at", "eta", "ready_at"), [
    (100.0, None, 100.0),
    (100.0, "1970-01-01T00:03:00+00:00", 180.0),
    (100.0, "1970-01-01T00:03:00", 180.0),
    (100.0, "1970-01-01T01:00:30+01:00", 100.0),
    (100.0, "soon", 100.0),
    (None, "1970-01-01T00:03:00+00:00", None),
])  # fmt: skip
def test_a_task_is_ready_once_it_is_published_and_its_eta_has_come(
    at: float | None, eta: str | None, ready_at: float | None
) -> None:
    assert Header(at=at).ready_at(eta) == ready_at


@given(ANYTHING)
def test_whatever_it_is_the_result_can_be_used(raw: object) -> None:
    header = read_header(raw)
    assert 0 < header.size < float("inf")
    assert 0 <= header.epoch < 10**6
    assert f"{header.epoch:06d}" == f"{header.epoch:06d}"[:6]
