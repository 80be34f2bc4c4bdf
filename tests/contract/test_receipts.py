"""A worker's deliveries on kombu's own channel: claimed as they are taken, committed as they are ended.

Every script is sent twice where an answer could be lost; messages that are not balanced take kombu's way.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery

from balancer.adapters.documents import read_event
from balancer.adapters.redis_connection import Connection, connect
from balancer.adapters.redis_fence import Delivery, Fence
from balancer.model import RunFinished, RunStarted
from balancer.settings import from_sources
from workers import BalancedTask, lease
from workers.receipts import STORED, BalancedQoS, Receiver
from workers.request import BalancedRequest
from workers.run import finished_document

OWNER, OTHER = "w:1:1", "x:2:2"


class Desk:
    """One worker's channel over a real Redis, as kombu opens it."""

    def __init__(self, app: Celery, instance: str) -> None:
        self.connection = connect(app)
        self.client, self.keys = self.connection.client, self.connection.keys
        seconds, micros = self.client.time()
        self.client.zadd(self.keys.alive, {instance: seconds + micros / 1e6})
        settings = from_sources({}, {}, {})
        self.receiver = Receiver(app, self.connection, settings, instance=instance, worker=f"{instance}@h")
        self.fence = Fence(
            self.connection, owner=instance, worker=f"{instance}@h", fence_ttl_s=100, heartbeat_ttl_s=10
        )
        self.broker = app.connection_for_write()
        self.channel = self.broker.channel()
        BalancedQoS.take_over(self.channel.qos)
        self.qos: BalancedQoS = self.channel.qos

    def take(self) -> Any:
        """The next message of the queue as this worker delivers it, `None` when there is none."""
        Receiver.current = self.receiver
        return self.channel.basic_get("q")

    def header(self, message: Any) -> dict[str, Any]:
        return dict(message.headers["balancer"])

    def state(self, field: str = "state") -> str:
        return (self.client.hget(self.keys.fence("t"), field) or b"").decode()

    def held(self, instance: str = OWNER) -> set[bytes]:
        return set(self.client.smembers(self.keys.held(instance)))

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(fields[b"e"]) for _, fields in self.client.xrange(self.keys.events)]

    def waiting(self) -> list[dict[str, Any]]:
        return [json.loads(raw) for raw in self.client.lrange("q", 0, -1)]

    def close(self) -> None:
        Receiver.current = None
        self.qos._on_collect.cancel()
        self.broker.release()


@pytest.fixture
def app(redis_url: str) -> Iterator[Celery]:
    app = Celery("receipts", broker=redis_url, backend=redis_url, set_as_current=False)

    @app.task(shared=False, base=BalancedTask, name="proj.t")
    def balanced() -> None: ...

    @app.task(shared=False, name="proj.plain")
    def plain() -> None: ...

    yield app
    app.close()


@pytest.fixture
def desk(app: Celery) -> Iterator[Desk]:
    one = Desk(app, OWNER)
    yield one
    one.close()


@pytest.fixture
def other(app: Celery, desk: Desk) -> Iterator[Desk]:
    one = Desk(app, OTHER)
    yield one
    one.close()


def publish(app: Celery, task: str = "proj.t", **headers: Any) -> None:
    header = {"at": 1.5, "v": 1, "profile": "p", "size": 2.0, "epoch": 0}
    with app.connection_for_write() as broker:
        broker.Producer().publish(
            [[], {}, {}],
            routing_key="q",
            exchange="",
            serializer="json",
            headers={"id": "t", "task": task, "retries": 0, "balancer": header, **headers},
        )


def test_what_the_message_says_comes_with_the_delivery(app: Celery, desk: Desk) -> None:
    """A retry goes to the lane of its group, and what has begun is not to expire."""
    told = {"at": 1.5, "v": 1, "profile": "p@gold", "group": "gold", "size": 2.0, "epoch": 0, "begun": True}
    publish(app, balancer=told | {"claim": "forged", "kept": "forged"})
    header = desk.header(desk.take())
    assert header == told | {"claim": desk.state("claim"), "lapses": header["lapses"]}


