"""What this worker holds: running and reserved tasks, and the deliveries it must keep alive.

Reads Celery's own bookkeeping, from the reporter's thread, and the fence for what only the pool
process knows (when a body began, its last checkpoint and how large that is).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any, Final

from celery.worker import state as worker_state

from balancer.adapters.redis_connection import Connection
from balancer.model import HeldTask
from workers.header import read_header

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
    def read(cls, raw: Sequence[bytes | None], now: float) -> Facts:
        """From the fence's fields; a body that has not claimed yet counts as begun `now`."""
        numbers = [_number(value) for value in raw]
        size = numbers[2]
        return cls(
            started_at=numbers[0] if numbers[0] is not None else now,
            checkpointed_at=numbers[1],
            state_bytes=None if size is None else int(size),
            share_done=numbers[3],
            share_before=numbers[4],
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


def requests(consumer: Any) -> tuple[list[Any], list[Any]]:
    """Requests whose body has been handed to the pool and begun, and those that wait."""
    active = [r for r in snapshot(worker_state.active_requests) if not r.acknowledged or r.time_start]
    running = {r.id for r in active}
    held = {r.id: r for r in (*snapshot(worker_state.requests.values()), *limited(consumer))}
    return active, [r for r in held.values() if r.id not in running and not r.acknowledged]


def tasks(connection: Connection, consumer: Any, now: float) -> tuple[list[HeldTask], list[HeldTask]]:
    """Running and reserved tasks as the balancer is told; `now` is the server's clock (s)."""
    active, waiting = requests(consumer)
    keys = connection.keys
    with connection.client.pipeline(transaction=False) as pipe:
        for request in active:
            pipe.hmget(keys.fence(request.id), FACTS)
        facts = pipe.execute() if active else []
    running = [_held(request, Facts.read(raw, now)) for request, raw in zip(active, facts, strict=True)]
    return running, [_held(request, Facts()) for request in waiting]


def _held(request: Any, facts: Facts) -> HeldTask:
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
    )
