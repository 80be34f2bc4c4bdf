"""Whatever lies in the fleet's keys, a look at the fleet sets it aside by name and sees all the rest."""

from __future__ import annotations

import json
import math
import random

import pytest

from balancer.adapters import beat, documents, redis_beats
from balancer.adapters.asides import KEPT
from balancer.adapters.redis_connection import Connection
from balancer.model import Hardware, LaneOffer, Order, Reading, RunStarted, SetAside, TaskProfile
from balancer.routing import direct_queue, lane_queue
from tests.contract.messages import raw_message
from tests.contract.worlds import RedisWorld, worker

LANE = lane_queue("train")


@pytest.fixture
def world(connection: Connection) -> RedisWorld:
    """A fleet of one sound worker, one sound lane and one waiting message."""
    world = RedisWorld(connection)
    world.report(worker("sound@host", reading=Reading(cpu=0.5)))
    world.lane(LANE, TaskProfile(name="train", task="proj.train"))
    world.client.lpush(LANE, raw_message("t", "train", size=2.0))
    return world


def look(world: RedisWorld) -> dict[str, SetAside]:
    """What was set aside, by source; the sound part of the fleet is there."""
    fleet = world.store.observe()
    assert next(w for w in fleet.workers if w.name == "sound@host").reading == Reading(cpu=0.5)
    assert next(lane for lane in fleet.lanes if lane.queue == LANE).waiting >= 1
    return {a.source: a for a in fleet.set_aside}


def listed(world: RedisWorld) -> list[dict[str, object]]:
    return [json.loads(raw) for raw in world.client.lrange(world.keys.asides, 0, -1)]


def test_random_bytes_in_every_table(world: RedisWorld) -> None:
    chance = random.Random(7)
    for key in (world.keys.workers, world.keys.beats, world.keys.holds, world.keys.lanes, world.keys.memory):
        for _ in range(20):
            world.client.hset(key, chance.randbytes(8), chance.randbytes(chance.randrange(200)))
    world.client.zadd(world.keys.alive, {chance.randbytes(9): chance.random() * 1e10 for _ in range(20)})
    world.client.zadd(world.keys.routed, {chance.randbytes(9): 1.0 for _ in range(20)})
    aside = look(world)
    assert sum(source.startswith("worker ") for source in aside) == 20
    assert sum(source.startswith("lane") for source in aside) == 20
    assert all(a.reason for a in aside.values())
    assert look(world)


@pytest.mark.parametrize(
    ("raw", "reason", "health"),
    [
        (b"\x01\x02\x03", "3 bytes, not a beat of 119", "degraded"),
        (b"\x63" + bytes(110), "version 99 is newer than 2", "degraded"),
        (
            beat.pack(Reading(cpu=math.nan, power_w=-5.0), busy=1, loop_ticks=0, at=0.0),
            "numbers that cannot be",
            "ok",
        ),
    ],
)
def test_a_broken_beat(world: RedisWorld, raw: bytes, reason: str, health: str) -> None:
    world.report(worker("odd@host"))
    world.client.hset(world.keys.beats, "odd@host", raw)
    assert look(world)["beat of odd@host"].reason == reason
    odd = world.store.observe().worker("odd@host")
    assert odd is not None
    assert (odd.reading, odd.health) == (Reading(), health)


def test_a_beat_that_nothing_describes(world: RedisWorld) -> None:
    redis_beats.publish(
        world.client,
        world.keys,
        name="odd@host",
        instance="odd:1:1",
        description=None,
        holds=None,
        beat=beat.pack(Reading(), busy=0, loop_ticks=0, at=0.0),
        now=0.0,
    )
    assert look(world)["beat of odd@host"].reason == "it reports, and nothing describes it"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"hardware": {"kind": "abacus"}}, "description.hardware.kind: unknown 'abacus'"),
        ({"v": 99}, "description has version 99, newer than 1, which this balancer reads"),
        ({"slots": -2}, "description.slots is negative"),
        ({"name": "other@host"}, "described under another name"),
    ],
)
def test_a_worker_that_cannot_be_understood(
    world: RedisWorld, change: dict[str, object], reason: str
) -> None:
    world.report(worker("odd@host"))
    described = json.loads(world.client.hget(world.keys.workers, "odd@host") or b"")
    world.client.hset(world.keys.workers, "odd@host", json.dumps({**described, **change}))
    assert reason in look(world)["worker odd@host"].reason
    assert world.store.observe().worker("odd@host") is None


def test_holdings_that_cannot_be_read_leave_a_worker_nothing_is_moved_to(world: RedisWorld) -> None:
    world.report(worker("odd@host", busy=1))
    world.client.hset(world.keys.holds, "odd@host", b'{"v":1,"running":[{"size":NaN}]}')
    assert "NaN is not a number" in look(world)["holds of odd@host"].reason
    odd = world.store.observe().worker("odd@host")
    assert odd is not None
    assert (odd.health, odd.busy, odd.running) == ("degraded", 1, ())


def test_lanes_that_cannot_be_read(world: RedisWorld) -> None:
    world.client.hset(world.keys.lanes, "bal.lane.a", '{"v":1,"profile":"a"}')
    world.client.hset(world.keys.lanes, "bal.lane.b", '{"v":2,"profile":"b","task":"b"}')
    aside = look(world)
    assert aside["lane bal.lane.a"].reason == "lane.task is missing"
    assert "version 2" in aside["lane bal.lane.b"].reason


