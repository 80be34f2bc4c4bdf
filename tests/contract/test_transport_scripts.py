"""The scripts of the balanced transport over a real Redis: pop, put, ring."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import chain, count
from typing import Any

import pytest

from balancer.adapters.redis_connection import Connection
from balancer.adapters.redis_keys import Keys
from tests.contract.messages import raw_message

#: (task id, token, tag, event, refused)
AckOf = tuple[str, str, str, str, str]


class Consumer:
    """One worker as the scripts see it."""

    def __init__(self, connection: Connection, name: str, number: str = "1") -> None:
        self.connection = connection
        self.instance = name
        self.bell = f"{name}/{number}"
        self.group = ""
        self.nonces = count()
        self.connection.client.zadd(connection.keys.alive, {name: self.now()})

    def now(self) -> float:
        seconds, micros = self.connection.client.time()
        return float(seconds) + float(micros) / 1e6

    def pop(
        self,
        queues: Sequence[str],
        most: int = 10,
        *,
        wait: bool = False,
        acks: Sequence[AckOf] = (),
        unacknowledged: Sequence[str] = (),
    ) -> tuple[list[tuple[Any, ...]], int, list[int]]:
        keys = self.connection.keys
        group = "+".join(queues)
        asked = chain.from_iterable((keys.prefix + q, "1" if q in unacknowledged else "") for q in queues)
        messages, waiting, ended = self.connection.script("pop")(
            [keys.unacked, keys.unacked_index, keys.held(self.instance), keys.events, keys.alive,
             keys.cancelled],
            [keys.ours(""), most, "1" if wait else "", 1000.0, self.instance, f"{self.instance}@host",
             f"{self.bell}{next(self.nonces)}",
             15, 3600, 60, self.bell, group, self.group, keys.sep, len(keys.priority_steps), len(queues),
             len(acks), *keys.priority_steps, *asked, *chain.from_iterable(acks)],
        )  # fmt: skip
        self.group = group if waiting else ""
        return [tuple(_text(part) for part in one) for one in messages], waiting, ended

    def ids(self, *args: Any, **options: Any) -> list[str]:
        """Ids of the tasks that a pop brings, in order."""
        return [json.loads(one[1])["headers"]["id"] for one in self.pop(*args, **options)[0]]

    def rung(self) -> int:
        return int(self.connection.client.llen(self.connection.keys.ours("ring", self.bell)))


def _text(part: Any) -> Any:
    return part.decode(errors="replace") if isinstance(part, bytes) else part


@pytest.fixture
def one(connection: Connection) -> Consumer:
    return Consumer(connection, "h:1:1.00")


@pytest.fixture
def other(connection: Connection) -> Consumer:
    return Consumer(connection, "h:2:2.00")


def put(connection: Connection, queue: str, raw: bytes, step: int = 0) -> None:
    """Publish as `put.lua` does."""
    keys = connection.keys
    place = dict(zip(keys.priority_steps, keys.queue_lists(queue), strict=True))[step]
    connection.script("put")([place], [keys.ours(""), keys.sep, raw, ""])


def fence(connection: Connection, task_id: str) -> dict[str, str]:
    raw = connection.client.hgetall(connection.keys.fence(task_id))
    return {name.decode(): value.decode() for name, value in raw.items()}


def duplicates(connection: Connection) -> list[tuple[str, str]]:
    entries = connection.client.xrange(connection.keys.events)
    told = [json.loads(fields[b"e"]) for _, fields in entries]
    return [(event["task_id"], event["reason"]) for event in told if event["type"] == "Duplicate"]


def test_a_pop_serves_step_by_step_and_each_step_in_the_order_given(
    connection: Connection, one: Consumer
) -> None:
    for queue in ("a", "b"):
        for step in (0, 3, 9):
            put(connection, queue, raw_message(f"{queue}{step}", queue=queue), step)
    put(connection, "b", raw_message("b0-later", queue="b"), 0)
    assert one.ids(["b", "a"]) == ["b0", "b0-later", "a0", "b3", "a3", "b9", "a9"]


def test_a_pop_takes_no_more_than_it_may(connection: Connection, one: Consumer) -> None:
    for number in range(5):
        put(connection, "q", raw_message(f"t{number}", queue="q"))
    assert one.ids(["q"], 2) == ["t0", "t1"]
    assert connection.client.llen("q") == 3
    assert connection.client.scard(connection.keys.held(one.instance)) == 2


def test_what_was_taken_is_entered_as_kombu_enters_it(connection: Connection, one: Consumer) -> None:
    raw = raw_message("t", "p", queue="a/b", args="('\\u00e9\"]',)")
    put(connection, "a/b", raw)
    (_, told, verdict, token, *_), = one.pop(["a/b"])[0]
    entry = connection.client.hget("unacked", "tag-t")
    assert json.loads(entry) == [json.loads(raw), "", "a/b"]
    assert entry[1:].startswith(raw)
    assert told == raw.decode()
    assert connection.client.zscore("unacked_index", "tag-t") == 1000.0
    assert connection.client.smembers(connection.keys.held(one.instance)) == {b"tag-t"}
    assert (verdict, fence(connection, "t")["claim"]) == ("taken", token)
    assert fence(connection, "t")["state"] == "run"


def test_each_message_of_a_pop_has_a_token_of_its_own(connection: Connection, one: Consumer) -> None:
    for number in range(3):
        put(connection, "q", raw_message(f"t{number}", "p", queue="q"))
    tokens = {message[3] for message in one.pop(["q"])[0]}
    assert len(tokens) == 3


def test_what_is_not_balanced_is_taken_without_a_claim(connection: Connection, one: Consumer) -> None:
    put(connection, "q", raw_message("t", queue="q"))
    (_, _, verdict, token, _, _, tag), = one.pop(["q"])[0]
    assert (verdict, token, tag) == ("none", "", "tag-t")
    assert fence(connection, "t") == {}
    assert connection.client.smembers(connection.keys.held(one.instance)) == {b"tag-t"}


def test_who_is_no_worker_claims_and_holds_nothing(connection: Connection) -> None:
    someone = Consumer(connection, "")
    put(connection, "q", raw_message("t", "p", queue="q"))
    assert someone.pop(["q"])[0][0][2] == "none"
    assert connection.client.hexists("unacked", "tag-t")
    assert fence(connection, "t") == {}
    assert not connection.client.exists(connection.keys.held(""))


def test_nothing_is_kept_where_nothing_is_acknowledged(connection: Connection, one: Consumer) -> None:
    put(connection, "q", raw_message("t", "p", queue="q"))
    assert one.pop(["q"], unacknowledged=["q"])[0][0][2] == "none"
    assert not connection.client.exists("unacked", "unacked_index", connection.keys.held(one.instance))


def test_a_copy_of_what_has_ended_is_dropped_and_told_and_the_next_is_taken(
    connection: Connection, one: Consumer
) -> None:
    for ident, retries, state in (("old", 0, "done"), ("late", 1, "free")):
        generation = f"000000.00000{retries}.000000"
        connection.client.hset(connection.keys.fence(ident), mapping={"g": generation, "state": state})
    for ident in ("old", "late", "new"):
        put(connection, "q", raw_message(ident, "p", queue="q"))
    assert one.ids(["q"], 1) == ["new"]
    assert connection.client.hkeys("unacked") == [b"tag-new"]
    assert duplicates(connection) == [("old", "done"), ("late", "stale")]


def test_a_copy_of_what_a_live_worker_runs_is_dropped_but_its_entry_is_the_runners(
    connection: Connection, one: Consumer, other: Consumer
) -> None:
    put(connection, "q", raw_message("t", "p", queue="q"))
    assert one.ids(["q"]) == ["t"]
    # The visibility timeout has put it back: entry and queue bear the same tag.
    connection.client.hdel("unacked", "tag-t")
    put(connection, "q", raw_message("t", "p", queue="q"))
    assert other.ids(["q"]) == []
    assert connection.client.hexists("unacked", "tag-t")
    assert connection.client.smembers(connection.keys.held(one.instance)) == {b"tag-t"}
    assert not connection.client.exists(connection.keys.held(other.instance))
    assert duplicates(connection) == [("t", "held")]


def test_what_its_own_worker_has_lost_sight_of_comes_back_to_it(
    connection: Connection, one: Consumer
) -> None:
    put(connection, "q", raw_message("t", "p", queue="q"))
    one.pop(["q"])
    put(connection, "q", raw_message("t", "p", queue="q"))
    _, _, verdict, _, _, same, tag = one.pop(["q"])[0][0]
    assert (verdict, same, tag) == ("held", 1, "tag-t")
    assert connection.client.hexists("unacked", "tag-t")


def test_a_second_copy_that_its_own_worker_takes_is_told_apart(connection: Connection, one: Consumer) -> None:
    put(connection, "q", raw_message("t", "p", queue="q"))
    one.pop(["q"])
    put(connection, "q", raw_message("t", "p", queue="q").replace(b"tag-t", b"tag-2"))
    _, _, verdict, _, _, same, tag = one.pop(["q"])[0][0]
    assert (verdict, same, tag) == ("held", 0, "tag-2")


def test_a_cancelled_task_is_delivered_to_be_told(connection: Connection, one: Consumer) -> None:
    connection.client.hset(connection.keys.cancelled, "t", "{}")
    put(connection, "q", raw_message("t", "p", queue="q"))
    assert one.pop(["q"])[0][0][2] == "cancelled"
    assert connection.client.hexists("unacked", "tag-t")


def test_what_a_dead_worker_had_committed_is_answered(connection: Connection, one: Consumer) -> None:
    connection.client.hset(
        connection.keys.fence("t"),
        mapping={"g": "000000.000000.000000", "state": "fin", "owner": "gone", "value": "kept", "n": "1"},
    )
    put(connection, "q", raw_message("t", "p", queue="q"))
    assert one.pop(["q"])[0][0][2:5:2] == ("answer", "kept")


@pytest.mark.parametrize(
    "raw", [b"no json", b"[]", b'{"properties": {}}', b"\xff\x00", b'{"properties": {"delivery_tag": 3}}']
)
def test_what_is_no_message_is_set_aside_whole_and_stops_nobody(
    connection: Connection, one: Consumer, raw: bytes
) -> None:
    connection.client.lpush("q", raw)
    put(connection, "q", raw_message("t", queue="q"))
    verdicts = [message[2] for message in one.pop(["q"])[0]]
    assert verdicts == ["unread", "none"]
    assert connection.client.lrange(connection.keys.ours("unread", "q"), 0, -1) == [raw]


def test_a_key_that_is_no_list_stops_nobody(connection: Connection, one: Consumer) -> None:
    connection.client.set("broken", "x")
    put(connection, "q", raw_message("t", queue="q"))
    assert one.ids(["broken", "q"]) == ["t"]


def test_acks_ride_on_a_pop_and_may_be_sent_twice(connection: Connection, one: Consumer) -> None:
    put(connection, "q", raw_message("t", "p", queue="q"))
    put(connection, "q", raw_message("plain", queue="q"))
    taken = {json.loads(message[1])["headers"]["id"]: message for message in one.pop(["q"])[0]}
    acks = [("t", taken["t"][3], "tag-t", "", ""), ("", "", "tag-plain", "", "")]
    for _ in range(2):
        assert one.pop(["q"], acks=acks)[2] == [1, 1]
    assert fence(connection, "t")["state"] == "done"
    assert not connection.client.exists("unacked", "unacked_index", connection.keys.held(one.instance))
    put(connection, "q", raw_message("t", "p", queue="q"))
    assert one.ids(["q"]) == []


def test_a_push_wakes_one_of_those_that_wait_for_its_queue(
    connection: Connection, one: Consumer, other: Consumer
) -> None:
    assert one.pop(["q", "r"], wait=True)[1] == 1
    assert other.pop(["q", "r"], wait=True)[1] == 2
    put(connection, "elsewhere", raw_message("t0"))
    assert (one.rung(), other.rung()) == (0, 0)
    put(connection, "q", raw_message("t1"), 6)
    assert one.rung() + other.rung() == 1
    put(connection, "r", raw_message("t2"))
    assert (one.rung(), other.rung()) == (1, 1)
    put(connection, "r", raw_message("t3"))
    assert (one.rung(), other.rung()) == (1, 1)
    assert 0 < connection.client.pttl(connection.keys.ours("ring", one.bell)) <= 5000


def test_who_found_work_is_not_woken_and_who_waits_again_hears_no_old_bell(
    connection: Connection, one: Consumer
) -> None:
    one.pop(["q"], wait=True)
    put(connection, "q", raw_message("t1", queue="q"))
    assert one.rung() == 1
    assert one.ids(["q"], wait=True) == ["t1"]
    assert connection.client.keys(connection.keys.ours("idle", "*")) == []
    one.pop(["q"], wait=True)
    assert one.rung() == 0
    put(connection, "q", raw_message("t2", queue="q"))
    assert one.rung() == 1


def test_who_asks_for_other_queues_now_is_woken_for_those_alone(
    connection: Connection, one: Consumer
) -> None:
    one.pop(["q"], wait=True)
    one.pop(["r"], wait=True)
    put(connection, "q", raw_message("t1"))
    assert one.rung() == 0
    put(connection, "r", raw_message("t2"))
    assert one.rung() == 1


def test_a_bell_of_a_dead_worker_is_passed_over(
    connection: Connection, one: Consumer, other: Consumer
) -> None:
    one.pop(["q"], wait=True)
    other.pop(["q"], wait=True)
    connection.client.zadd(connection.keys.alive, {one.instance: one.now() - 60})
    put(connection, "q", raw_message("t1"))
    assert (one.rung(), other.rung()) == (0, 1)


def test_the_bell_is_found_under_a_prefix_and_a_separator_of_ones_own(connection: Connection) -> None:
    keys = Keys(prefix="shop:", sep="/", priority_steps=(0, 2, 5), unacked="shop:unacked",
                unacked_index="shop:unacked_index")  # fmt: skip
    shop = Connection.of_client(connection.client, keys)
    one = Consumer(shop, "h:1:1.00")
    one.pop(["a/b"], wait=True)
    put(shop, "a/b", raw_message("t", queue="a/b"), 5)
    assert one.rung() == 1
    assert connection.client.llen("shop:a/b/5") == 1
    assert one.ids(["a/b"]) == ["t"]
    assert [key for key in connection.client.scan_iter() if not key.startswith(b"shop:")] == []


def test_a_queue_that_expires_lives_on_with_each_publish(connection: Connection) -> None:
    keys = connection.keys
    for step in (0, 3):
        connection.script("put")(
            [keys.queue_lists("q")[step // 3]],
            [keys.ours(""), keys.sep, b"m", 60_000, *keys.queue_lists("q")],
        )
    assert all(0 < connection.client.pttl(key) <= 60_000 for key in keys.queue_lists("q")[:2])


def test_no_key_of_those_that_wait_stays_for_ever(connection: Connection, one: Consumer) -> None:
    one.pop(["q"], wait=True)
    put(connection, "q", raw_message("t"))
    one.pop(["r"], wait=True)
    kinds = ("idle", "askers", "ring")
    named = [key for kind in kinds for key in connection.client.keys(connection.keys.ours(kind, "*"))]
    assert named
    assert all(connection.client.ttl(key) > 0 for key in named)
