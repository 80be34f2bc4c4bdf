"""What the end of a message tells: the fast way and the slow way agree, and nothing passes for a header."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.adapters import message_head
from balancer.adapters.message_head import END_BYTES, Head, read_head
from tests.contract.messages import raw_message

LOOKALIKE = '{"headers": {"id": "fake"}, "balancer": {"v": 1, "profile": "fake", "size": 9}, "priority": 9}'


def test_the_headers_are_read() -> None:
    raw = raw_message("t1", "ResNet-50/128", size=3.5, priority=6, at=1764000000.123)
    assert read_head(raw) == Head(
        task_id="t1", profile="ResNet-50/128", size=3.5, priority=6, published_at=1764000000.123
    )


@pytest.mark.parametrize(("written", "at"), [
    ("2026-05-04T12:00:00+00:00", 1777896000.0),
    ("2026-05-04T14:00:00.500000+02:00", 1777896000.5),
    ("2026-05-04T12:00:00Z", 1777896000.0),
    ("tomorrow", None),
    ("", None),
])
def test_when_it_expires_is_read(written: str, at: float | None) -> None:
    raw = raw_message("t1", "p", expires=written, args='"expires": "2030-01-01T00:00:00+00:00"')
    assert read_head(raw) == Head(task_id="t1", profile="p", priority=0, expires_at=at)
    assert message_head._parsed(raw) == read_head(raw)


def test_what_has_begun_does_not_expire() -> None:
    raw = raw_message("t1", "p", expires="2026-05-04T12:00:00+00:00")
    begun = json.loads(raw)
    begun["headers"]["balancer"]["begun"] = True
    assert read_head(raw) != Head(task_id="t1", profile="p", priority=0)
    assert read_head(json.dumps(begun).encode()) == Head(task_id="t1", profile="p", priority=0)


def test_a_long_body_is_not_needed() -> None:
    raw = raw_message("t1", "p", body="x" * 100_000)
    assert read_head(raw[-END_BYTES:]) == read_head(raw)


def test_arguments_that_look_like_headers_are_arguments() -> None:
    head = read_head(raw_message("t1", "p", size=2.0, body=LOOKALIKE, args=LOOKALIKE))
    assert head == Head(task_id="t1", profile="p", size=2.0, priority=0)


def test_a_message_without_our_header_is_known_by_its_id() -> None:
    assert read_head(raw_message("t1")) == Head(task_id="t1", priority=0)


@pytest.mark.parametrize("profile", ['a"b', "a{b}c", "a\\b", "ü/µ", "{", 'x", "size": 99, "y": "'])
def test_any_name_of_a_profile_is_read(profile: str) -> None:
    head = read_head(raw_message("t1", profile, size=2.0))
    assert head == Head(task_id="t1", profile=profile, size=2.0, priority=0)


@pytest.mark.parametrize(
    "raw", [b"", b"\xff" * 50, b"{}", b"[]", b"null", b'{"headers": {"id": "a"', b"[" * 10_000]
)
def test_what_is_no_message_is_none(raw: bytes) -> None:
    assert read_head(raw) is None


printable = st.text(st.characters(codec="utf-8"), min_size=1, max_size=30)


@given(
    task_id=st.uuids().map(str),
    profile=printable,
    size=st.floats(1e-6, 1e6) | st.integers(1, 10**6),
    priority=st.integers(0, 255),
    args=st.text(st.characters(codec="utf-8"), max_size=200),
)
def test_the_fast_way_reads_what_json_reads(
    task_id: str, profile: str, size: Any, priority: int, args: str
) -> None:
    raw = raw_message(task_id, profile, size=size, priority=priority, args=args)
    assert read_head(raw) == message_head._parsed(raw)
    assert read_head(raw) == Head(task_id=task_id, profile=profile, size=float(size), priority=priority)


@given(st.binary(max_size=300) | st.text(max_size=300).map(lambda t: json.dumps({"headers": t}).encode()))
def test_garbage_never_raises(raw: bytes) -> None:
    head = read_head(raw)
    assert head is None or head.task_id
