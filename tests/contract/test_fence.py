"""The fence on a real Redis: who may run, who may finish, and what a hand-over leaves behind."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from balancer.adapters.redis_connection import Connection
from balancer.adapters.redis_fence import Delivery, Fence, rewrite
from balancer.errors import StoreError
from balancer.model import RunFinished, RunStarted
from balancer.routing import direct_queue, lane_queue
from tests.contract.messages import raw_message

STARTED = RunStarted(at=0.0, task_id="t", profile="p", worker="w@h", hardware_class="cpu", epoch=0)
FINISHED = RunFinished(
    at=0.0,
    task_id="t",
    profile="p",
    worker="w@h",
    hardware_class="cpu",
    epoch=0,
    outcome="success",
    duration_s=1.0,
)
STALE = replace(FINISHED, outcome="stale")
FIRST = Delivery(task_id="t", nesting=0, retries=0, epoch=0, tag="tag-1")


@pytest.fixture
def fence(connection: Connection) -> Fence:
    alive(connection, "w:1:1")
    return Fence(connection, owner="w:1:1", worker="w@h", fence_ttl_s=100, heartbeat_ttl_s=10)


@pytest.fixture
def other(connection: Connection) -> Fence:
    alive(connection, "x:2:2")
    return Fence(connection, owner="x:2:2", worker="x@h", fence_ttl_s=100, heartbeat_ttl_s=10)


def alive(connection: Connection, instance: str) -> None:
    seconds, micros = connection.client.time()
    connection.client.zadd(connection.keys.alive, {instance: seconds + micros / 1e6})


def dead(connection: Connection, instance: str) -> None:
    connection.client.zrem(connection.keys.alive, instance)


def hold(connection: Connection, tag: str, **properties: Any) -> None:
    """What kombu keeps of a delivery that is not acknowledged."""
    message = {
        "body": "W10=",
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {"id": "t", "task": "proj.t", "balancer": {"at": 1.5, "v": 1, "epoch": 0}},
        "properties": {
            "delivery_tag": tag,
            "priority": 0,
            "delivery_info": {"exchange": "", "routing_key": "lane"},
            **properties,
        },
    }
    connection.client.hset(connection.keys.unacked, tag, json.dumps([message, "", "lane"]))
    connection.client.zadd(connection.keys.unacked_index, {tag: 1.0})


def events(connection: Connection) -> list[dict[str, Any]]:
    return [json.loads(fields[b"e"]) for _, fields in connection.client.xrange(connection.keys.events)]


def test_a_live_owner_holds_its_claim(fence: Fence, other: Fence) -> None:
    assert fence.claim(FIRST, STARTED).verdict == "taken"
    again = other.claim(FIRST, STARTED)
    assert (again.verdict, again.same_tag) == ("held", True)
    assert other.claim(replace(FIRST, tag="tag-2"), STARTED).same_tag is False


def test_a_dead_owners_claim_is_taken_and_its_commit_refused(
    connection: Connection, fence: Fence, other: Fence
) -> None:
    first = fence.claim(FIRST, STARTED)
    dead(connection, "w:1:1")
    second = other.claim(FIRST, STARTED)
    assert second.verdict == "taken"
    assert second.token != first.token
    assert fence.commit("t", first.token, FINISHED, STALE) is False
    assert other.commit("t", second.token, FINISHED, STALE) is True
    assert [e.get("outcome") for e in events(connection) if e["type"] == "RunFinished"] == [
        "stale",
        "success",
    ]


def test_a_commit_whose_answer_was_lost_is_taken_once_and_says_so_again(
    connection: Connection, fence: Fence
) -> None:
    token = fence.claim(FIRST, STARTED).token
    assert fence.commit("t", token, FINISHED, STALE) is True
    assert fence.commit("t", token, FINISHED, STALE) is True
    assert [e["outcome"] for e in events(connection) if e["type"] == "RunFinished"] == ["success"]


def test_a_claim_whose_answer_was_lost_is_the_same_claim(connection: Connection, fence: Fence) -> None:
    first = fence.claim(FIRST, STARTED, nonce="a")
    again = fence.claim(FIRST, STARTED, nonce="a")
    assert (again.verdict, again.token) == ("taken", first.token)
    assert [e["type"] for e in events(connection)] == ["RunStarted"]
    assert fence.claim(FIRST, STARTED, nonce="b").verdict == "held"


def test_tokens_differ_though_the_fence_was_lost_between(connection: Connection, fence: Fence) -> None:
    first = fence.claim(FIRST, STARTED, nonce="a")
    connection.client.delete(connection.keys.fence("t"))
    second = fence.claim(FIRST, STARTED, nonce="b")
    assert fence.commit("t", first.token, FINISHED, STALE) is False
    assert fence.commit("t", second.token, FINISHED, STALE) is True


def test_a_process_lost_after_its_commit_is_answered_while_its_worker_lives(
    connection: Connection, fence: Fence, other: Fence
) -> None:
    token = fence.claim(FIRST, STARTED).token
    fence.commit("t", token, FINISHED, STALE, kept=b"the value")
    assert other.claim(FIRST, STARTED).verdict == "held"
    assert fence.release("t", "tag-1", lost=True) == 0
    answer = other.claim(FIRST, STARTED)
    assert (answer.verdict, answer.kept) == ("answer", b"the value")


def test_losses_are_counted_until_a_checkpoint(connection: Connection, fence: Fence) -> None:
    for losses in (1, 2):
        fence.claim(FIRST, STARTED)
        assert fence.release("t", "tag-1", lost=True) == losses
    token = fence.claim(FIRST, STARTED).token
    fence.checkpoint("t", token, b"state", 0.5)
    assert fence.release("t", "tag-1", lost=True) == 1


def test_a_run_releases_only_its_own_claim(connection: Connection, fence: Fence) -> None:
    first = fence.claim(FIRST, STARTED, nonce="a")
    dead(connection, "w:1:1")
    fence.claim(FIRST, STARTED, nonce="b")
    assert fence.release("t", "tag-1", token=first.token) is None
    assert fence.release("t", "tag-1") == 0


def test_what_is_closed_from_outside_cannot_be_committed(connection: Connection, fence: Fence) -> None:
    assert fence.close(FIRST) == "none"
    token = fence.claim(FIRST, STARTED).token
    fence.checkpoint("t", token, b"state", 0.5)
    assert fence.close(FIRST) == "closed"
    assert fence.commit("t", token, FINISHED, STALE) is False
    assert fence.claim(FIRST, STARTED).verdict == "done"
    assert not connection.client.exists(connection.keys.state("t"))
    assert 0 < connection.client.ttl(connection.keys.fence("t")) <= 100


def test_another_runs_task_is_not_closed(connection: Connection, fence: Fence, other: Fence) -> None:
    token = fence.claim(FIRST, STARTED).token
    assert other.close(FIRST) == "elsewhere"
    assert fence.commit("t", token, FINISHED, STALE) is True
    assert fence.close(FIRST) == "committed"


def test_a_run_that_was_cut_off_in_its_commit_is_settled_with_its_result(
    connection: Connection, fence: Fence
) -> None:
    token = fence.claim(FIRST, STARTED).token
    assert fence.settle("t", token) is True
    assert fence.claim(FIRST, STARTED).verdict == "done"


def test_a_retry_keeps_its_checkpoint_and_an_end_drops_it(connection: Connection, fence: Fence) -> None:
    token = fence.claim(FIRST, STARTED).token
    fence.checkpoint("t", token, b"state", 0.5)
    fence.commit("t", token, FINISHED, STALE, end="again")
    assert fence.saved("t") == (b"state", 0.5)
    second = fence.claim(replace(FIRST, retries=1), STARTED).token
    fence.commit("t", second, FINISHED, STALE, end="done")
    assert fence.saved("t") is None


def test_a_retry_that_runs_already_has_ended_the_run_that_published_it(fence: Fence, other: Fence) -> None:
    token = fence.claim(FIRST, STARTED).token
    moved, retried = replace(FIRST, epoch=1, tag="tag-2"), replace(FIRST, retries=1, tag="tag-3")
    assert other.claim(moved, STARTED).verdict == "taken"
    assert fence.commit("t", token, FINISHED, STALE, end="again", generation=FIRST.generation) is False
    assert other.claim(retried, STARTED).verdict == "taken"
    assert fence.commit("t", token, FINISHED, STALE, end="done", generation=FIRST.generation) is False
    assert fence.commit("t", token, FINISHED, STALE, generation=FIRST.generation) is False
    assert fence.commit("t", token, FINISHED, STALE, end="again") is False
    assert fence.commit("t", token, FINISHED, STALE, end="again", generation=FIRST.generation) is True


def test_a_worker_may_send_again_what_has_lost_its_process(fence: Fence, other: Fence) -> None:
    token = fence.claim(FIRST, STARTED).token
    fence.release("t", FIRST.tag, lost=True)
    assert fence.commit("t", token, FINISHED, STALE) is False
    assert fence.commit("t", token, FINISHED, STALE, end="again") is True
    assert other.claim(FIRST, STARTED).verdict == "done"
    assert other.claim(replace(FIRST, retries=1), STARTED).verdict == "taken"


def test_a_commit_before_a_death_is_answered_without_a_run(
    connection: Connection, fence: Fence, other: Fence
) -> None:
    token = fence.claim(FIRST, STARTED).token
    assert fence.commit("t", token, FINISHED, STALE, kept=b"the value")
    dead(connection, "w:1:1")
    answer = other.claim(FIRST, STARTED)
    assert (answer.verdict, answer.kept) == ("answer", b"the value")
    assert other.settle("t", answer.token) is True
    assert other.claim(FIRST, STARTED).verdict == "done"


def test_a_settled_fence_is_remembered_for_its_ttl_only(connection: Connection, fence: Fence) -> None:
    token = fence.claim(FIRST, STARTED).token
    assert connection.client.ttl(connection.keys.fence("t")) > 100
    fence.checkpoint("t", token, b"state", 0.5)
    fence.commit("t", token, FINISHED, STALE)
    assert fence.settle("t", token) is True
    assert 0 < connection.client.ttl(connection.keys.fence("t")) <= 100
    assert not connection.client.exists(connection.keys.state("t"))


def test_an_earlier_generation_is_stale(fence: Fence) -> None:
    retry = replace(FIRST, retries=1)
    assert fence.claim(retry, STARTED).verdict == "taken"
    assert fence.claim(replace(FIRST, epoch=9), STARTED).verdict == "stale"
    assert fence.claim(replace(FIRST, nesting=1), STARTED).verdict == "taken"


def test_a_released_claim_is_free_again(fence: Fence, other: Fence) -> None:
    fence.claim(FIRST, STARTED)
    assert other.release("t", "tag-1") is None
    assert fence.release("t", "tag-1") == 0
    assert other.claim(FIRST, STARTED).verdict == "taken"


def test_a_checkpoint_learns_of_a_wish_and_of_a_lost_claim(connection: Connection, fence: Fence) -> None:
    token = fence.claim(FIRST, STARTED).token
    assert fence.checkpoint("t", token, b"one", 0.25).move_id == ""
    connection.client.hset(connection.keys.want("t"), mapping={"move": "m1", "queue": "target"})
    wanted = fence.checkpoint("t", token, b"two", 0.5)
    assert (wanted.ours, wanted.move_id, wanted.queue) == (True, "m1", "target")
    assert fence.saved("t") == (b"two", 0.5)
    assert fence.checkpoint("t", "99", b"three", 0.75).ours is False
    assert fence.saved("t") == (b"two", 0.5)


@pytest.mark.parametrize(("token_known", "priority", "step"), [(True, 0, 0), (False, 9, 9), (False, 4, 3)])
def test_a_hand_over_ends_one_delivery_and_begins_the_next(
    connection: Connection, fence: Fence, token_known: bool, priority: int, step: int
) -> None:
    hold(connection, "tag-1", priority=priority)
    token = fence.claim(FIRST, STARTED).token if token_known else None
    assert fence.relinquish(FIRST, "target", "m", token=token) == "moved"
    lists = dict(zip(connection.keys.priority_steps, connection.keys.queue_lists("target"), strict=True))
    message = json.loads(connection.client.rpop(lists[step]) or b"")
    assert message["properties"]["delivery_info"]["routing_key"] == "target"
    assert message["properties"]["delivery_tag"] == "tag-1~1"
    assert message["headers"]["balancer"]["epoch"] == 1
    assert message["body"] == "W10="
    assert (
        connection.client.hlen(connection.keys.unacked)
        == connection.client.zcard(connection.keys.unacked_index)
        == 0
    )
    assert fence.claim(FIRST, STARTED).verdict == "stale"
    assert fence.claim(replace(FIRST, epoch=1, tag="tag-1~1"), STARTED).verdict == "taken"


def test_a_running_task_is_not_handed_over_as_a_reserved_one(connection: Connection, fence: Fence) -> None:
    hold(connection, "tag-1")
    fence.claim(FIRST, STARTED)
    assert fence.relinquish(FIRST, "target", "m", token=None) == "fence"
    assert connection.client.hexists(connection.keys.unacked, "tag-1")
    assert not connection.client.exists("target")


def test_a_delivery_the_broker_took_back_is_not_doubled(connection: Connection, fence: Fence) -> None:
    assert fence.relinquish(FIRST, "target", "m", token=None) == "gone"
    assert not connection.client.exists("target")


@pytest.mark.parametrize("held", [b"", b"[]", b"{}", b'[{"properties": 3}]', b'["text"]', b"\xff\xfe"])
def test_what_is_no_message_is_not_rewritten(held: bytes) -> None:
    with pytest.raises(StoreError, match="task t cannot be rewritten"):
        rewrite(held, "target", FIRST)


def test_only_where_it_lies_and_its_epoch_are_rewritten() -> None:
    """Signed and compressed bodies, canvas, ETA, expiry, stamps, and numbers beyond 64 bits stay."""
    message: dict[str, Any] = {
        "body": "c2lnbmVk",
        "content-encoding": "utf-8",
        "content-type": "application/data",
        "headers": {
            "id": "t",
            "task": "proj.t",
            "eta": "2026-11-24T10:00:00+00:00",
            "expires": None,
            "retries": 2,
            "group": "g",
            "compression": "application/x-gzip",
            "stamps": {"a": []},
            "big": 2**70,
            "balancer": {"at": 1.5, "v": 1, "profile": "p", "size": 2.0, "epoch": 3},
        },
        "properties": {
            "correlation_id": "t",
            "reply_to": "r",
            "delivery_mode": 2,
            "priority": 6,
            "body_encoding": "base64",
            "delivery_tag": "x~3",
            "delivery_info": {"exchange": "", "routing_key": "lane", "redelivered": True},
        },
    }
    delivery = replace(FIRST, retries=2, epoch=3, tag="x~3")
    envelope, priority = rewrite(json.dumps([message, "", "lane"]).encode(), "target", delivery)
    again = json.loads(envelope)
    assert priority == 6
    ran = json.loads(rewrite(json.dumps([message, "", "lane"]).encode(), "target", delivery, begun=True)[0])
    assert ran["headers"]["balancer"] == again["headers"]["balancer"] | {"begun": True}
    assert again["properties"].pop("delivery_tag") == "x~4"
    assert again["properties"]["delivery_info"].pop("routing_key") == "target"
    assert again["headers"]["balancer"].pop("epoch") == 4
    del message["properties"]["delivery_tag"], message["properties"]["delivery_info"]["routing_key"]
    del message["headers"]["balancer"]["epoch"]
    assert again == message


def test_what_leaves_a_queue_of_the_operators_names_it_until_it_is_back() -> None:
    def homes(held: bytes, queue: str, came: str) -> tuple[bytes, object]:
        envelope, _ = rewrite(held, queue, FIRST, came=lambda exchange, key: came)
        return envelope, json.loads(envelope)["headers"]["balancer"].get("home")

    def held(envelope: bytes, queue: str) -> bytes:
        return json.dumps([json.loads(envelope), "", queue]).encode()

    first = held(raw_message("t", "p", queue="cinema"), "film.noir")
    moved, home = homes(first, direct_queue("a@h"), "films")
    assert home == "films"
    again, home = homes(held(moved, direct_queue("a@h")), direct_queue("b@h"), direct_queue("a@h"))
    assert home == "films"
    assert homes(held(again, direct_queue("b@h")), "films", direct_queue("b@h"))[1] is None
    assert homes(first, direct_queue("a@h"), lane_queue("p"))[1] is None


def test_a_script_the_server_forgot_is_sent_again(connection: Connection, fence: Fence) -> None:
    fence.claim(FIRST, STARTED)
    connection.client.script_flush()
    assert fence.claim(replace(FIRST, retries=1), STARTED).verdict == "taken"
