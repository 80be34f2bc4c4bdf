"""Two worlds that one contract suite runs over: the twins in memory, and a real Redis."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Protocol

from balancer.adapters import beat, documents, redis_beats
from balancer.adapters.in_memory import (
    InMemoryFleet,
    InMemoryFleetStore,
    InMemoryHandOver,
    InMemoryLease,
    priority_step,
)
from balancer.adapters.message_head import read_head
from balancer.adapters.redis_connection import Connection
from balancer.adapters.redis_handover import RedisHandOver
from balancer.adapters.redis_lease import RedisLease
from balancer.adapters.redis_store import RedisFleetStore
from balancer.model import Event, Hardware, Move, Order, QueuedTask, Score, TaskProfile, Worker
from balancer.ports import FleetStore, HandOver, Lease
from tests.contract.messages import raw_message

TTL_S = 10.0


def worker(name: str, **fields: Any) -> Worker:
    hardware = fields.pop("hardware", Hardware(kind="cpu", model="test"))
    return Worker(
        name=name, instance=f"{name}:1:1", hardware=hardware, slots=fields.pop("slots", 2), at=0.0, **fields
    )


def move(kind: Any, source: str, target_queue: str, **fields: Any) -> Move:
    return Move(
        move_id=fields.pop("move_id", "m1"),
        task_id=fields.pop("task_id", ""),
        profile="p",
        kind=kind,
        source=source,
        target=target_queue,
        target_queue=target_queue,
        reason="test",
        score=Score(cost=0.0, benefit=1.0),
        at=0.0,
        **fields,
    )


class World(Protocol):
    """What a test can do to a world, beside its ports."""

    store: FleetStore
    handover: HandOver
    commands: list[tuple[str, dict[str, Any]]]

    def report(self, worker: Worker) -> None: ...
    def silence(self, name: str, for_s: float) -> None: ...
    def lane(self, queue: str, profile: TaskProfile) -> None: ...
    def put(self, task: QueuedTask) -> None: ...
    def contents(self, queue: str) -> list[str]: ...
    def tell(self, event: Event) -> None: ...
    def order(self, hardware_class: str) -> Order | None: ...
    def want(self, task_id: str) -> tuple[str, str] | None: ...
    def lease(self, holder: str) -> Lease: ...
    def lapse(self) -> None: ...
    def other_store(self) -> FleetStore: ...


class TwinWorld:
    """The world in memory."""

    def __init__(self) -> None:
        self.fleet = InMemoryFleet()
        self.twin = InMemoryFleetStore(self.fleet, heartbeat_ttl_s=TTL_S)
        self.twin_handover = InMemoryHandOver(self.fleet)
        self.commands = self.twin_handover.commands
        self.board = self.fleet.board
        self.store: FleetStore = self.twin
        self.handover: HandOver = self.twin_handover

    def report(self, worker: Worker) -> None:
        self.fleet.report(worker)

    def silence(self, name: str, for_s: float) -> None:
        self.fleet.reports[name] = replace(self.fleet.reports[name], at=self.fleet.now - for_s)

    def lane(self, queue: str, profile: TaskProfile) -> None:
        self.fleet.lanes[queue] = profile

    def put(self, task: QueuedTask) -> None:
        self.fleet.put(task)

    def contents(self, queue: str) -> list[str]:
        return [t.task_id for t in self.fleet.waiting.get(queue, [])]

    def tell(self, event: Event) -> None:
        self.twin.tell(event)

    def order(self, hardware_class: str) -> Order | None:
        return self.twin.order(hardware_class)

    def want(self, task_id: str) -> tuple[str, str] | None:
        wanted = self.twin_handover.want(task_id)
        return (wanted.move_id, wanted.target_queue) if wanted else None

    def lease(self, holder: str) -> Lease:
        return InMemoryLease(holder, ttl_s=TTL_S, board=self.board, now=lambda: self.fleet.now)

    def lapse(self) -> None:
        self.board.until = self.fleet.now

    def other_store(self) -> FleetStore:
        return self.twin


class RedisWorld:
    """The world in Redis, written as workers and publishers write it."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.client, self.keys = connection.client, connection.keys
        self.commands: list[tuple[str, dict[str, Any]]] = []
        self.store: FleetStore = RedisFleetStore(connection, heartbeat_ttl_s=TTL_S)

        def tell(worker: str, arguments: dict[str, Any]) -> None:
            self.commands.append((worker, arguments))

        self.handover: HandOver = RedisHandOver(connection, tell, tell)

    def report(self, worker: Worker) -> None:
        redis_beats.publish(
            self.client,
            self.keys,
            name=worker.name,
            instance=worker.instance,
            now=0.0,
            beat=beat.pack(worker.reading, busy=worker.busy, loop_ticks=worker.loop_ticks, at=0.0),
            description=documents.description_document(
                name=worker.name,
                instance=worker.instance,
                hardware=worker.hardware,
                slots=worker.slots,
                pool=worker.pool,
                queues=worker.queues,
            ),
            holds=documents.holds_document(
                running=worker.running, reserved=worker.reserved, health=worker.health
            ),
        )

    def silence(self, name: str, for_s: float) -> None:
        self.client.zincrby(self.keys.alive, -for_s, f"{name}:1:1")

    def lane(self, queue: str, profile: TaskProfile) -> None:
        self.client.hset(self.keys.lanes, queue, documents.profile_document(profile))

    def put(self, task: QueuedTask) -> None:
        expires = task.expires_at and datetime.fromtimestamp(task.expires_at, UTC).isoformat()
        raw = raw_message(
            task.task_id, task.profile, size=task.size, priority=task.priority or 0, queue=task.queue,
            expires=expires or None, home=task.home,
        )
        lists = dict(zip(self.keys.priority_steps, self.keys.queue_lists(task.queue), strict=True))
        self.client.lpush(lists[priority_step(task.priority)], raw)

    def contents(self, queue: str) -> list[str]:
        found = []
        for key in self.keys.queue_lists(queue):
            heads = [read_head(raw) for raw in reversed(self.client.lrange(key, 0, -1))]
            found += [head.task_id for head in heads if head]
        return found

    def tell(self, event: Event) -> None:
        self.client.xadd(self.keys.events, {"e": documents.event_document(event)})

    def order(self, hardware_class: str) -> Order | None:
        raw = self.client.get(self.keys.order(hardware_class))
        return None if raw is None else documents.read_order(raw)

    def want(self, task_id: str) -> tuple[str, str] | None:
        wanted = self.client.hgetall(self.keys.want(task_id))
        return (wanted[b"move"].decode(), wanted[b"queue"].decode()) if wanted else None

    def lease(self, holder: str) -> Lease:
        return RedisLease(self.connection, holder, ttl_s=TTL_S)

    def lapse(self) -> None:
        self.client.delete(self.keys.lease)

    def other_store(self) -> FleetStore:
        return RedisFleetStore(self.connection, heartbeat_ttl_s=TTL_S)
