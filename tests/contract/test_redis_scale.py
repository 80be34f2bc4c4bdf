"""A look at a large fleet is a few commands, and large moves leave Redis free for others."""

from __future__ import annotations

import random
import threading
from typing import Any

import pytest

from balancer.adapters import beat, documents
from balancer.adapters.message_head import read_head
from balancer.adapters.redis_connection import Connection
from balancer.adapters.redis_handover import RedisHandOver
from balancer.adapters.redis_store import ROUTED_S
from balancer.model import Hardware, Reading, TaskProfile
from balancer.routing import direct_queue, lane_queue
from tests.contract.messages import raw_message
from tests.contract.worlds import RedisWorld, move

WORKERS = 10_000


@pytest.fixture
def world(connection: Connection) -> RedisWorld:
    return RedisWorld(connection)


def populate(world: RedisWorld, count: int) -> None:
    """`count` workers of four classes that report now, written in a few large commands."""
    client, keys = world.client, world.keys
    seconds, _ = client.time()
    names = [f"w{i}@host" for i in range(count)]
    classes = [Hardware(kind="cuda", model=model) for model in ("K80", "P100", "V100", "A100")]
    client.zadd(keys.alive, {f"i{i}": seconds for i in range(count)})
    client.hset(
        keys.workers,
        mapping={
            name: documents.description_document(
                name=name, instance=f"i{i}", hardware=classes[i % 4], slots=1
            )
            for i, name in enumerate(names)
        },
    )
    raw = beat.pack(Reading(cpu=0.5, gpu=0.25), busy=1, loop_ticks=1, at=0.0)
    client.hset(keys.beats, mapping=dict.fromkeys(names, raw))
    holds = documents.holds_document(running=[], reserved=[])
    client.hset(keys.holds, mapping=dict.fromkeys(names, holds))


def commands(client: Any) -> int:
    """Commands executed since the last `CONFIG RESETSTAT`, also those inside scripts."""
    return sum(int(entry["calls"]) for entry in client.info("commandstats").values())


def test_ten_thousand_workers_do_not_cost_ten_thousand_commands(world: RedisWorld) -> None:
    populate(world, WORKERS)
    for i in range(50):
        world.lane(lane_queue(f"p{i}"), TaskProfile(name=f"p{i}", task="t"))
        world.client.lpush(lane_queue(f"p{i}"), raw_message(f"t{i}", f"p{i}"))
    for _ in range(2):
        world.client.config_resetstat()
        fleet = world.store.observe()
        assert len(fleet.workers) == WORKERS
        assert commands(world.client) < 2_000
    assert (len(fleet.lanes), len(fleet.queued), fleet.set_aside) == (50, 50, ())


def test_every_direct_queue_of_a_large_fleet_is_seen_in_time(world: RedisWorld) -> None:
    populate(world, 600)
    queue = direct_queue("w599@host")
    world.client.lpush(queue, raw_message("t", "p"))
    seen = [world.store.observe().queues.get(queue, 0) for _ in range(4)]
    assert 1 in seen
    assert seen[seen.index(1) :] == [1] * (4 - seen.index(1))


def test_a_direct_queue_that_work_was_routed_to_is_seen_at_once(world: RedisWorld) -> None:
    populate(world, 600)
    source, target = lane_queue("p"), direct_queue("w599@host")
    world.client.lpush(source, raw_message("t", "p"))
    world.handover.request(move("queued", source, target, task_id="t"), 60)
    assert world.store.observe().queues[target] == 1


def test_queues_that_nothing_was_routed_to_for_long_are_not_watched_for_ever(world: RedisWorld) -> None:
    now = world.client.time()[0]
    world.client.zadd(world.keys.routed, {"bal.worker.old": now - ROUTED_S - 5, "bal.worker.full": 1.0})
    world.client.lpush("bal.worker.full", raw_message("t", "p"))
    world.store.observe()
    assert world.client.zrange(world.keys.routed, 0, -1) == [b"bal.worker.full"]


def test_a_large_move_keeps_every_message_and_its_order(world: RedisWorld) -> None:
    source, target, total = lane_queue("p"), direct_queue("a"), 20_000
    messages = [raw_message(f"t{i}", "p", body="x" * 100) for i in range(total)]
    world.client.lpush(source, *messages)
    assert world.handover.request(move("queued", source, target, count=total - 5), 60) == total - 5
    kept, moved = world.client.lrange(source, 0, -1), world.client.lrange(target, 0, -1)
    assert kept[::-1] == messages[:5]
    assert moved[::-1] == messages[5:]


