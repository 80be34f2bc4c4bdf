"""What a worker lets go of a request that it has handed over."""

from __future__ import annotations

from types import SimpleNamespace

from kombu.utils.limits import TokenBucket

from workers import held


def test_what_was_handed_over_waits_for_no_token() -> None:
    bucket = TokenBucket(1)
    one, other = (SimpleNamespace(task=SimpleNamespace(name="t"), _eta_timer_entry=None) for _ in range(2))
    for request in (one, other):
        bucket.add((request, 1))
    held.let_go(SimpleNamespace(task_buckets={"t": bucket}), one)
    assert [request is other for request, _ in bucket.contents] == [True]
    held.let_go(SimpleNamespace(task_buckets={"t": None}), one)
