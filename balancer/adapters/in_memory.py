"""Twins of the real adapters, in memory: for tests, and to try the loop without a Redis.

`InMemoryFleet` is the world (workers' reports, lanes, waiting messages, time); store and
hand-over are two views of it, as they are of one Redis. The contract suite holds twins and real
adapters to the same behaviour.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Final

from balancer.adapters.redis_keys import PRIORITY_STEPS
from balancer.model import Event, Fleet, Lane, Move, Order, QueuedTask, SetAside, TaskProfile, Worker, due_s
from balancer.routing import class_queue, direct_queue, is_lane

#: A silent worker is forgotten after this many age limits, as in Redis.
FORGET_AFTER: Final = 10

#: Messages of a queue that a look shows, as in Redis.
WINDOW: Final = 50


@dataclass(slots=True, kw_only=True)
class LeaseBoard:
    """What several `InMemoryLease` share: who holds it until when, and how many held it."""

    holder: str | None = None
    until: float = 0.0
    holders: int = 0


@dataclass(slots=True, kw_only=True)
class InMemoryFleet:
    """The world. `waiting` holds each queue's messages in the order in which they are served."""

    now: float = 1_000.0
    reports: dict[str, Worker] = field(default_factory=dict)
    lanes: dict[str, TaskProfile] = field(default_factory=dict)
    waiting: dict[str, list[QueuedTask]] = field(default_factory=dict)
    put_at: dict[str, float] = field(default_factory=dict)
    set_aside: list[SetAside] = field(default_factory=list)
    board: LeaseBoard = field(default_factory=LeaseBoard)

    def report(self, worker: Worker) -> None:
        """A worker's beat, now."""
        self.reports[worker.name] = replace(worker, at=self.now)

    def put(self, task: QueuedTask, *, front: bool = False) -> None:
        """A message into its queue, behind those of its priority, or before them."""
        messages = self.waiting.setdefault(task.queue, [])
        messages.insert(0 if front else len(messages), task)
        messages.sort(key=lambda t: priority_step(t.priority))
        self.put_at.setdefault(task.task_id, self.now)

    def take(self, queue: str) -> QueuedTask | None:
        """The message that is served next, taken out."""
        messages = self.waiting.get(queue)
        return messages.pop(0) if messages else None


def priority_step(priority: int | None) -> int:
    """The priority list a message lies in, as kombu chooses it."""
    return max((step for step in PRIORITY_STEPS if step <= (priority or 0)), default=PRIORITY_STEPS[0])


class InMemoryFleetStore:
    """Twin of `RedisFleetStore`. `orders` are by hardware class with the time they end."""

    def __init__(self, fleet: InMemoryFleet, *, heartbeat_ttl_s: float = 10.0) -> None:
        self.fleet = fleet
        self.orders: dict[str, tuple[Order, float]] = {}
        self.stream: list[Event] = []
        self.memory: tuple[Mapping[str, Any], int] | None = None
        self.since: Mapping[str, Any] | None = None
        self._ttl_s = heartbeat_ttl_s
        self._silent: set[str] = set()

    def observe(self) -> Fleet:
        world = self.fleet
        live = {n: w for n, w in sorted(world.reports.items()) if world.now - w.at <= self._ttl_s}
        stale = world.reports.keys() - live.keys()
        silent = tuple(sorted(stale - self._silent))
        self._silent = set(stale)
        described = list(world.reports.values())
        for name in stale:
            if world.now - world.reports[name].at >= FORGET_AFTER * self._ttl_s:
                del world.reports[name]
        names = [class_queue(w.hardware.hardware_class) for w in described]
        names += [direct_queue(w.name) for w in described]
        names += [queue for w in described for queue in w.queues]
        names += [queue for queue, messages in world.waiting.items() if messages]
        return Fleet(
            at=world.now,
            workers=tuple(live.values()),
            lanes=tuple(self._lane(queue, world.lanes[queue]) for queue in sorted(world.lanes)),
            queues=MappingProxyType(
                {q: len(world.waiting.get(q, ())) for q in names if q not in world.lanes}
            ),
            queued=tuple(t for messages in world.waiting.values() for t in messages[:WINDOW]),
            silent=silent,
            set_aside=tuple(world.set_aside),
        )

    def _lane(self, queue: str, profile: TaskProfile) -> Lane:
        messages = self.fleet.waiting.get(queue, [])
        heads = messages[:WINDOW]
        first: dict[int, QueuedTask] = {}
        for task in messages:
            first.setdefault(priority_step(task.priority), task)
        ages = [self.fleet.now - self.fleet.put_at[task.task_id] for task in first.values()]
        return Lane(
            queue=queue,
            profile=profile,
            waiting=len(messages),
            mean_size=sum(t.size for t in heads) / len(heads) if heads else 1.0,
            oldest_s=max(ages, default=None),
            due_s=due_s((task.expires_at for task in heads), self.fleet.now),
        )

    def events(self, after: str, limit: int = 10_000, until: str = "") -> tuple[str, list[Event]]:
        start = int(after.split("-")[0]) if after else 0
        end = int(until.split("-")[0]) if until else len(self.stream)
        found = self.stream[start:min(end, start + limit)]
        return (f"{start + len(found)}-0" if found else after), found

    def tell(self, event: Event) -> None:
        """What a worker does: put an event on the stream."""
        self.stream.append(event)

    def publish_orders(self, orders: Sequence[Order], ttl_s: float) -> None:
        for order in orders:
            self.orders[order.hardware_class] = (order, self.fleet.now + ttl_s)

    def order(self, hardware_class: str) -> Order | None:
        """What a worker of this class reads now."""
        order, until = self.orders.get(hardware_class, (None, 0.0))
        return order if self.fleet.now < until else None

    def load_memory(self) -> Mapping[str, Any] | None:
        kept = None if self.memory is None else self.memory[0]
        return kept if self.since is None else {**(kept or {}), "since": self.since}

    def save_memory(self, document: Mapping[str, Any], fence: int, *, since: bool = False) -> bool:
        if self.fleet.board.holders > fence or (self.memory is not None and self.memory[1] > fence):
            return False
        if since:
            self.memory, self.since = (self.memory[0] if self.memory else {}, fence), dict(document)
        else:
            self.memory, self.since = (dict(document), fence), None
        return True