def test_a_large_move_is_many_short_scripts(world: RedisWorld) -> None:
    source = lane_queue("p")
    world.client.lpush(source, *(raw_message(f"t{i}", "p") for i in range(20_000)))
    world.client.config_resetstat()
    world.handover.request(move("queued", source, direct_queue("a"), count=19_999), 60)
    assert world.client.info("commandstats")["cmdstat_evalsha"]["calls"] >= 10


def test_a_list_that_moves_as_a_whole_is_only_named_anew(world: RedisWorld) -> None:
    source, target = lane_queue("p"), direct_queue("a")
    messages = [raw_message(f"t{i}", "p") for i in range(20_000)]
    world.client.lpush(source, *messages)
    world.client.config_resetstat()
    assert world.handover.request(move("queued", source, target, count=20_000), 60) == 20_000
    # One for each priority, and the note that the target is about to fill.
    assert world.client.info("commandstats")["cmdstat_evalsha"]["calls"] <= len(world.keys.priority_steps) + 1
    assert world.client.lrange(target, 0, -1)[::-1] == messages


def test_a_message_deep_in_the_queue_is_found_and_one_beyond_the_window_is_not(world: RedisWorld) -> None:
    source, target = lane_queue("p"), direct_queue("a")
    world.client.lpush(source, *(raw_message(f"t{i}", "p") for i in range(2_100)))
    assert world.handover.request(move("queued", source, target, task_id="t1999"), 60) == 1
    assert world.handover.request(move("queued", source, target, task_id="t2099"), 60) == 0
    assert world.client.llen(source) == 2_099


def test_an_id_that_only_appears_in_another_message_is_not_moved(world: RedisWorld) -> None:
    source = lane_queue("p")
    fake = '{"balancer": {"v": 1}, "headers": {"id": "t1"}, "correlation_id": "t1"}'
    world.client.lpush(source, raw_message("t0", "p", args=fake, body=fake))
    assert world.handover.request(move("queued", source, "q", task_id="t1"), 60) == 0
    assert world.contents(source) == ["t0"]


def test_large_bodies_do_not_travel_to_read_their_headers(world: RedisWorld) -> None:
    lane = lane_queue("p")
    world.lane(lane, TaskProfile(name="p", task="t"))
    for i in range(20):
        world.client.lpush(lane, raw_message(f"t{i}", "p", size=4.0, body="x" * 300_000))
    before = world.client.info("stats")["total_net_output_bytes"]
    fleet = world.store.observe()
    assert world.client.info("stats")["total_net_output_bytes"] - before < 500_000
    assert (len(fleet.queued), fleet.lanes[0].mean_size) == (20, 4.0)


def test_stranded_work_of_thousands_goes_back_in_order(world: RedisWorld) -> None:
    lane, direct = lane_queue("p"), direct_queue("gone")
    world.lane(lane, TaskProfile(name="p", task="t"))
    messages = [raw_message(f"t{i}", "p") for i in range(3_000)]
    world.client.lpush(direct, *messages)
    world.client.lpush(lane, raw_message("waits", "p"))
    handover = RedisHandOver(world.connection, lambda worker, arguments: None)
    assert handover.return_stranded([direct]) == 3_000
    assert world.contents(lane) == [*(f"t{i}" for i in range(3_000)), "waits"]


def test_nothing_is_lost_or_doubled_while_consumers_take_and_moves_go_to_and_fro(world: RedisWorld) -> None:
    lane, direct, total = lane_queue("p"), direct_queue("a"), 3_000
    world.lane(lane, TaskProfile(name="p", task="t"))
    world.client.lpush(lane, *(raw_message(f"t{i}", "p", body="x" * (i % 50)) for i in range(total)))
    taken: list[bytes] = []

    def consume() -> None:
        while len(taken) < total:
            if answer := world.client.brpop([lane, direct], timeout=0.2):
                taken.append(answer[1])

    consumers = [threading.Thread(target=consume) for _ in range(2)]
    for consumer in consumers:
        consumer.start()
    chance, rounds = random.Random(3), 0
    while len(taken) < total and rounds < 20_000:
        rounds += 1
        world.handover.request(move("queued", lane, direct, count=chance.randrange(1, 300)), 60)
        world.handover.request(move("queued", direct, lane, task_id=f"t{chance.randrange(total)}"), 60)
        if rounds % 3 == 0:
            world.handover.return_stranded([direct])
    for consumer in consumers:
        consumer.join(30)
    heads = [read_head(raw) for raw in taken]
    assert sorted(h.task_id for h in heads if h) == sorted(f"t{i}" for i in range(total))
    assert world.client.llen(lane) + world.client.llen(direct) == 0