def dead(desk: Desk, instance: str) -> None:
    desk.client.zrem(desk.keys.alive, instance)


def test_a_delivery_is_claimed_as_it_is_taken(app: Celery, desk: Desk) -> None:
    publish(app)
    message = desk.take()
    header, tag = desk.header(message), message.delivery_tag
    assert header["claim"] == desk.state("claim")
    assert (desk.state(), desk.state("owner"), desk.state("tag")) == ("run", OWNER, tag)
    assert desk.held() == {tag.encode()}
    # The token is this worker's word to its pool: nobody else reads it.
    assert b"claim" not in desk.client.hget(desk.keys.unacked, tag)
    assert desk.client.zscore(desk.keys.unacked_index, tag) is not None
    assert desk.events() == []


def test_an_ack_commits_a_run_that_has_not_been_and_may_be_sent_twice(app: Celery, desk: Desk) -> None:
    publish(app)
    message = desk.take()
    tag = message.delivery_tag
    desk.qos.receipts[tag].event = finished_document(
        task_id="t", profile="p", worker="w@h", epoch=0, outcome="success", duration_s=1.0, size=1.0,
        share=1.0,
    )  # fmt: skip
    arguments = desk.qos.ack_arguments(tag)
    assert arguments is not None
    message.ack()
    assert desk.receiver.line.run("ack", *arguments) == 1
    assert (desk.state(), desk.held(), desk.client.exists(desk.keys.unacked)) == ("done", set(), 0)
    assert [event["outcome"] for event in desk.events()] == ["success"]
    assert 0 < desk.client.ttl(desk.keys.fence("t")) <= desk.receiver.fence_ttl_s
    assert not desk.receiver.holding


def test_what_a_claimed_run_committed_the_ack_only_settles(app: Celery, desk: Desk) -> None:
    publish(app)
    message = desk.take()
    token = desk.header(message)["claim"]
    done = RunFinished(
        at=0.0, task_id="t", profile="p", worker="w@h", hardware_class="cpu", epoch=0, outcome="success",
        duration_s=1.0,
    )  # fmt: skip
    assert desk.fence.commit("t", token, done, done, kept=b"value")
    desk.client.hset(desk.keys.state("t"), "data", "x")
    desk.qos.receipts[message.delivery_tag].event = '{"outcome":"success"}'
    message.ack()
    assert (desk.state(), desk.state("value")) == ("done", "")
    assert not desk.client.exists(desk.keys.state("t"))
    assert len(desk.events()) == 1


def test_a_result_goes_with_its_commit_once(app: Celery, desk: Desk) -> None:
    publish(app)
    token = desk.header(desk.take())["claim"]
    told = {"told": '{"outcome":"success"}', "refused": '{"outcome":"stale"}'}
    document = '{"status": "SUCCESS"}'

    def finish(token: str) -> str:
        return desk.fence.finish("t", token, key="result", document=document, expires_s=50, **told)

    assert finish("another") == "refused"
    assert not desk.client.exists("result")
    desk.client.set("result", '{"status": "STARTED", "result": null}')
    assert (finish(token), finish(token)) == ("stored", "stored")
    assert desk.client.get("result") == b'{"status": "SUCCESS"}'
    assert 0 < desk.client.ttl("result") <= 50
    assert desk.state() == "done"
    assert [event["outcome"] for event in desk.events()] == ["stale", "success"]


def test_a_result_that_has_succeeded_is_left_to_the_backend(app: Celery, desk: Desk) -> None:
    publish(app)
    token = desk.header(desk.take())["claim"]
    desk.client.set("result", '{"status": "SUCCESS", "result": 1}')
    answer = desk.fence.finish("t", token, key="result", document="new", expires_s=0, told="", refused="")
    assert (answer, desk.state(), desk.client.ttl("result")) == ("occupied", "run", -1)


