"""What every `HandOver` does, over the twin and over Redis."""

from __future__ import annotations

from balancer.model import QueuedTask, TaskProfile
from balancer.routing import class_queue, direct_queue, lane_queue
from tests.contract.worlds import World, move

LANE, DIRECT = lane_queue("train"), direct_queue("a@host")


def fill(world: World, queue: str, *tasks: str, priority: int = 0, profile: str = "train") -> None:
    for task_id in tasks:
        world.put(QueuedTask(task_id=task_id, queue=queue, profile=profile, priority=priority))


def test_the_last_to_run_of_a_queue_move_and_keep_their_order(world: World) -> None:
    fill(world, LANE, "a", "b", "c", "d")
    assert world.handover.request(move("queued", LANE, DIRECT, count=2), 60) == 2
    assert world.contents(LANE) == ["a", "b"]
    assert world.contents(DIRECT) == ["c", "d"]


def test_what_moves_goes_behind_what_waits_there(world: World) -> None:
    fill(world, LANE, "a", "b", "c")
    fill(world, DIRECT, "x")
    assert world.handover.request(move("queued", LANE, DIRECT, count=2), 60) == 2
    assert world.contents(DIRECT) == ["x", "b", "c"]


def test_each_priority_stays_what_it_is(world: World) -> None:
    fill(world, LANE, "low", priority=9)
    fill(world, LANE, "high")
    assert world.handover.request(move("queued", LANE, DIRECT, count=10), 60) == 2
    assert (world.contents(LANE), world.contents(DIRECT)) == ([], ["high", "low"])
    fill(world, DIRECT, "between", priority=5)
    assert world.contents(DIRECT) == ["high", "between", "low"]


def test_no_more_than_there_are_move(world: World) -> None:
    fill(world, LANE, "a")
    assert world.handover.request(move("queued", LANE, DIRECT, count=5), 60) == 1
    assert world.handover.request(move("queued", LANE, DIRECT, count=5), 60) == 0


def test_a_queue_is_not_moved_onto_itself(world: World) -> None:
    fill(world, LANE, "a", "b")
    assert world.handover.request(move("queued", LANE, LANE, count=2), 60) == 0
    assert world.handover.request(move("queued", LANE, LANE, task_id="a"), 60) == 0
    assert world.contents(LANE) == ["a", "b"]


def test_a_chosen_message_moves_alone(world: World) -> None:
    fill(world, LANE, "a", "b", "c", priority=3)
    assert world.handover.request(move("queued", LANE, DIRECT, task_id="b"), 60) == 1
    assert (world.contents(LANE), world.contents(DIRECT)) == (["a", "c"], ["b"])


def test_a_chosen_message_that_is_gone_moves_nothing(world: World) -> None:
    fill(world, LANE, "a")
    assert world.handover.request(move("queued", LANE, DIRECT, task_id="b"), 60) == 0
    assert world.contents(LANE) == ["a"]


def test_a_reserved_task_is_asked_of_its_worker(world: World) -> None:
    assert world.handover.request(move("reserved", "a@host", LANE, task_id="t", move_id="m7"), 60) == 0
    assert world.commands == [("a@host", {"move_id": "m7", "task_id": "t", "queue": LANE})]


def test_a_running_task_finds_the_wish_until_it_is_cancelled(world: World) -> None:
    wish = move("running", "a@host", LANE, task_id="t", move_id="m1")
    assert world.handover.request(wish, 60) == 0
    assert world.want("t") == ("m1", LANE)
    world.handover.cancel(wish)
    assert world.want("t") is None


def test_a_task_that_is_to_be_interrupted_finds_the_wish_and_its_worker_is_told(world: World) -> None:
    wish = move("running", "a@host", LANE, task_id="t", move_id="m1", preempt=True)
    assert world.handover.request(wish, 60) == 0
    assert world.want("t") == ("m1", LANE)
    assert world.commands == [("a@host", {"move_id": "m1", "task_id": "t", "queue": LANE})]


def test_a_task_that_leaves_at_a_checkpoint_is_not_asked_of_its_worker(world: World) -> None:
    world.handover.request(move("running", "a@host", LANE, task_id="t", move_id="m1"), 60)
    assert world.commands == []


def test_a_later_wish_replaces_and_an_older_cancel_does_not_touch_it(world: World) -> None:
    old = move("running", "a@host", LANE, task_id="t", move_id="m1")
    world.handover.request(old, 60)
    world.handover.request(move("running", "a@host", DIRECT, task_id="t", move_id="m2"), 60)
    world.handover.cancel(old)
    assert world.want("t") == ("m2", DIRECT)


def test_stranded_messages_go_back_before_those_that_wait(world: World) -> None:
    world.lane(LANE, TaskProfile(name="train", task="proj.train"))
    fill(world, LANE, "x")
    fill(world, LANE, "y", priority=6)
    fill(world, DIRECT, "a", "b", "c")
    fill(world, DIRECT, "d", "e", priority=6)
    assert world.handover.return_stranded([DIRECT]) == 5
    assert world.contents(DIRECT) == []
    assert world.contents(LANE) == ["a", "b", "c", "x", "d", "e", "y"]


def test_stranded_messages_out_of_a_queue_of_the_operators_go_back_there(world: World) -> None:
    world.lane(LANE, TaskProfile(name="train", task="proj.train"))
    fill(world, DIRECT, "a")
    for profile in ("train", "nobody's"):
        world.put(QueuedTask(task_id=profile, queue=DIRECT, profile=profile, home="payments"))
    assert world.handover.return_stranded([DIRECT]) == 3
    assert (world.contents(LANE), world.contents("payments")) == (["a"], ["train", "nobody's"])


def test_stranded_messages_of_no_known_lane_stay(world: World) -> None:
    other = lane_queue("other")
    world.lane(LANE, TaskProfile(name="train", task="proj.train"))
    world.lane(other, TaskProfile(name="other", task="proj.other"))
    fill(world, DIRECT, "a")
    fill(world, DIRECT, "lost", profile="nobody's")
    fill(world, DIRECT, "b", profile="other")
    assert world.handover.return_stranded([DIRECT, class_queue("gone")]) == 2
    assert (world.contents(DIRECT), world.contents(LANE), world.contents(other)) == (["lost"], ["a"], ["b"])


def test_lanes_are_never_emptied_as_stranded(world: World) -> None:
    world.lane(LANE, TaskProfile(name="train", task="proj.train"))
    fill(world, LANE, "a")
    assert world.handover.return_stranded([LANE]) == 0
    assert world.contents(LANE) == ["a"]
