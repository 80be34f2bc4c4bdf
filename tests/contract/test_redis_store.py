"""The store's housekeeping in Redis, and what real publishers and workers leave there."""

from __future__ import annotations

import json
import socket
from typing import Any

import pytest
import redis
from celery import Celery

from balancer.adapters import beat, redis_beats
from balancer.adapters.redis_connection import Connection
from balancer.adapters.redis_handover import RedisHandOver
from balancer.adapters.redis_keys import Keys
from balancer.adapters.redis_lanes import UNUSED_S
from balancer.adapters.redis_lease import RedisLease
from balancer.adapters.redis_store import RedisFleetStore
from balancer.errors import StoreError
from balancer.model import Reading, TaskProfile
from balancer.routing import lane_queue
from balancer.settings import Settings
from tests.contract.messages import raw_message
from tests.contract.worlds import TTL_S, RedisWorld, move, worker
from workers.header import read_header
from workers.publish import LaneRouter

LANE = lane_queue("train")
TRAIN = TaskProfile(name="train", task="proj.train")


@pytest.fixture
def world(connection: Connection) -> RedisWorld:
    return RedisWorld(connection)


def lane_used(world: RedisWorld, ago_s: float) -> None:
    entry = {"v": 1, "profile": "train", "task": "proj.train", "used_at": world.client.time()[0] - ago_s}
    world.client.hset(world.keys.lanes, LANE, json.dumps(entry))


def test_a_message_of_celery_itself_is_read(world: RedisWorld, redis_url: str) -> None:
    app = Celery("t", broker=redis_url, set_as_current=False)
    header = {"at": 1764000000.0, "v": 1, "profile": "train", "size": 3.5, "epoch": 0}
    world.lane(LANE, TRAIN)
    sent = app.send_task(
        "proj.train", args=("x" * 2_000, {"id": "fake"}), queue=LANE, priority=4, headers={"balancer": header}
    )
    app.close()
    fleet = world.store.observe()
    (task,) = fleet.queued
    assert (task.task_id, task.profile, task.size, task.priority) == (sent.id, "train", 3.5, 4)
    assert fleet.lanes[0].oldest_s == pytest.approx(fleet.at - 1764000000.0)
    assert fleet.set_aside == ()


def train() -> None:
    """The body of a task that nobody runs here."""


def published(redis_url: str, settings: Settings, **header: str) -> tuple[str, dict[str, object]]:
    """A message of `proj.train`, as a publisher with these settings sends it: its lane and its header."""
    app = Celery("t", broker=redis_url, set_as_current=False)
    router = LaneRouter(app, settings)
    route = router("proj.train", (), {}, {"headers": {"balancer": header}})
    assert route is not None
    headers: dict[str, Any] = {"task": "proj.train", "balancer": header}
    router.mark(headers, ((), {}, {}))
    app.send_task("proj.train", queue=route["queue"], headers={"balancer": headers["balancer"]})
    told = read_header(headers["balancer"])
    task = app.task(train, name="proj.train", shared=False)
    assert router.lane_again(task, told.profile, told.group) == route["queue"].name
    app.close()
    return route["queue"].name, dict(headers["balancer"])


def test_messages_tell_in_which_order_they_were_published(redis_url: str) -> None:
    """A dead worker's go back in that order; many are published in a millisecond."""
    app = Celery("t", broker=redis_url, set_as_current=False)
    router, times = LaneRouter(app, Settings(tasks={"proj.train": {}})), []
    for _ in range(100):
        headers: dict[str, Any] = {"task": "proj.train"}
        router.mark(headers, ((), {}, {}))
        times.append(headers["balancer"]["at"])
    assert times == sorted(set(times))
    app.close()


@pytest.mark.parametrize(("asked", "group"), [({}, "gold"), ({"group": "plain"}, "plain")])
def test_a_groups_task_has_its_own_lane_and_says_whose_it_is(
    world: RedisWorld, redis_url: str, asked: dict[str, str], group: str
) -> None:
    tasks = {"proj.train": {"profile": "train", "group": "gold"}}
    queue, header = published(redis_url, Settings(tasks=tasks, group_weights={"gold": 3.0}), **asked)
    assert (header["group"], header["profile"]) == (group, f"train@{group}")
    seen = world.store.observe()
    waiting = {lane.queue: lane for lane in seen.lanes}[queue]
    assert (waiting.waiting, waiting.profile.group, waiting.profile.learned_as) == (1, group, "train")
    assert [task.profile for task in seen.queued] == [f"train@{group}"]