@pytest.mark.parametrize("table", ["alive", "workers", "beats", "holds", "lanes", "routed", "events"])
def test_a_key_of_another_type_counts_as_empty(world: RedisWorld, table: str) -> None:
    key = getattr(world.keys, table)
    world.client.delete(key)
    world.client.set(key, "something else")
    fleet, (cursor, events) = world.store.observe(), world.store.events("")
    assert (cursor, events) == ("", [])
    assert fleet.at > 0
    assert f"key {key}" in {str(a["source"]) for a in listed(world)}


def test_a_queue_that_is_no_list(world: RedisWorld) -> None:
    world.client.set(direct_queue("sound@host"), "x")
    assert "not a list" in look(world)[f"queue {direct_queue('sound@host')}"].reason


def test_messages_of_another_kind(world: RedisWorld) -> None:
    for raw in (
        b"\x00\xff",
        b"{}",
        b"null",
        b'"text"',
        b"[" * 50_000,
        b'{"headers":{"id":7},"properties":[]}',
    ):
        world.client.lpush(LANE, raw)
    assert look(world)[f"queue {LANE}"].reason == "a message is not of Celery's protocol 2"
    lane = next(lane for lane in world.store.observe().lanes if lane.queue == LANE)
    assert (lane.waiting, lane.mean_size) == (7, 2.0)


@pytest.mark.parametrize("size", [math.nan, math.inf, -3.0, 0, "big", None, 1e308, True, [1]])
def test_a_size_that_is_none_counts_as_one(world: RedisWorld, size: object) -> None:
    world.client.delete(LANE)
    world.client.lpush(LANE, raw_message("t", "train", size=size))
    (task,) = world.store.observe().queued
    assert task.size == 1.0


def test_events_that_cannot_be_read_are_passed_over(world: RedisWorld) -> None:
    good = RunStarted(at=0.0, task_id="a", profile="p", worker="w", hardware_class="cpu", epoch=0)
    world.client.xadd(world.keys.events, {"e": b"\xff"})
    world.tell(good)
    world.client.xadd(world.keys.events, {"other": "field"})
    world.client.xadd(world.keys.events, {"e": '{"type":"Later"}'})
    cursor, found = world.store.events("")
    assert [e.task_id for e in found] == ["a"]
    assert world.store.events(cursor) == (cursor, [])
    assert sum(str(a["source"]).startswith("event ") for a in listed(world)) == 3


def test_a_cursor_that_is_none_reads_from_the_oldest(world: RedisWorld) -> None:
    world.tell(RunStarted(at=0.0, task_id="a", profile="p", worker="w", hardware_class="cpu", epoch=0))
    _, found = world.store.events("rubbish")
    assert [e.task_id for e in found] == ["a"]


@pytest.mark.parametrize("document", [b"\xff", b"[]", b'{"loads": NaN}', b"{" * 5000])
def test_a_memory_that_cannot_be_read_is_copied_and_removed(world: RedisWorld, document: bytes) -> None:
    world.client.hset(world.keys.memory, mapping={"document": document, "fence": 3})
    assert world.store.load_memory() is None
    assert [a["source"] for a in listed(world)] == ["memory"]
    assert world.client.hget(world.keys.memory, "document") is None
    assert not world.store.save_memory({"late": True}, fence=2)
    assert world.store.save_memory({}, fence=3)


def test_a_memory_of_another_type_is_copied_and_removed(world: RedisWorld) -> None:
    world.client.set(world.keys.memory, "x")
    assert world.store.load_memory() is None
    assert world.store.save_memory({"new": 1}, fence=1)
    assert world.store.load_memory() == {"new": 1}


def test_one_order_that_cannot_be_written_does_not_stop_the_others(world: RedisWorld) -> None:
    offer = LaneOffer(queue="q", seconds=math.nan, best_seconds=1.0, value=1.0, ratio=1.0)
    world.store.publish_orders(
        [Order(hardware_class="bad", at=1.0, offers=(offer,)), Order(hardware_class="good", at=1.0)], 60
    )
    assert (world.order("bad"), world.order("good")) == (None, Order(hardware_class="good", at=1.0))
    assert [a["source"] for a in listed(world)] == ["order of bad"]


def test_what_stays_broken_is_listed_once_and_the_list_is_bounded(world: RedisWorld) -> None:
    world.client.hset(world.keys.workers, "odd@host", "x")
    for _ in range(3):
        assert "worker odd@host" in look(world)
    assert len(listed(world)) == 1
    for i in range(KEPT + 10):
        world.client.hset(world.keys.workers, f"odd{i}", "x")
    look(world)
    assert len(listed(world)) == KEPT


def test_a_description_of_a_worker_from_a_later_version_is_left_in_place(world: RedisWorld) -> None:
    raw = documents.description_document(
        name="new@host", instance="n:1:1", hardware=Hardware(kind="cpu"), slots=1
    )
    world.client.hset(world.keys.workers, "new@host", raw.replace('"v":1', '"v":2'))
    assert "version 2" in look(world)["worker new@host"].reason
    assert world.client.hexists(world.keys.workers, "new@host")