def test_a_second_copy_is_dropped_where_it_is_taken(app: Celery, desk: Desk, other: Desk) -> None:
    publish(app)
    first = desk.take()
    publish(app)
    second = other.take()
    assert other.header(second)["verdict"] == "held"
    assert desk.client.hlen(desk.keys.unacked) == 1
    assert (other.held(OTHER), other.qos.can_consume(), dict(other.qos._delivered)) == (set(), True, {})
    first_tag = first.delivery_tag
    Receiver.current = desk.receiver
    first.ack()
    publish(app)
    assert other.header(other.take())["verdict"] == "done"
    assert not desk.client.hexists(desk.keys.unacked, first_tag)


def test_a_redelivery_under_the_same_tag_keeps_the_entry_of_the_running_copy(
    app: Celery, desk: Desk, other: Desk
) -> None:
    publish(app)
    first = desk.take()
    desk.qos.restore_by_tag(first.delivery_tag)
    again = other.take()
    assert (again.delivery_tag, other.header(again)["verdict"]) == (first.delivery_tag, "held")
    assert desk.client.hexists(desk.keys.unacked, first.delivery_tag)
    assert (desk.held(), other.held(OTHER)) == ({first.delivery_tag.encode()}, set())


def test_the_late_ack_of_a_lapsed_run_leaves_its_heirs_entry(app: Celery, desk: Desk, other: Desk) -> None:
    publish(app)
    first = desk.take()
    tag = first.delivery_tag
    dead(desk, OWNER)
    desk.qos.restore_by_tag(tag)
    heir = other.take()
    assert "claim" in other.header(heir)
    Receiver.current = desk.receiver
    desk.qos.receipts[tag].event = '{"outcome":"success"}'
    first.ack()
    assert (desk.state(), desk.state("owner")) == ("run", OTHER)
    assert desk.client.hexists(desk.keys.unacked, tag)
    assert (desk.held(), desk.held(OTHER)) == (set(), {tag.encode()})
    assert [event["outcome"] for event in desk.events()] == ["stale"]


def test_the_ack_of_a_retry_leaves_the_next_generation_alone(app: Celery, desk: Desk, other: Desk) -> None:
    publish(app)
    first = desk.take()
    publish(app, retries=1)
    second = other.take()
    assert "claim" in other.header(second)
    Receiver.current = desk.receiver
    first.ack()
    assert (desk.state(), desk.state("g")) == ("run", "000000.000001.000000")
    assert set(desk.client.hkeys(desk.keys.unacked)) == {second.delivery_tag.encode()}


@pytest.mark.parametrize("front", [True, False])
def test_a_rejected_delivery_goes_back_and_may_be_claimed_at_once(
    app: Celery, desk: Desk, other: Desk, front: bool
) -> None:
    publish(app)
    message = desk.take()
    publish(app, id="another")
    desk.qos.receipts[message.delivery_tag].front = front
    message.reject(requeue=True)
    assert [m["headers"]["id"] for m in desk.waiting()] == (["another", "t"] if front else ["t", "another"])
    assert all("claim" not in m["headers"]["balancer"] for m in desk.waiting())
    assert (desk.state(), desk.held(), desk.client.hlen(desk.keys.unacked)) == ("free", set(), 0)
    taken = [other.take(), other.take()]
    assert all("claim" in other.header(m) for m in taken)


def test_what_goes_on_from_its_checkpoint_has_begun(app: Celery, desk: Desk) -> None:
    publish(app)
    for begun in (None, True):
        message = desk.take()
        assert desk.header(message).get("begun") is begun
        desk.fence.checkpoint("t", desk.header(message)["claim"], b"half", 0.5)
        message.reject(requeue=True)


def test_a_rejected_delivery_is_put_back_once(app: Celery, desk: Desk) -> None:
    publish(app)
    message = desk.take()
    tag, receipt = message.delivery_tag, desk.qos.receipts[message.delivery_tag]
    desk.receiver.give_up(desk.channel, tag, receipt, requeue=True, front=True)
    desk.receiver.give_up(desk.channel, tag, receipt, requeue=True, front=True)
    assert len(desk.waiting()) == 1


def test_a_dropped_delivery_frees_what_was_not_run(app: Celery, desk: Desk) -> None:
    publish(app)
    desk.take().reject(requeue=False)
    assert (desk.state(), desk.held(), desk.waiting()) == ("free", set(), [])


