"""What every `FleetStore` does, over the twin and over Redis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from balancer.model import (
    Event,
    Hardware,
    HeldTask,
    LaneOffer,
    Needs,
    Order,
    QueuedTask,
    Reading,
    RunFinished,
    RunStarted,
    TaskProfile,
)
from balancer.routing import class_queue, direct_queue, lane_queue
from tests.contract.worlds import World, worker

LANE = lane_queue("train")
TRAIN = TaskProfile(
    name="train",
    task="proj.train",
    priority=3,
    checkpoints=True,
    expected_s={"cuda": 2.0},
    needs=Needs(
        hardware=("cuda", "cpu"), compute_capability=7.0, gpu_memory_bytes=2**34, affinity=("rack=a",)
    ),
)


def queued(task_id: str, queue: str = LANE, profile: str = "train", **fields: object) -> QueuedTask:
    return QueuedTask(task_id=task_id, queue=queue, profile=profile, **fields)  # type: ignore[arg-type]


def test_a_worker_is_seen_as_it_reported(world: World) -> None:
    memory = {"gpu_memory_bytes": 2**34, "compute_capability": 7.0}
    labels = (("rack", "a"), ("zone", "ü"))
    running = HeldTask(task_id="a", profile="train", lane=LANE, size=3.5, started_at=9.0, epoch=2)
    running = replace(running, checkpointed_at=10.0, state_bytes=0, checkpoints=True, tag="t", share_done=0.5)
    reported = worker(
        "gpu0@host",
        hardware=Hardware(kind="cuda", model="Tesla V100", index=1, labels=labels, emulated=True, **memory),
        reading=Reading(cpu=0.25, gpu=1.0, gpu_memory=0.0, temperature_celsius=-4.5, power_w=250.5),
        running=(running,),
        reserved=(HeldTask(task_id="b", profile="train", priority=6),),
        slots=3,
        busy=2,
        loop_ticks=77,
        pool="prefork",
        queues=("celery", LANE),
        health="draining",
    )
    world.report(reported)
    fleet = world.store.observe()
    assert [replace(w, at=0.0) for w in fleet.workers] == [reported]
    assert 0 <= fleet.at - fleet.workers[0].at < 5
    assert fleet.set_aside == ()


def test_what_was_not_read_stays_unknown(world: World) -> None:
    world.report(worker("a@host"))
    assert world.store.observe().workers[0].reading == Reading()


def test_an_empty_fleet_is_a_fleet(world: World) -> None:
    fleet = world.store.observe()
    assert (fleet.workers, fleet.lanes, fleet.silent, fleet.set_aside) == ((), (), (), ())


def test_a_silent_worker_is_named_once_and_again_after_it_spoke(world: World) -> None:
    for name in ("a@host", "b@host"):
        world.report(worker(name))
    world.silence("a@host", for_s=11)
    first, second = world.store.observe(), world.store.observe()
    assert (first.silent, second.silent) == (("a@host",), ())
    assert [w.name for w in second.workers] == ["b@host"]
    world.report(worker("a@host"))
    assert [w.name for w in world.store.observe().workers] == ["a@host", "b@host"]
    world.silence("a@host", for_s=11)
    assert world.store.observe().silent == ("a@host",)


def test_a_worker_long_silent_is_forgotten(world: World) -> None:
    world.report(worker("a@host"))
    world.silence("a@host", for_s=101)
    assert world.store.observe().silent == ("a@host",)
    assert direct_queue("a@host") not in world.store.observe().queues


def test_lanes_show_their_profile_backlog_and_sizes(world: World) -> None:
    world.lane(LANE, TRAIN)
    world.lane(lane_queue("idle"), TaskProfile(name="idle", task="proj.idle", group="gold"))
    for task_id, size in (("a", 1.0), ("b", 3.0), ("c", 5.0)):
        world.put(queued(task_id, size=size))
    idle, train = world.store.observe().lanes
    assert train.profile == TRAIN
    assert idle.profile.group == "gold"
    assert (train.queue, train.waiting, train.mean_size) == (LANE, 3, 3.0)
    assert train.oldest_s is not None
    assert train.oldest_s >= 0
    assert (idle.waiting, idle.mean_size, idle.oldest_s) == (0, 1.0, None)


def test_lanes_tell_when_what_is_served_next_expires(world: World) -> None:
    world.lane(LANE, TRAIN)
    world.lane(lane_queue("free"), TaskProfile(name="free", task="proj.free"))
    world.put(queued("forever", queue=lane_queue("free"), profile="free"))
    now = world.store.observe().at
    for task_id, after in (("gone", -5.0), ("next", 60.0), ("later", 30.0)):
        world.put(queued(task_id, expires_at=now + after))
    seen = world.store.observe()
    free, train = seen.lanes
    assert free.due_s is None
    assert train.due_s == pytest.approx(now + 60.0 - seen.at, abs=0.01)
    expiries = {task.task_id: task.expires_at for task in seen.queued}
    assert expiries["next"] == pytest.approx(now + 60.0, abs=0.001)
    assert expiries["forever"] is None


def test_waiting_messages_are_shown_in_the_order_of_their_service(world: World) -> None:
    world.lane(LANE, TRAIN)
    for task_id, priority in (("late", 9), ("first", 0), ("second", 0), ("middle", 4)):
        world.put(queued(task_id, priority=priority, size=2.0))
    assert [(t.task_id, t.profile, t.size, t.priority) for t in world.store.observe().queued] == [
        ("first", "train", 2.0, 0),
        ("second", "train", 2.0, 0),
        ("middle", "train", 2.0, 4),
        ("late", "train", 2.0, 9),
    ]


def test_class_and_direct_queues_are_counted(world: World) -> None:
    w = worker("a@host", queues=("celery",))
    world.report(w)
    world.lane(LANE, TRAIN)
    world.put(queued("x", queue=direct_queue("a@host")))
    world.put(queued("y", queue=class_queue("cpu-test"), priority=6))
    world.put(queued("z", queue=class_queue("cpu-test")))
    world.put(queued("q", queue="celery"))
    fleet = world.store.observe()
    assert dict(fleet.queues) == {direct_queue("a@host"): 1, class_queue("cpu-test"): 2, "celery": 1}
    assert {t.task_id for t in fleet.queued} >= {"x", "y", "z"}


def test_events_are_read_once_in_order(world: World) -> None:
    events = [
        RunStarted(
            at=0.0, task_id="a", profile="train", worker="w", hardware_class="cpu", epoch=0, queue=LANE
        ),
        RunFinished(
            at=0.0,
            task_id="a",
            profile="train",
            worker="w",
            hardware_class="cpu",
            epoch=0,
            outcome="success",
            duration_s=2.5,
            size=3.0,
            share=None,
        ),
    ]
    cursor, found = world.store.events("")
    assert found == []
    for event in events:
        world.tell(event)
    cursor, first = world.store.events(cursor, limit=1)
    cursor, second = world.store.events(cursor)
    assert [replace(e, at=0.0) for e in (*first, *second)] == events
    assert world.store.events(cursor) == (cursor, [])


def test_orders_are_published_and_replaced(world: World) -> None:
    offer = LaneOffer(queue=LANE, seconds=2.0, best_seconds=1.0, value=0.5, ratio=0.9)
    order = Order(
        hardware_class="cpu-test",
        at=1.0,
        groups=((LANE, "b"), ("c",)),
        offers=(offer,),
        values={LANE: 0.5},
        price=0.25,
        committed_s=3.0,
        special={"w@h": {LANE: 1.6}},
        first_runs={"w@h": LANE},
        urgent=1,
        guarded=False,
        exclusive=True,
    )
    world.store.publish_orders([order, replace(order, hardware_class="cuda")], ttl_s=60)
    assert world.order("cpu-test") == order
    world.store.publish_orders([replace(order, price=0.5)], ttl_s=60)
    assert world.order("cpu-test") == replace(order, price=0.5)
    assert world.order("cuda") == replace(order, hardware_class="cuda")
    assert world.order("rocm") is None


def test_memory_is_kept_for_the_next_balancer(world: World) -> None:
    assert world.store.load_memory() is None
    document = {"version": 1, "deep": {"list": [1, 2.5, None, "ü"], "empty": []}}
    assert world.store.save_memory(document, fence=1)
    assert world.other_store().load_memory() == document


def test_what_came_since_is_kept_beside_the_whole_and_goes_with_it(world: World) -> None:
    assert world.store.save_memory({"version": 1, "whole": [1]}, fence=1)
    assert world.store.save_memory({"version": 1, "moves": [2]}, fence=1, since=True)
    assert world.other_store().load_memory() == {
        "version": 1, "whole": [1], "since": {"version": 1, "moves": [2]}}
    assert world.store.save_memory({"version": 1, "whole": [3]}, fence=1)
    assert world.other_store().load_memory() == {"version": 1, "whole": [3]}


def test_what_came_since_is_kept_without_a_whole_too(world: World) -> None:
    assert world.store.save_memory({"moves": [2]}, fence=1, since=True)
    assert world.other_store().load_memory() == {"since": {"moves": [2]}}


def test_who_slept_past_its_lease_cannot_write_as_soon_as_another_has_taken_it(world: World) -> None:
    first = world.lease("first").acquire()
    assert first is not None
    world.lapse()
    assert world.store.save_memory({"by": "first"}, first)
    second = world.lease("second").acquire()
    assert second is not None
    assert not world.store.save_memory({"by": "first again"}, first)
    assert not world.store.save_memory({}, first, since=True)
    assert world.store.load_memory() == {"by": "first"}
    assert world.store.save_memory({"by": "second"}, second)


def test_events_are_read_up_to_a_cursor(world: World) -> None:
    def ids(events: Sequence[Event]) -> list[str]:
        return [e.task_id for e in events if isinstance(e, RunStarted)]

    cursors = [""]
    for name in "abc":
        world.tell(RunStarted(at=0.0, task_id=name, profile="p", worker="w", hardware_class="cpu", epoch=0))
        cursor, found = world.store.events(cursors[-1])
        assert ids(found) == [name]
        cursors.append(cursor)
    reached, found = world.store.events("", until=cursors[2])
    assert (reached, ids(found)) == (cursors[2], ["a", "b"])
    assert world.store.events(cursors[2], until=cursors[2]) == (cursors[2], [])


@pytest.mark.parametrize(("fence", "kept"), [(6, False), (7, True), (8, True)])
def test_an_earlier_holder_of_the_lease_cannot_overwrite_memory(world: World, fence: int, kept: bool) -> None:
    world.store.save_memory({"by": 7}, fence=7)
    assert world.store.save_memory({"by": fence}, fence=fence) is kept
    assert world.store.load_memory() == {"by": fence if kept else 7}