def test_groups_count_for_nothing_where_they_have_no_weights(world: RedisWorld, redis_url: str) -> None:
    settings = Settings(tasks={"proj.train": {"profile": "train", "group": "gold"}})
    queue, header = published(redis_url, settings, group="plain")
    assert queue == LANE
    assert "group" not in header
    assert [lane.profile.group for lane in world.store.observe().lanes] == [""]


def test_a_head_without_a_time_is_as_old_as_since_it_was_first_seen(world: RedisWorld) -> None:
    world.lane(LANE, TRAIN)
    world.client.lpush(LANE, raw_message("t", "train"))
    first, second = world.store.observe(), world.store.observe()
    assert first.lanes[0].oldest_s == 0.0
    assert second.lanes[0].oldest_s == pytest.approx(second.at - first.at)
    world.client.rpop(LANE)
    world.client.lpush(LANE, raw_message("next", "train"))
    assert world.store.observe().lanes[0].oldest_s == 0.0


def test_a_publishers_clock_that_is_ahead_makes_no_negative_age(world: RedisWorld) -> None:
    world.lane(LANE, TRAIN)
    world.client.lpush(LANE, raw_message("t", "train", at=9e9))
    assert world.store.observe().lanes[0].oldest_s == 0.0


def test_a_worker_long_silent_leaves_no_trace(world: RedisWorld) -> None:
    world.report(worker("gone@host"))
    world.report(worker("here@host"))
    world.client.zadd(world.keys.alive, {"earlier-instance": 5.0})
    world.silence("gone@host", for_s=10 * TTL_S + 1)
    assert world.store.observe().silent == ("gone@host",)
    assert world.client.zrange(world.keys.alive, 0, -1) == [b"here@host:1:1"]
    for key in (world.keys.workers, world.keys.beats, world.keys.holds):
        assert world.client.hkeys(key) == [b"here@host"]


def test_a_worker_that_speaks_while_it_is_being_forgotten_stays(world: RedisWorld) -> None:
    world.report(worker("a@host"))
    raw = world.client.hget(world.keys.workers, "a@host")
    names = world.keys
    keys = [names.alive, names.workers, names.beats, names.holds, names.board, names.places,
            names.places_free]
    script, held = world.connection.script("forget_workers"), world.keys.held("")
    assert script(keys, [repr(world.client.time()[0] - 100.0), held, "a@host", "a@host:1:1", raw]) == 0
    world.client.zadd(world.keys.alive, {"a@host:1:1": 1.0})
    world.client.hset(world.keys.workers, "a@host", b"a later start of it")
    assert script(keys, [repr(world.client.time()[0] - 100.0), held, "a@host", "a@host:1:1", raw]) == 1
    assert world.client.hexists(world.keys.workers, "a@host")


def test_a_restarted_worker_is_one_worker(world: RedisWorld) -> None:
    world.report(worker("a@host"))
    again = worker("a@host", slots=7)
    redis_beats.publish(
        world.client,
        world.keys,
        name="a@host",
        instance="a@host:2:2",
        now=0.0,
        holds=None,
        beat=beat.pack(Reading(), busy=0, loop_ticks=0, at=0.0),
        description=(world.client.hget(world.keys.workers, "a@host") or b"")
        .decode()
        .replace("a@host:1:1", "a@host:2:2")
        .replace('"slots":2', '"slots":7'),
    )
    world.silence("a@host", for_s=TTL_S + 1)
    fleet = world.store.observe()
    assert [(w.instance, w.slots) for w in fleet.workers] == [("a@host:2:2", again.slots)]
    assert fleet.silent == ()


def test_a_described_worker_that_never_reported_is_silent(world: RedisWorld) -> None:
    world.report(worker("a@host"))
    world.client.delete(world.keys.alive)
    assert world.store.observe().silent == ("a@host",)
    assert world.store.observe().workers == ()


def test_a_lane_nobody_uses_is_forgotten_and_workers_are_told(world: RedisWorld) -> None:
    lane_used(world, UNUSED_S + 60)
    assert [lane.queue for lane in world.store.observe().lanes] == [LANE]
    assert world.store.observe().lanes == ()
    assert world.client.get(world.keys.lanes_revision) == b"1"


@pytest.mark.parametrize("waiting", [True, False])
def test_a_lane_in_use_is_kept(world: RedisWorld, waiting: bool) -> None:
    lane_used(world, UNUSED_S + 60 if waiting else UNUSED_S - 60)
    if waiting:
        world.client.lpush(world.keys.queue_lists(LANE)[-1], raw_message("t", "train"))
    for _ in range(2):
        assert [lane.queue for lane in world.store.observe().lanes] == [LANE]


