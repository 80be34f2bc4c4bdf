"""Tasks that were set aside because they end the workers that run them: listed, sent again, forgotten.

The hash `failed` keeps the whole message, so that nothing is lost; `balancer failed` and `balancer
resend` are its two doors. Who sets a task aside: `redis_recovery`, and a worker whose pool processes
a task took too often.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from balancer.adapters.documents import read, write
from balancer.adapters.held_message import HeldMessage, read_held
from balancer.adapters.redis_connection import Connection
from balancer.adapters.redis_fence import ABANDONED_TTL_S
from balancer.errors import StoreError


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """One entry of `failed`. `held` is `None` for what is no message; `at` is when it was set aside."""

    task_id: str
    task: str
    profile: str
    queue: str
    reason: str
    at: float
    history: tuple[str, ...]
    held: HeldMessage | None
    document: bytes


def failed_document(held: HeldMessage, *, queue: str, reason: str, history: Sequence[str]) -> str:
    """What is kept of a task that is set aside; `queue` is where it goes when it is sent again."""
    fields = {"task_id": held.task_id, "task": held.task, "profile": held.profile, "queue": queue,
              "tag": held.delivery.tag}
    return _document(fields, reason=reason, history=history, entry=held.raw)


def unread_document(tag: str, entry: bytes, instance: str) -> str:
    """What is kept of a delivery of `instance` that is no message, or that no queue is bound for."""
    return _document({"task_id": f"tag:{tag}", "tag": tag}, history=(f"held by {instance}",),
                     reason="no message that kombu writes, or no queue is bound for it", entry=entry)


def _document(fields: dict[str, Any], *, reason: str, history: Sequence[str], entry: bytes) -> str:
    try:
        kept = {"entry": entry.decode()}
    except UnicodeDecodeError:
        kept = {"entry_base64": base64.b64encode(entry).decode()}
    return write({"v": 1, **fields, "reason": reason, "at": round(time.time(), 3),
                  "history": [line for line in history if line], **kept}, "failed task")


def listed(connection: Connection) -> list[Failed]:
    """All that is set aside, oldest first."""
    found = [_read(ident.decode("utf-8", "replace"), raw)
             for ident, raw in connection.client.hgetall(connection.keys.failed).items()]
    return sorted(found, key=lambda one: one.at)


def found(connection: Connection, task_id: str) -> Failed | None:
    """One entry by its task's id."""
    raw = connection.client.hget(connection.keys.failed, task_id)
    return None if raw is None else _read(task_id, raw)


def forget(connection: Connection, task_id: str) -> bool:
    """Drop an entry for good; whether it was there."""
    connection.client.srem(connection.keys.failed_untold, task_id)
    return bool(connection.client.hdel(connection.keys.failed, task_id))


def keep(connection: Connection, task_id: str, document: str) -> None:
    """Enter a task whose client is told by the caller."""
    connection.client.hset(connection.keys.failed, task_id, document)


def untold(connection: Connection) -> list[str]:
    """Ids of set-aside tasks whose client has not been told."""
    return [raw.decode() for raw in connection.client.smembers(connection.keys.failed_untold)]


def told(connection: Connection, task_id: str) -> None:
    connection.client.srem(connection.keys.failed_untold, task_id)


def resend(connection: Connection, failed: Failed) -> bool:
    """Put a task back into its queue, behind what waits there, with all deaths forgotten.

    `False` when somebody else has sent or forgotten it meanwhile. Raises `StoreError` where it is no
    message.
    """
    held, keys = failed.held, connection.keys
    if held is None:
        raise StoreError(f"{failed.task_id} cannot be sent again: {failed.reason}")
    step = max((n for n, one in enumerate(keys.priority_steps) if one <= held.priority), default=0)
    envelope = held.moved_to(failed.queue, begun=True) if held.balanced else held.again_in(failed.queue)
    return bool(connection.script("resend")(
        [keys.failed, keys.failed_untold, keys.fence(held.task_id), keys.queue_lists(failed.queue)[step]],
        [failed.task_id, failed.document, envelope, held.delivery.next_generation(), ABANDONED_TTL_S,
         keys.ours(""), keys.sep]))


def _read(task_id: str, raw: bytes) -> Failed:
    """An entry, whatever is in it."""
    try:
        fields = read(raw, "failed task")
    except StoreError as error:
        fields = {"reason": f"its entry cannot be read: {error}"}
    entry = fields.get("entry")
    if entry is None and isinstance(fields.get("entry_base64"), str):
        entry = base64.b64decode(fields["entry_base64"]).decode("latin-1")
    try:
        held = read_held(str(fields.get("tag") or ""), str(entry or "").encode())
    except StoreError:
        held = None
    at, history = fields.get("at"), fields.get("history")
    return Failed(
        task_id=task_id, task=str(fields.get("task") or ""), profile=str(fields.get("profile") or ""),
        queue=str(fields.get("queue") or ""), reason=str(fields.get("reason") or ""),
        at=float(at) if isinstance(at, int | float) else 0.0,
        history=tuple(map(str, history)) if isinstance(history, list) else (),
        held=held if fields.get("queue") else None, document=raw,
    )


def as_plain(failed: Failed) -> dict[str, Any]:
    """An entry for programs, its message as an object."""
    return {"task_id": failed.task_id, "task": failed.task, "profile": failed.profile,
            "queue": failed.queue, "reason": failed.reason, "at": failed.at,
            "history": list(failed.history),
            "message": json.loads(json.dumps(failed.held.message)) if failed.held is not None else None}