def test_a_closing_channel_gives_back_what_waits(app: Celery, desk: Desk, other: Desk) -> None:
    publish(app)
    desk.take()
    desk.qos.restore_unacked()
    assert (desk.state(), desk.held(), len(desk.waiting())) == ("free", set(), 1)
    assert not desk.receiver.holding
    assert "claim" in other.header(other.take())


def test_a_refused_runs_ack_commits_nothing(app: Celery, desk: Desk) -> None:
    publish(app)
    message = desk.take()
    desk.client.delete(desk.keys.fence("t"))
    desk.qos.receipts[message.delivery_tag].refused = True
    message.ack()
    assert desk.client.hexists(desk.keys.unacked, message.delivery_tag)
    assert not desk.client.exists(desk.keys.fence("t"))


def test_a_claim_of_its_own_that_a_worker_lost_sight_of_is_void(app: Celery, desk: Desk) -> None:
    publish(app)
    message = desk.take()
    tag = message.delivery_tag
    desk.qos.restore_by_tag(tag)
    assert desk.header(desk.take())["verdict"] == "held"
    desk.qos.restore_by_tag(tag)
    desk.qos.drop(tag)
    assert "claim" in desk.header(desk.take())


def test_a_committed_delivery_of_a_dead_worker_comes_with_its_kept_value(
    app: Celery, desk: Desk, other: Desk
) -> None:
    publish(app)
    token = desk.header(desk.take())["claim"]
    told = RunStarted(at=0.0, task_id="t", profile="p", worker="w@h", hardware_class="cpu", epoch=0)
    assert desk.fence.commit("t", token, told, told, kept=b'["kept"]')
    tag = desk.state("tag")
    dead(desk, OWNER)
    desk.qos.restore_by_tag(tag)
    header = other.header(other.take())
    assert (header["kept"], header["claim"]) == ('["kept"]', desk.state("claim"))
    assert header["begun"] is True


def test_a_cancelled_task_is_delivered_as_cancelled(app: Celery, desk: Desk) -> None:
    desk.client.hset(desk.keys.cancelled, "t", "{}")
    publish(app)
    message = desk.take()
    assert desk.header(message)["verdict"] == "cancelled"
    assert "claim" not in desk.header(message)
    message.ack()
    assert (desk.held(), desk.client.exists(desk.keys.unacked), desk.state()) == (set(), 0, "done")


def test_a_suspect_says_so_and_notes_its_begin(app: Celery, desk: Desk) -> None:
    desk.client.hset(desk.keys.fence("t"), mapping={"g": "0", "state": "free", "deaths": 1})
    publish(app)
    header = desk.header(desk.take())
    assert header["suspect"] is True
    assert desk.fence.begin("t", header["claim"])
    assert desk.state("begun") == header["claim"]
    assert not desk.fence.begin("t", "another")


def test_a_reserved_task_is_handed_over_by_its_claim_until_its_body_begins(app: Celery, desk: Desk) -> None:
    publish(app)
    message = desk.take()
    claim, tag = desk.header(message)["claim"], message.delivery_tag
    delivery = Delivery(task_id="t", nesting=0, retries=0, epoch=0, tag=tag, claim=claim)
    strange = Delivery(task_id="t", nesting=0, retries=0, epoch=0, tag=tag)
    assert desk.fence.relinquish(strange, "target", "m", token=None) == "fence"
    desk.fence.begin("t", claim)
    assert desk.fence.relinquish(delivery, "target", "m", token=None) == "fence"
    desk.client.hdel(desk.keys.fence("t"), "begun")
    assert desk.fence.relinquish(delivery, "target", "m", token=None) == "moved"
    assert (desk.held(), desk.state(), desk.client.llen("target")) == (set(), "free", 1)
    message.ack()
    assert desk.state() == "free"


def test_a_long_run_is_told_once(app: Celery, desk: Desk) -> None:
    publish(app)
    claim = desk.header(desk.take())["claim"]
    tell = desk.connection.script("note_started")
    keys = [desk.keys.fence("t"), desk.keys.events]
    event = '{"type":"RunStarted","resumed":false}'
    assert [tell(keys, [token, "5.5", event]) for token in ("another", claim, claim)] == [0, 1, 0]
    assert (desk.state("started"), len(desk.events())) == ("5.5", 1)


