"""What a worker asks for next: orders, ties, guard, strike-outs, and life without a balancer."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from types import MappingProxyType

import pytest

from balancer.adapters.order_text import order_document
from balancer.adapters.redis_connection import Connection
from balancer.model import Footprint, Hardware, LaneOffer, Needs, Order, Reading, TaskProfile
from balancer.routing import class_queue, direct_queue, lane_queue
from workers.lanes import LaneCycle, LaneFollower

GPU = Hardware(kind="cuda", model="V100", gpu_memory_bytes=16_000_000_000)
OWN = [direct_queue("w@h"), class_queue("cuda-V100")]
A, B, C = lane_queue("a"), lane_queue("b"), lane_queue("c")


def profile(name: str, **needs: object) -> TaskProfile:
    return TaskProfile(name=name, task="proj.t", needs=Needs(**needs))  # type: ignore[arg-type]


@pytest.fixture
def follower(connection: Connection) -> LaneFollower:
    made = LaneFollower(connection, GPU, "w@h")
    made.view.lanes = {queue: profile(queue[-1]) for queue in (A, B, C)}
    return made


def wait_in(connection: Connection, queue: str, *ages_s: float) -> None:
    """Messages that were published so long ago, the oldest at the head."""
    for age in sorted(ages_s, reverse=True):
        message = {"headers": {"balancer": {"at": round(time.time() - age, 3), "v": 1}}}
        connection.client.lpush(queue, json.dumps(message))


def order(*groups: tuple[str, ...], **changes: object) -> Order:
    lanes = [queue for group in groups for queue in group]
    offers = tuple(LaneOffer(queue=q, seconds=1.0, best_seconds=1.0, value=1.0, ratio=1.0) for q in lanes)
    values = MappingProxyType(dict.fromkeys((A, B, C), 1.0))
    made = Order(hardware_class="cuda-V100", at=1.0, groups=groups, offers=offers, values=values)
    return replace(made, **changes)  # type: ignore[arg-type]


def publish(connection: Connection, made: Order) -> None:
    connection.client.set(connection.keys.order("cuda-V100"), order_document(made), px=60_000)


def lanes_of(queues: list[str]) -> list[str]:
    return [queue for queue in queues if queue in (A, B, C)]


def test_its_own_queues_come_first_and_lanes_in_the_orders_order(
    connection: Connection, follower: LaneFollower
) -> None:
    publish(connection, order((C,), (A,), (B,)))
    assert follower.arrange([A, B, C, *OWN]) == [*OWN, C, A, B]


def test_a_new_order_counts_from_the_next_pop_on(connection: Connection, follower: LaneFollower) -> None:
    publish(connection, order((A,), (B,)))
    assert lanes_of(follower.arrange([A, B, *OWN])) == [A, B]
    publish(connection, order((B,), (A,)))
    follower.look_again()
    assert lanes_of(follower.arrange([A, B, *OWN])) == [B, A]


def test_a_lane_table_that_changed_is_noticed_at_the_next_look(
    connection: Connection, follower: LaneFollower
) -> None:
    follower.view.revision = b"7"
    connection.client.set(connection.keys.lanes_revision, 7)
    follower.arrange(OWN)
    assert not follower.view.stale.is_set()
    connection.client.incr(connection.keys.lanes_revision)
    follower.look_again()
    follower.arrange(OWN)
    assert follower.view.stale.is_set()


def test_ties_go_by_the_age_of_their_heads(connection: Connection, follower: LaneFollower) -> None:
    publish(connection, order((A, B, C)))
    wait_in(connection, A, 5)
    wait_in(connection, B, 50, 1)
    wait_in(connection, C, 20)
    assert lanes_of(follower.arrange([A, B, C, *OWN])) == [B, C, A]


def test_the_guard_is_judged_by_the_backlog_of_this_moment(
    connection: Connection, follower: LaneFollower
) -> None:
    slow = LaneOffer(queue=A, seconds=10.0, best_seconds=1.0, value=1.0, ratio=1.0)
    publish(connection, order((A,), offers=(slow,)))
    wait_in(connection, A, 1)
    assert lanes_of(follower.arrange([A, *OWN])) == []
    wait_in(connection, A, *range(2, 12))
    follower.look_again()
    assert lanes_of(follower.arrange([A, *OWN])) == [A]


def test_what_it_cannot_run_now_is_struck_out(connection: Connection, follower: LaneFollower) -> None:
    publish(connection, order((A,), (B,)))
    follower.view.lanes = {A: profile("a", gpu_memory_bytes=8_000_000_000), B: profile("b")}
    follower.view.reading = Reading(gpu_memory_free_bytes=4e9)
    assert lanes_of(follower.arrange([A, B, *OWN])) == [B]
    follower.view.reading = Reading(gpu_memory_free_bytes=9e9)
    assert lanes_of(follower.arrange([A, B, *OWN])) == [A, B]


def sharing(connection: Connection, held: list[str], **free: float) -> LaneFollower:
    """A worker of four slots on a device of 16 GB; a asks for 4 GB, b for 8 and c for 16."""
    made = LaneFollower(connection, GPU, "w@h", lambda: held)
    sizes = {A: 4_000_000_000, B: 8_000_000_000, C: 16_000_000_000}
    made.view.lanes = {queue: profile(queue[-1], gpu_memory_bytes=size) for queue, size in sizes.items()}
    made.view.slots, made.view.reading = 4, Reading(**free)
    return made


def test_of_a_shared_device_what_wastes_least_is_asked_for_first(connection: Connection) -> None:
    """Half is free: 8 GB fill it; 4 GB would leave 4 that are of use to one usual task in three."""
    usual = tuple((1 / 3, Footprint(share=size)) for size in (4e9, 8e9, 16e9))
    wait_in(connection, A, 50)
    wait_in(connection, B, 5)
    publish(connection, order((A, B, C), usual=usual))
    assert lanes_of(sharing(connection, ["b"]).arrange([A, B, C, *OWN])) == [B, A]
    publish(connection, order((A, B, C)))
    assert lanes_of(sharing(connection, ["b"]).arrange([A, B, C, *OWN])) == [A, B]


def test_memory_that_was_promised_is_not_promised_again(connection: Connection) -> None:
    """The card still reads as empty: what was taken a moment ago has not allocated anything."""
    publish(connection, order((A,), (B,), (C,)))
    held = ["b"]
    follower = sharing(connection, held, gpu_memory_free_bytes=16e9)
    assert lanes_of(follower.arrange([A, B, C, *OWN])) == [A, B]
    held.append("a")
    assert lanes_of(follower.arrange([A, B, C, *OWN])) == [A], "though it looked at the lanes just now"
    held.append("a")
    assert lanes_of(follower.arrange([A, B, C, *OWN])) == []


def test_room_is_kept_for_what_comes_by_a_move(connection: Connection) -> None:
    publish(connection, order((A,), (B,), (C,), coming={"w@h": 8_000_000_000, "other@h": 16_000_000_000}))
    assert lanes_of(sharing(connection, []).arrange([A, B, C, *OWN])) == [A, B]
    assert lanes_of(sharing(connection, ["a"]).arrange([A, B, C, *OWN])) == [A]
    assert lanes_of(sharing(connection, ["b"]).arrange([A, B, C, *OWN])) == []


def test_what_others_took_of_a_shared_device_counts_too(connection: Connection) -> None:
    publish(connection, order((A,), (B,), (C,)))
    assert lanes_of(sharing(connection, [], gpu_memory_free_bytes=9e9).arrange([A, B, C, *OWN])) == [A, B]


def test_what_it_can_never_run_is_not_served(follower: LaneFollower) -> None:
    follower.view.lanes = {
        A: profile("a", gpu_memory_bytes=32_000_000_000),
        B: profile("b", hardware=("cpu",)),
        C: profile("c", affinity=("rack=a",)),
    }
    assert follower.servable() == []
    follower.view.lanes = {A: profile("a", hardware=("cpu", "cuda-V100"))}
    assert follower.servable() == [A]


def test_without_a_fresh_order_every_lane_is_served_oldest_first(
    connection: Connection, follower: LaneFollower
) -> None:
    publish(connection, order((A,), exclusive=True))
    wait_in(connection, B, 5)
    wait_in(connection, C, 9)
    assert lanes_of(follower.arrange([A, B, C, *OWN])) == [A]
    connection.client.delete(connection.keys.order("cuda-V100"))
    follower.look_again()
    assert lanes_of(follower.arrange([A, B, C, *OWN])) == [C, B, A]


def test_a_lane_newer_than_the_order_is_served_unless_it_is_exclusive(
    connection: Connection, follower: LaneFollower
) -> None:
    publish(connection, order((A,)))
    assert lanes_of(follower.arrange([A, B, *OWN])) == [A, B]
    publish(connection, order((A,), exclusive=True))
    follower.look_again()
    assert lanes_of(follower.arrange([A, B, *OWN])) == [A]


def test_a_worker_tries_what_it_is_to_try_first_unless_it_holds_one_already(
    connection: Connection, follower: LaneFollower
) -> None:
    for queue in (A, B, C):
        wait_in(connection, queue, 5)
    publish(connection, order((A,), (B,), (C,), first_runs={"w@h": C, "other@h": B}))
    assert lanes_of(follower.arrange([A, B, C, *OWN])) == [C, A, B]
    follower.held_profiles = lambda: ["c"]
    follower.look_again()
    assert lanes_of(follower.arrange([A, B, C, *OWN])) == [A, B, C]


def test_a_worker_lists_the_lanes_that_it_is_better_or_worse_at_where_they_belong(
    connection: Connection, follower: LaneFollower
) -> None:
    for queue in (A, B, C):
        wait_in(connection, queue, 5)
    offers = [LaneOffer(queue=queue, seconds=1.0, best_seconds=1.0, value=0.1, ratio=ratio)
              for queue, ratio in ((A, 1.0), (B, 0.8), (C, 0.6))]
    told = {"w@h": {C: 2.0, A: 0.7}, "other@h": {B: 2.0}}
    publish(connection, order((A,), (B,), (C,), offers=offers, special=told))
    assert lanes_of(follower.arrange([A, B, C, *OWN])) == [C, B, A]
    publish(connection, order((A,), (B,), (C,), offers=offers, special={"other@h": {B: 2.0}}))
    follower.look_again()
    assert lanes_of(follower.arrange([A, B, C, *OWN])) == [A, B, C]


def test_queues_of_others_and_lanes_take_turns(connection: Connection, follower: LaneFollower) -> None:
    publish(connection, order((A,)))
    assert follower.arrange([A, "celery", *OWN]) == [*OWN, "celery", A]
    follower.served("celery")
    assert follower.arrange([A, "celery", *OWN]) == [*OWN, A, "celery"]
    follower.served(A)
    assert follower.arrange([A, "celery", *OWN]) == [*OWN, "celery", A]


@pytest.mark.parametrize("garbage", [b"\xff\x00", b"[]", b'{"v": 99}', b'{"v": 1, "at": "soon"}'])
def test_an_order_that_cannot_be_read_is_not_followed(
    connection: Connection, follower: LaneFollower, garbage: bytes
) -> None:
    connection.client.set(connection.keys.order("cuda-V100"), garbage)
    assert lanes_of(follower.arrange([A, B, *OWN])) == [A, B]


def test_a_redis_that_does_not_answer_leaves_every_lane(connection: Connection) -> None:
    class Gone:
        keys = connection.keys

        def script(self, name: str) -> object:
            import redis

            raise redis.ConnectionError("gone")

    follower = LaneFollower(Gone(), GPU, "w@h")  # type: ignore[arg-type]
    follower.view.lanes = {A: profile("a")}
    assert lanes_of(follower.arrange([A, *OWN])) == [A]


def test_a_draining_worker_asks_for_nothing(follower: LaneFollower) -> None:
    follower.view.draining = True
    assert follower.arrange([A, "celery", *OWN]) == []


def test_a_process_without_a_worker_goes_round_robin() -> None:
    cycle = LaneCycle()
    cycle.update(["one", "two"])
    assert cycle.consume(2) == ["one", "two"]
    cycle.rotate("one")
    assert cycle.consume(2) == ["two", "one"]
