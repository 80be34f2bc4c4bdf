"""What lies in queues that nobody serves any more, seen by any worker."""

from __future__ import annotations

import pytest

from balancer.adapters.redis_connection import Connection
from balancer.adapters.redis_stray import return_strays
from balancer.model import QueuedTask, TaskProfile
from balancer.routing import class_queue, direct_queue, lane_queue
from tests.contract.worlds import TTL_S, RedisWorld, move, worker

LANE, GONE, THERE = lane_queue("train"), direct_queue("gone@h"), direct_queue("there@h")


@pytest.fixture
def world(connection: Connection) -> RedisWorld:
    made = RedisWorld(connection)
    made.lane(LANE, TaskProfile(name="train", task="proj.train"))
    made.report(worker("there@h"))
    for queue in (GONE, THERE, class_queue("cpu-test")):
        made.put(QueuedTask(task_id=f"in {queue}", queue=queue, profile="train"))
    return made


def test_only_what_was_moved_to_a_worker_that_is_gone_goes_back(world: RedisWorld) -> None:
    for queue in (GONE, THERE, class_queue("cpu-test")):
        world.handover.request(move("queued", "nowhere", queue, task_id="none"), 60)
    assert return_strays(world.connection, TTL_S) == 1
    assert world.contents(LANE) == [f"in {GONE}"]
    assert world.contents(THERE) == [f"in {THERE}"]
    assert len(world.contents(class_queue("cpu-test"))) == 1


def test_what_was_moved_to_a_class_goes_back_when_its_last_worker_is_gone(world: RedisWorld) -> None:
    queue = class_queue("cuda-Gone")
    world.put(QueuedTask(task_id="t", queue=queue, profile="train"))
    world.handover.request(move("queued", "nowhere", queue, task_id="none"), 60)
    assert return_strays(world.connection, TTL_S) == 1
    assert world.contents(LANE) == ["t"]


def test_a_silent_worker_counts_as_gone(world: RedisWorld) -> None:
    world.silence("there@h", 2 * TTL_S)
    assert return_strays(world.connection, TTL_S) == 2
    assert sorted(world.contents(LANE)) == [f"in {class_queue('cpu-test')}", f"in {THERE}"]


def test_one_look_is_enough_for_a_fleet(world: RedisWorld) -> None:
    assert return_strays(world.connection, TTL_S) == 0
    world.silence("there@h", 2 * TTL_S)
    assert return_strays(world.connection, TTL_S) == 0
    world.client.delete(world.keys.recovering("strays"))
    assert return_strays(world.connection, TTL_S) == 2