class InMemoryHandOver:
    """Twin of `RedisHandOver`. `wants` are wishes for running tasks by id with the time they end."""

    def __init__(self, fleet: InMemoryFleet,
                 control: Callable[[str, dict[str, Any]], None] | None = None) -> None:
        self.fleet = fleet
        self.requested: list[Move] = []
        self.commands: list[tuple[str, dict[str, Any]]] = []
        self._wants: dict[str, tuple[Move, float]] = {}
        self._control = control or (lambda worker, arguments: self.commands.append((worker, arguments)))

    def request(self, move: Move, timeout_s: float) -> int:
        self.requested.append(move)
        if move.kind == "running":
            self._wants[move.task_id] = (move, self.fleet.now + timeout_s)
        if move.kind == "reserved" or move.preempt:
            arguments = {"move_id": move.move_id, "task_id": move.task_id, "queue": move.target_queue}
            self._control(move.source, arguments)
        if move.kind == "queued" and move.source != move.target_queue:
            return self._move(move)
        return 0

    def want(self, task_id: str) -> Move | None:
        """The wish that a running task finds at its next checkpoint."""
        move, until = self._wants.get(task_id, (None, 0.0))
        return move if self.fleet.now < until else None

    def cancel(self, move: Move) -> None:
        wanted = self._wants.get(move.task_id)
        if wanted is not None and wanted[0].move_id == move.move_id:
            del self._wants[move.task_id]

    def return_stranded(self, queues: Sequence[str]) -> int:
        lanes = {profile.name: queue for queue, profile in self.fleet.lanes.items()}
        moved = 0
        for queue in queues:
            if is_lane(queue):
                continue
            messages = self.fleet.waiting.get(queue, [])
            for task in reversed([t for t in messages if t.home or t.profile in lanes]):
                messages.remove(task)
                self.fleet.put(replace(task, queue=task.home or lanes[task.profile]), front=True)
                moved += 1
        return moved

    def _move(self, move: Move) -> int:
        messages = self.fleet.waiting.get(move.source, [])
        if move.task_id:
            chosen = [t for t in messages if t.task_id == move.task_id][:1]
        else:
            chosen = messages[max(0, len(messages) - move.count):]
        for task in chosen:
            messages.remove(task)
            self.fleet.put(replace(task, queue=move.target_queue))
        return len(chosen)


class InMemoryLease:
    """Twin of `RedisLease`; `now` tells the time."""

    def __init__(self, holder: str = "in memory", *, ttl_s: float = 10.0, board: LeaseBoard | None = None,
                 now: Callable[[], float] = lambda: 0.0) -> None:
        self.name = holder
        self._board = board or LeaseBoard()
        self._ttl_s = ttl_s
        self._now = now

    def acquire(self) -> int | None:
        held = self.holder()
        if held is not None and held != self.name:
            return None
        if held is None:
            self._board.holder, self._board.holders = self.name, self._board.holders + 1
        self._board.until = self._now() + self._ttl_s
        return self._board.holders

    def holder(self) -> str | None:
        return self._board.holder if self._now() < self._board.until else None

    def release(self) -> None:
        if self.holder() == self.name:
            self._board.until = float("-inf")


class InMemoryLedger:
    """Twin of the DuckDB ledger: `tables` in lists. While `locked` rows wait, as they do there."""

    def __init__(self) -> None:
        self.locked = False
        self._tables: dict[str, list[Mapping[str, Any]]] = {}
        self._written: list[Mapping[str, Sequence[Mapping[str, Any]]]] = []
        self._waiting: list[Mapping[str, Sequence[Mapping[str, Any]]]] = []

    @property
    def tables(self) -> dict[str, list[Mapping[str, Any]]]:
        """Every row that was written, by table."""
        for batch in self._written:
            for table, rows in batch.items():
                self._tables.setdefault(table, []).extend(rows)
        self._written = []
        return self._tables

    def record(self, rows: Mapping[str, Sequence[Mapping[str, Any]]]) -> bool:
        self._waiting.append(rows)
        if self.locked:
            return False
        self._written, self._waiting = [*self._written, *self._waiting], []
        return True

    def close(self) -> None:
        self.record({})


class InMemoryClock:
    """A clock that moves only when it is waited on. `on_wait` is called with the new time."""

    def __init__(self, now: float = 1_000.0, on_wait: Callable[[float], None] | None = None) -> None:
        self._now = now
        self._on_wait = on_wait
        self._stopped = False

    def now(self) -> float:
        return self._now

    def wait(self, seconds: float) -> bool:
        if not self._stopped:
            self._now += max(0.0, seconds)
            if self._on_wait is not None:
                self._on_wait(self._now)
        return self._stopped

    def stop(self) -> None:
        self._stopped = True
