"""Looks into Redis for a person: orders as they are, one task's fence, and where a message waits.

Read-only; used by `celery balancer status` and `explain`, never by the tick.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from redis.exceptions import RedisError

from balancer.adapters.documents import read_order
from balancer.adapters.redis_connection import Connection
from balancer.errors import StoreError
from balancer.model import Order

#: Messages read at a time, and at most in one list, while a task is looked for.
STEP: Final = 500
LONGEST_SEARCH: Final = 20_000

#: Fields of a fence that say nothing to a person: the kept return value may be large and private.
PRIVATE: Final = frozenset({"value"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """Where a message waits: `ahead` of it are so many of its list (served first)."""

    queue: str
    ahead: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """The outcome of looking for a waiting message in `looked_at` of `there` messages."""

    found: Waiting | None
    looked_at: int
    there: int


def orders(connection: Connection, classes: Iterable[str]) -> dict[str, Order | None]:
    """The order that workers of each class read now; `None` where there is none, or an unreadable one."""
    found: dict[str, Order | None] = {}
    with _answering("read orders"):
        for name in classes:
            raw = connection.client.get(connection.keys.order(name))
            try:
                found[name] = read_order(raw) if raw else None
            except StoreError:
                found[name] = None
    return found


def fence(connection: Connection, task_id: str) -> dict[str, str]:
    """The fence of a task; empty when there is none. See docs/wire.md for the fields."""
    with _answering("read a fence"):
        return _texts(connection.client.hgetall(connection.keys.fence(task_id)))


def checkpoint(connection: Connection, task_id: str) -> dict[str, str]:
    """When the task last saved its state (`at`), its `size` in bytes and the `share` that was done."""
    with _answering("read a checkpoint"):
        values = connection.client.hmget(connection.keys.state(task_id), "at", "size", "share")
    return {name: value.decode() for name, value in zip(("at", "size", "share"), values, strict=True)
            if value is not None}


def wish(connection: Connection, task_id: str) -> dict[str, str]:
    """The request to leave at the next checkpoint, if there is one."""
    with _answering("read a wish"):
        return _texts(connection.client.hgetall(connection.keys.want(task_id)))


def search(connection: Connection, queues: Iterable[str], task_id: str) -> Search:
    """Look for a waiting message by its task's id, the next to be served first."""
    marks = tuple(f'"{name}": "{task_id}"'.encode() for name in ("id", "correlation_id"))
    marks = (*marks, *(mark.replace(b": ", b":") for mark in marks))
    looked_at = there = 0
    with _answering("look for a task"):
        for queue in queues:
            for key in connection.keys.queue_lists(queue):
                there += int(connection.client.llen(key))
                for place, raw in enumerate(_served(connection.client, key)):
                    looked_at += 1
                    if any(mark in raw for mark in marks):
                        found = Waiting(queue=queue, ahead=place)
                        return Search(found=found, looked_at=looked_at, there=there)
    return Search(found=None, looked_at=looked_at, there=there)


def _served(client: Any, key: str) -> Iterator[bytes]:
    """Messages of a list in the order in which they are served: from the right."""
    for start in range(0, LONGEST_SEARCH, STEP):
        batch = client.lrange(key, -start - STEP, -start - 1)
        yield from reversed(batch)
        if len(batch) < STEP:
            return


def _texts(fields: Mapping[bytes, bytes]) -> dict[str, str]:
    return {
        name.decode("utf-8", "replace"): value.decode("utf-8", "replace")
        for name, value in fields.items() if name.decode("utf-8", "replace") not in PRIVATE
    }


@contextmanager
def _answering(what: str) -> Iterator[None]:
    try:
        yield
    except (RedisError, OSError) as error:
        raise StoreError(f"Redis does not answer ({what}): {error}") from error