def test_a_heartbeat_renews_what_is_held_and_nothing_that_was_acked(world: RedisWorld) -> None:
    world.client.zadd(world.keys.unacked_index, {"held": 1.0, "another's": 1.0})
    told = redis_beats.publish(
        world.client,
        world.keys,
        name="a",
        instance="a:1:1",
        description=None,
        holds=None,
        beat=b"x",
        renew=["held", "acked"],
        now=1234.5,
    )
    assert world.client.zrange(world.keys.unacked_index, 0, -1, withscores=True) == [
        (b"another's", 1.0),
        (b"held", 1234.5),
    ]
    assert told.at == pytest.approx(world.client.zscore(world.keys.alive, "a:1:1"))


def test_a_heartbeat_is_one_round_trip(world: RedisWorld) -> None:
    world.report(worker("a@host"))
    world.client.config_resetstat()
    world.report(worker("a@host"))
    assert world.client.info("commandstats")["cmdstat_evalsha"]["calls"] == 1
    assert world.client.info("stats")["total_commands_processed"] <= 16


def test_keys_of_a_broker_with_a_prefix(redis_client: redis.Redis) -> None:
    keys = Keys(prefix="pre:", sep="|", priority_steps=(0, 5), unacked="pre:unacked")
    world = RedisWorld(Connection.of_client(redis_client, keys))
    world.report(worker("a@host"))
    world.lane(LANE, TRAIN)
    redis_client.lpush(f"pre:{LANE}|5", raw_message("t", "train", priority=5))
    fleet = world.store.observe()
    assert (len(fleet.workers), fleet.lanes[0].waiting) == (1, 1)
    assert world.handover.request(move("queued", LANE, "other", task_id="t"), 60) == 1
    assert redis_client.llen("pre:other|5") == 1
    assert all(key.startswith(b"pre:") for key in redis_client.scan_iter("*"))


def test_orders_and_wishes_end_by_themselves(world: RedisWorld) -> None:
    from balancer.model import Order

    world.store.publish_orders([Order(hardware_class="c", at=1.0)], ttl_s=30)
    world.handover.request(move("running", "a@host", LANE, task_id="t"), 45)
    assert 29 <= world.client.ttl(world.keys.order("c")) <= 30
    assert 44 <= world.client.ttl(world.keys.want("t")) <= 45


def test_a_lost_counter_of_the_lease_does_not_lock_the_memory(world: RedisWorld) -> None:
    world.store.save_memory({}, fence=41)
    lease = world.lease("beat")
    fence = lease.acquire()
    assert fence == 42
    assert world.store.save_memory({"new": True}, fence)


def test_two_balancers_of_one_name_are_two(world: RedisWorld) -> None:
    first, second = world.lease("beat"), world.lease("beat")
    assert first.acquire() == 1
    assert second.acquire() is None


def test_a_worker_that_cannot_be_told_is_an_error_with_its_name(world: RedisWorld) -> None:
    def broken(worker: str, arguments: dict[str, object]) -> None:
        raise RuntimeError("no route")

    handover = RedisHandOver(world.connection, broken)
    with pytest.raises(StoreError, match="worker a@host could not be told: no route"):
        handover.request(move("reserved", "a@host", LANE, task_id="t"), 60)


def test_a_redis_that_is_gone_is_a_store_error() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        gone = Connection.of_client(redis.Redis(port=taken.getsockname()[1], retry=None))
        store, lease = RedisFleetStore(gone), RedisLease(gone, "beat", ttl_s=1)
        handover = RedisHandOver(gone, lambda w, a: None)
        calls = [
            store.observe,
            lambda: store.events(""),
            lambda: store.publish_orders([], 1),
            store.load_memory,
            lambda: store.save_memory({}, 1),
            lease.acquire,
            lease.holder,
            lease.release,
            lambda: handover.request(move("queued", "a", "b", task_id="t"), 1),
            lambda: handover.cancel(move("running", "a", "b", task_id="t")),
            lambda: handover.return_stranded(["q"]),
        ]
        for call in calls[:2] + calls[3:]:
            with pytest.raises(StoreError):
                call()


def test_a_stranded_message_of_no_known_lane_is_told_once(world: RedisWorld) -> None:
    world.client.lpush("bal.worker.gone", raw_message("lost", "nobody's"))
    for _ in range(3):
        assert world.handover.return_stranded(["bal.worker.gone"]) == 0
    (told,) = (json.loads(raw) for raw in world.client.lrange(world.keys.asides, 0, -1))
    assert (told["source"], told["reason"]) == ("queue bal.worker.gone", "a message of no known lane stays")
