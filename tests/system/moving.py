"""Asking for moves as the balancer does, from a test."""

from __future__ import annotations

from typing import Any

from balancer.adapters.redis_connection import connect
from balancer.adapters.redis_handover import RedisHandOver
from balancer.model import Move, MoveKind, Score
from balancer.routing import direct_queue
from tests.system.fleet import FleetUnderTest

#: What stands before the broker's URL, for the stock and for the balanced transport.
SCHEMES = {"stock": "", "balanced": "balanced-"}


def hand_over(app: Any) -> RedisHandOver:
    def command(name: str) -> Any:
        return lambda worker, arguments: app.control.broadcast(
            name, arguments=dict(arguments), destination=[worker]
        )

    return RedisHandOver(connect(app), command("balancer_relinquish"), command("balancer_preempt"))


def ask(app: Any, kind: MoveKind, task_id: str, source: str, target: str, *, number: int = 0,
        queue: str = "", preempt: bool = False, timeout_s: float = 30.0) -> str:
    """Ask for one move from worker `source` to worker `target`, or to `queue`; returns its id."""
    move_id = f"{kind}-{number}-{task_id}"
    move = Move(move_id=move_id, task_id=task_id, profile="p", kind=kind, source=f"{source}@test",
                target=f"{target}@test", target_queue=queue or direct_queue(f"{target}@test"),
                reason="test", score=Score(cost=0.0, benefit=1.0), at=0.0, preempt=preempt)
    hand_over(app).request(move, timeout_s)
    return move_id


def told(fleet: FleetUnderTest, task_id: str, kind: str, reason: str = "") -> int:
    """How many events of a kind (with a reason) were told of a task."""
    found = (event.replace(b" ", b"") for event in fleet.moved_events(task_id))
    return sum(f'"type":"{kind}"'.encode() in e and (not reason or f'"reason":"{reason}"'.encode() in e)
               for e in found)


def starts(fleet: FleetUnderTest, task_id: str) -> list[str]:
    """The workers on which its body began, in order, by the independent ledger."""
    return list(fleet.ledger.lrange(f"started:{task_id}", 0, -1))


def on(name: str, task: Any, *args: Any, **options: Any) -> Any:
    """Publish a task for this worker alone."""
    return task.apply_async(args, queue=direct_queue(f"{name}@test"), **options)
