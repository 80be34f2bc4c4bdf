"""Durable cancelling on a real Redis: what is cancelled starts nowhere, and an undo brings it back."""

from __future__ import annotations

import pytest

from balancer.adapters import redis_cancelled
from balancer.adapters.redis_cancelled import Cancelled
from balancer.adapters.redis_connection import Connection
from balancer.adapters.redis_fence import Delivery, Fence
from balancer.model import RunStarted
from tests.contract.messages import raw_message

STARTED = RunStarted(at=0.0, task_id="t", profile="p", worker="w@h", hardware_class="cpu", epoch=0)
FIRST = Delivery(task_id="t", nesting=0, retries=0, epoch=0, tag="tag-t")


@pytest.fixture
def fence(connection: Connection) -> Fence:
    return Fence(connection, owner="w:1:1", worker="w@h", fence_ttl_s=100, heartbeat_ttl_s=10)


def queue(connection: Connection, *names: str, priority: int = 0, lane: str = "lane") -> None:
    place = connection.keys.queue_lists(lane)[connection.keys.priority_steps.index(priority)]
    for name in names:
        connection.client.lpush(place, raw_message(name, "p", priority=priority, queue=lane))


def waiting(connection: Connection, lane: str = "lane") -> int:
    return sum(connection.client.llen(place) for place in connection.keys.queue_lists(lane))


def test_a_cancelled_task_is_not_claimed_until_that_is_undone(connection: Connection, fence: Fence) -> None:
    redis_cancelled.enter(connection, ["t"], by="me", reason="not needed")
    assert fence.claim(FIRST, STARTED).verdict == "cancelled"
    (entry,) = redis_cancelled.listed(connection)
    assert (entry.by, entry.reason) == ("me", "not needed")
    assert redis_cancelled.undo(connection, entry) is True
    assert redis_cancelled.undo(connection, entry) is False
    assert fence.claim(FIRST, STARTED).verdict == "taken"


def test_each_change_is_told_by_the_revision(connection: Connection) -> None:
    revisions = []
    for _ in range(2):
        redis_cancelled.enter(connection, ["t"], by="", reason="")
        revisions.append(connection.client.get(connection.keys.cancelled_revision))
    entry = redis_cancelled.entry_of(connection, "t")
    assert entry is not None
    redis_cancelled.undo(connection, entry)
    revisions.append(connection.client.get(connection.keys.cancelled_revision))
    assert revisions == [b"1", b"2", b"3"]
    assert redis_cancelled.among(connection, ["t", "u"]) == []


def test_messages_are_taken_out_of_every_priority_and_only_they(connection: Connection) -> None:
    queue(connection, "a", "t", "b")
    queue(connection, "c", "u", priority=9)
    redis_cancelled.enter(connection, ["t", "u", "elsewhere"], by="", reason="")
    taken = [(name, held.task_id)
             for name, held in redis_cancelled.take_out(connection, ["lane"], ["t", "u", "elsewhere"])]
    assert taken == [("lane", "t"), ("lane", "u")]
    assert waiting(connection) == 3


def test_an_undo_puts_the_very_message_back_to_the_front(connection: Connection) -> None:
    queue(connection, "t", "a", priority=3)
    before = connection.client.lrange(connection.keys.queue_lists("lane")[1], 0, -1)
    redis_cancelled.enter(connection, ["t"], by="", reason="")
    assert len(list(redis_cancelled.take_out(connection, ["lane"], ["t"]))) == 1
    entry = redis_cancelled.entry_of(connection, "t")
    assert entry is not None
    assert redis_cancelled.undo(connection, entry) is True
    assert connection.client.lrange(connection.keys.queue_lists("lane")[1], 0, -1) == before


def test_what_was_undone_meanwhile_is_not_taken_out(connection: Connection) -> None:
    queue(connection, "t")
    assert list(redis_cancelled.take_out(connection, ["lane"], ["t"])) == []
    assert waiting(connection) == 1


def test_entries_are_forgotten_by_age_and_unreadable_ones_still_cancel(
    connection: Connection, fence: Fence
) -> None:
    keys, client = connection.keys, connection.client
    client.hset(keys.cancelled, "old", Cancelled(task_id="old", at=1.0).document())
    client.hset(keys.cancelled, "t", b"\xff")
    redis_cancelled.enter(connection, ["new"], by="", reason="")
    assert {one.task_id for one in redis_cancelled.listed(connection)} == {"t", "new"}
    assert fence.claim(FIRST, STARTED).verdict == "cancelled"
