"""What this worker holds: running and reserved tasks, and the deliveries it must keep alive.

Reads Celery's own bookkeeping, from the reporter's thread, and the fence for what only the pool
process knows (when a body began, its last checkpoint and how large that is).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from celery.worker import state as worker_state

from balancer.adapters.redis_connection import Connection
from balancer.model import HeldTask


def snapshot(source: Iterable[Any]) -> list[Any]:
    """A copy of a collection that another thread changes; tried again while it does."""
    for _ in range(20):
        try:
            return list(source)
        except RuntimeError:
            continue
    return []


def deliveries(consumer: Any) -> list[str]:
    """Tags of every delivery that is not acknowledged: running, reserved, ETA-held, rate-limited."""
    task_consumer = getattr(consumer, "task_consumer", None)
    qos = getattr(getattr(task_consumer, "channel", None), "qos", None)
    if qos is None:
        return []
    ended = set(snapshot(qos._dirty))
    return [str(tag) for tag in snapshot(qos._delivered) if tag not in ended]


def requests() -> tuple[list[Any], list[Any]]:
    """Requests whose body has been handed to the pool and begun, and those that wait."""
    active = [r for r in snapshot(worker_state.active_requests) if not r.acknowledged or r.time_start]
    running = {r.id for r in active}
    waiting = [r for r in snapshot(worker_state.requests.values())
               if r.id not in running and not r.acknowledged]
    return active, waiting


def tasks(connection: Connection, now: float) -> tuple[list[HeldTask], list[HeldTask]]:
    """Running and reserved tasks as the balancer is told; `now` is the server's clock (s)."""
    active, waiting = requests()
    keys = connection.keys
    with connection.client.pipeline(transaction=False) as pipe:
        for request in active:
            pipe.hmget(keys.fence(request.id), ["started", "checkpointed", "state_bytes"])
        facts = pipe.execute() if active else []
    running = [_held(request, started=float(started or now),
                     checkpointed=_number(checkpointed, float(started or now)),
                     state_bytes=int(size) if size else None)
               for request, (started, checkpointed, size) in zip(active, facts, strict=True)]
    return running, [_held(request) for request in waiting]


def _number(raw: bytes | None, not_before: float) -> float | None:
    """A checkpoint's time; one of an earlier run of the task is not this run's."""
    value = float(raw) if raw else None
    return value if value is not None and value >= not_before else None


def _held(request: Any, *, started: float | None = None, checkpointed: float | None = None,
          state_bytes: int | None = None) -> HeldTask:
    header = request.request_dict.get("balancer") or {}
    info = request.delivery_info or {}
    return HeldTask(
        task_id=request.id,
        profile=str(header.get("profile") or request.name),
        lane=str(info.get("routing_key") or ""),
        size=float(header.get("size") or 1.0),
        started_at=started,
        checkpointed_at=checkpointed,
        state_bytes=state_bytes,
        priority=info.get("priority"),
        epoch=int(header.get("epoch") or 0),
        checkpoints=bool(getattr(request.task, "checkpoints", False)),
        tag=str((request.request_dict.get("properties") or {}).get("delivery_tag") or ""),
    )
