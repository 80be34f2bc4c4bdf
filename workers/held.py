"""What this worker holds: running and reserved tasks, and the deliveries it must keep alive.

Reads Celery's own bookkeeping, from the reporter's thread, and the fence for what only the pool
process knows (its last checkpoint and how large that is). Of a task that was claimed as it was received
this worker saw the body begin; once it has run for longer than one report, that is told the fleet.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any, Final

from celery.worker import state as worker_state
from kombu.asynchronous.timer import Entry

from balancer.adapters.documents import event_document
from balancer.adapters.redis_connection import Connection
from balancer.model import HeldTask, RunStarted
from workers import identity
from workers.header import read_header
from workers.homes import operators_queue

#: What of the fence a report tells, in the order of `Facts`.
FACTS: Final = ("started", "checkpointed", "state_bytes", "share", "share_before")


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What only the process that runs a task knows of its run; all `None` for one that waits."""

    started_at: float | None = None
    checkpointed_at: float | None = None
    state_bytes: int | None = None
    share_done: float | None = None
    share_before: float | None = None

    @classmethod
    def read(cls, raw: Sequence[bytes | None], began: float) -> Facts:
        """From the fence's fields; a body that is not told there counts as begun at `began`.

        A share that is not there says that nothing was done before, an empty one that it is unknown.
        """
        started, checkpointed, size, share, before = (_number(value) for value in raw)
        return cls(
            started_at=started if started is not None else began,
            checkpointed_at=checkpointed,
            state_bytes=None if size is None else int(size),
            share_done=0.0 if raw[3] is None else share,
            share_before=0.0 if raw[4] is None else before,
        )


def _number(raw: bytes | None) -> float | None:
    """A number of a fence; what is none counts as absent, so that it cannot silence the report."""
    try:
        value = float(raw) if raw else None
    except ValueError:
        return None
    return value if value is not None and isfinite(value) else None


def snapshot(source: Iterable[Any]) -> list[Any]:
    """A copy of a collection that another thread changes; tried again while it does."""
    for _ in range(20):
        try:
            return list(source)
        except RuntimeError:
            continue
    return []


def deliveries(consumer: Any) -> list[str]:
    """Tags of every delivery that is not acknowledged: running, reserved, ETA-held, rate-limited.

    Also of what still runs from before a lost connection, whose channel is gone with its tags.
    """
    running = [r.message.delivery_tag for r in snapshot(worker_state.active_requests) if not r.acknowledged]
    task_consumer = getattr(consumer, "task_consumer", None)
    qos = getattr(getattr(task_consumer, "channel", None), "qos", None)
    ended = set(snapshot(qos._dirty)) if qos is not None else set()
    delivered = snapshot(qos._delivered) if qos is not None else []
    return list(dict.fromkeys(str(tag) for tag in (*running, *delivered) if tag and tag not in ended))


def limited(consumer: Any) -> list[Any]:
    """Requests that wait for a token of their task's rate limit; Celery's state does not know them."""
    buckets = snapshot(getattr(consumer, "task_buckets", {}).values())
    return [
        request for bucket in buckets if bucket is not None for request, _tokens in snapshot(bucket.contents)
    ]


def find(consumer: Any, task_id: str) -> Any:
    """The request of a task that this worker holds, or `None`."""
    waiting = (request for request in limited(consumer) if request.id == task_id)
    return worker_state.requests.get(task_id) or next(waiting, None)


def let_go(consumer: Any, request: Any) -> None:
    """Wait no more for the time or the token of a request that is another worker's now: it would take up a
    place beyond the prefetch count until its time, or the token of one that is still here."""
    bucket = getattr(consumer, "task_buckets", {}).get(request.task.name)
    waiting = bucket.contents if bucket is not None else deque()
    for entry in snapshot(waiting):
        if entry[0] is request:
            waiting.remove(entry)
            return
    timed = request._eta_timer_entry
    if timed is not None and request in worker_state.scheduled_requests:
        consumer.timer.cancel(timed)
        if isinstance(timed, Entry):
            # It stays in the schedule until its time, where `inspect scheduled` would show the request.
            timed.args = ()
        consumer.qos.decrement_eventually()


def requests(consumer: Any) -> tuple[list[Any], list[Any]]:
    """Requests whose body has been handed to the pool and begun, and those that wait."""
    active = [r for r in snapshot(worker_state.active_requests) if not r.acknowledged or r.time_start]
    running = {r.id for r in active}
    held = {r.id: r for r in (*snapshot(worker_state.requests.values()), *limited(consumer))}
    return active, [r for r in held.values() if r.id not in running and not r.acknowledged]


def profiles() -> list[str]:
    """The profile of each task that this worker has received and not ended."""
    received = snapshot(worker_state.requests.values())
    return [read_header(r.request_dict.get("balancer")).profile or r.name for r in received]


def tasks(connection: Connection, consumer: Any, now: float) -> tuple[list[HeldTask], list[HeldTask]]:
    """Running and reserved tasks as the balancer is told; `now` is the server's clock (s)."""
    active, waiting = requests(consumer)
    keys = connection.keys
    begun = {request.id: _began(request, now) for request in active}
    with connection.client.pipeline(transaction=False) as pipe:
        for request in active:
            pipe.hmget(keys.fence(request.id), FACTS)
        facts = pipe.execute() if active else []
    running = []
    for request, raw in zip(active, facts, strict=True):
        if raw[0] is None:
            _tell_started(connection, request, begun[request.id])
        running.append(_held(connection, request, Facts.read(raw, begun[request.id])))
    return running, [_held(connection, request, Facts()) for request in waiting]


def _began(request: Any, now: float) -> float:
    """When this worker saw a body begin, by the server's clock (s)."""
    return now - max(0.0, time.time() - request.time_start) if request.time_start else now


def _tell_started(connection: Connection, request: Any, began: float) -> None:
    """Tell of a body that was running at the last report already, and whose claim came with its delivery.

    One that ends before is told by its end alone.
    """
    header = read_header(request.request_dict.get("balancer"))
    if not header.claim:
        return
    if not getattr(request, "balancer_seen", False):
        request.balancer_seen = True
        return
    event = RunStarted(
        at=0.0,
        task_id=request.id,
        profile=header.profile or request.name,
        worker=request.hostname,
        hardware_class=identity.hardware_class(),
        epoch=header.epoch,
    )
    keys = connection.keys
    connection.script("note_started")(
        [keys.fence(request.id), keys.events], [header.claim, f"{began:.6f}", event_document(event)]
    )


def _held(connection: Connection, request: Any, facts: Facts) -> HeldTask:
    header = read_header(request.request_dict.get("balancer"))
    info = request.delivery_info or {}
    return HeldTask(
        task_id=request.id,
        profile=header.profile or request.name,
        lane=str(info.get("routing_key") or ""),
        size=header.size,
        started_at=facts.started_at,
        checkpointed_at=facts.checkpointed_at,
        state_bytes=facts.state_bytes,
        share_done=facts.share_done,
        share_before=facts.share_before,
        priority=info.get("priority"),
        epoch=header.epoch,
        checkpoints=bool(getattr(request.task, "checkpoints", False)),
        tag=str((request.request_dict.get("properties") or {}).get("delivery_tag") or ""),
        home=operators_queue(connection, request, header),
    )
