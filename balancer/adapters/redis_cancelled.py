"""Tasks that were cancelled for good: by id, for workers that are offline now as well, and undone.

The hash `cancelled` is read by each claim, so that a cancelled task starts nowhere; a revision tells
the workers of the fleet to look through what they hold. A message that waits in a queue is taken
out with its entry, and kept there, so that an undo can put it back.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

from balancer.adapters.documents import read, write
from balancer.adapters.held_message import HeldMessage, read_queued
from balancer.adapters.message_head import END_BYTES, read_head
from balancer.adapters.redis_connection import Connection
from balancer.errors import StoreError
from balancer.routing import PREFIX

#: How long a task stays cancelled (s): a message that turns up later than this runs.
KEPT_S: Final = 90 * 86400

#: Messages read at a time, and at most in one list, while cancelled tasks are looked for.
STEP: Final = 500
LONGEST_SEARCH: Final = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancelled:
    """One entry. `held` and `list` are its message and the list it was taken out of, if it was."""

    task_id: str
    at: float
    by: str = ""
    reason: str = ""
    list: str = ""
    raw: str = ""

    @property
    def held(self) -> HeldMessage | None:
        return read_queued(self.raw.encode()) if self.raw else None

    def document(self) -> str:
        fields = {"v": 1, "at": round(self.at, 3), "by": self.by, "reason": self.reason}
        taken = {"list": self.list, "raw": self.raw} if self.raw else {}
        return write({**fields, **taken}, "cancelled task")


def enter(connection: Connection, task_ids: Iterable[str], *, by: str, reason: str) -> None:
    """From now on none of these starts anywhere; what was entered before stays as it is."""
    keys, client = connection.keys, connection.client
    forget_old(connection)
    now = time.time()
    with client.pipeline(transaction=True) as pipe:
        for task_id in task_ids:
            pipe.hsetnx(keys.cancelled, task_id,
                        Cancelled(task_id=task_id, at=now, by=by, reason=reason).document())
        pipe.incr(keys.cancelled_revision)
        pipe.execute()


def listed(connection: Connection) -> list[Cancelled]:
    """All that is cancelled, oldest first."""
    entries = connection.client.hgetall(connection.keys.cancelled)
    return sorted((_read(ident, raw) for ident, raw in entries.items()), key=lambda one: one.at)


def among(connection: Connection, task_ids: list[str]) -> list[tuple[str, str]]:
    """Those of `task_ids` that are cancelled, each with the reason."""
    raws = connection.client.hmget(connection.keys.cancelled, task_ids) if task_ids else []
    return [(task_id, _read(task_id.encode(), raw).reason)
            for task_id, raw in zip(task_ids, raws, strict=True) if raw is not None]


def take_out(connection: Connection, queues: Iterable[str],
             task_ids: Collection[str]) -> Iterator[tuple[str, HeldMessage]]:
    """Take the messages of these cancelled tasks out of queues; each with the queue it was in."""
    wanted = set(task_ids)
    script, keys = connection.script("cancel_queued"), connection.keys
    for queue in queues:
        for place in keys.queue_lists(queue):
            for raw in _messages_of(connection.client, place, wanted):
                try:
                    held = read_queued(raw)
                except StoreError:
                    continue  # a worker that takes it asks `cancelled` itself
                entry = connection.client.hget(keys.cancelled, held.task_id)
                if entry is None:
                    continue
                taken = replace(_read(held.task_id.encode(), entry), list=place, raw=raw.decode())
                if script([place, keys.cancelled], [raw, held.task_id, entry, taken.document()]):
                    yield queue, held


def our_queues(connection: Connection) -> list[str]:
    """Queues of ours that hold something, also those of workers that are long gone."""
    keys = connection.keys
    found = connection.client.scan_iter(match=f"{keys.prefix}{PREFIX}.*", count=1000, _type="list")
    names = (raw.decode("utf-8", "replace").removeprefix(keys.prefix) for raw in found)
    return sorted({name.split(keys.sep)[0] for name in names})


def undo(connection: Connection, one: Cancelled) -> bool:
    """Let a task run again; what was taken out of a queue goes to its front. `False`: it has changed."""
    keys = connection.keys
    entry = connection.client.hget(keys.cancelled, one.task_id)
    if entry is None or _read(one.task_id.encode(), entry) != one:
        return False
    return bool(connection.script("cancel_undo")(
        [keys.cancelled, keys.cancelled_revision, one.list or keys.cancelled],
        [one.task_id, entry, one.raw, keys.ours(""), keys.sep]))


def entry_of(connection: Connection, task_id: str) -> Cancelled | None:
    raw = connection.client.hget(connection.keys.cancelled, task_id)
    return None if raw is None else _read(task_id.encode(), raw)


def forget_old(connection: Connection) -> int:
    """Forget what was cancelled longer than `KEPT_S` ago; how many there were."""
    old = [one.task_id for one in listed(connection) if one.at < time.time() - KEPT_S]
    return int(connection.client.hdel(connection.keys.cancelled, *old)) if old else 0


def _messages_of(client: Any, place: str, wanted: set[str]) -> Iterator[bytes]:
    """Messages of one list that are of these tasks, the one served next first."""
    found = []
    for start in range(0, LONGEST_SEARCH, STEP):
        batch = client.lrange(place, -start - STEP, -start - 1)
        for raw in reversed(batch):
            head = read_head(raw[-END_BYTES:]) or read_head(raw)
            if head is not None and head.task_id in wanted:
                found.append(raw)
        if len(batch) < STEP:
            break
    yield from found


def _read(ident: bytes, raw: bytes) -> Cancelled:
    """An entry; one that cannot be read still cancels its task."""
    task_id = ident.decode("utf-8", "replace")
    try:
        fields = read(raw, "cancelled task")
    except StoreError:
        fields = {}
    at = fields.get("at")
    texts = {name: str(fields.get(name) or "") for name in ("by", "reason", "list", "raw")}
    return Cancelled(task_id=task_id, at=float(at) if isinstance(at, int | float) else time.time(), **texts)