@pytest.mark.parametrize("blamed", ["deaths", "lost"])
def test_a_suspect_that_waits_for_its_trial_is_not_told_to_run(app: Celery, desk: Desk, blamed: str) -> None:
    desk.client.hset(desk.keys.fence("t"), mapping={"g": "0", "state": "free", blamed: 2})
    publish(app)
    claim = desk.header(desk.take())["claim"]
    tell, keys = desk.connection.script("note_started"), [desk.keys.fence("t"), desk.keys.events]
    args = [claim, "5.5", '{"type":"RunStarted","resumed":false}']
    assert (tell(keys, args), desk.state("started")) == (0, "")
    assert desk.fence.begin("t", claim)
    assert (tell(keys, args), desk.state("started")) == (1, "5.5")


@pytest.mark.parametrize("task", ["proj.plain", "proj.unknown"])
def test_what_is_not_balanced_here_takes_kombus_way(app: Celery, desk: Desk, task: str) -> None:
    publish(app, task=task)
    message = desk.take()
    assert "claim" not in desk.header(message)
    assert not desk.client.exists(desk.keys.fence("t"))
    assert desk.client.hexists(desk.keys.unacked, message.delivery_tag)
    message.ack()
    assert not desk.client.exists(desk.keys.unacked)


def test_the_fast_document_reads_as_the_record(connection: Connection) -> None:
    document = finished_document(
        task_id='a"b\u2028', profile="p\\q", worker="w", epoch=3, outcome="success", duration_s=1.25,
        size=2.5, share=None, ready_at=5.125,
    )  # fmt: skip
    assert read_event(document.encode(), 7.0) == RunFinished(
        at=7.0, task_id='a"b\u2028', profile="p\\q", worker="w", hardware_class="cpu", epoch=3,
        outcome="success", duration_s=1.25, size=2.5, share=None, ready_at=5.125,
    )  # fmt: skip


def test_a_lease_vouches_until_its_reports_are_too_far_apart() -> None:
    one = lease.Lease(age_limit_s=10.0)
    now = lease.now()
    assert not one.vouches(0)
    one.beat(now)
    assert one.vouches(0)
    one.beat(now - 7.5)
    assert not one.vouches(0)
    one.beat(now)
    assert (one.lapses(), one.vouches(0), one.vouches(1)) == (1, False, True)


def test_an_ack_of_what_redis_has_forgotten_lets_it_run_again(app: Celery, desk: Desk) -> None:
    """A failover lost the end that the run's process had stored; the ack must not stand for it."""
    publish(app)
    message = desk.take()
    tag = message.delivery_tag
    desk.qos.receipts[tag].event = STORED
    arguments = desk.qos.ack_arguments(tag)
    assert arguments is not None
    for _ in range(2):
        assert desk.receiver.line.run("ack", *arguments) == 2
        assert (desk.state(), desk.state("owner"), desk.held()) == ("free", "", set())
        assert desk.client.zscore(desk.keys.unacked_index, tag) == 0
        assert desk.client.hexists(desk.keys.unacked, tag)
    assert desk.events() == []


def test_what_was_given_back_is_not_ended_by_who_had_it(app: Celery, desk: Desk, other: Desk) -> None:
    """A request that was waiting when its connection was lost: a message keeps its tag."""
    publish(app)
    message = desk.take()
    late = [
        BalancedRequest(
            message, app=app, task=app.tasks["proj.t"], hostname="w@h", connection_errors=(OSError,),
            on_ack=message.ack_log_error, on_reject=message.reject_log_error,
        )
        for _ in range(3)
    ]  # fmt: skip
    desk.qos.restore_unacked()
    header = other.header(other.take())
    late[0].acknowledge()
    late[1].reject(requeue=True)
    late[2].reject(requeue=False)
    assert desk.client.hkeys(desk.keys.unacked) == [message.delivery_tag.encode()]
    assert (desk.waiting(), desk.state(), desk.state("claim")) == ([], "run", header["claim"])
    assert all(one.acknowledged for one in late)
