"""Which queue a message came to: by its routing key, or by kombu's table of its exchange's bindings."""

from __future__ import annotations

import re
from collections.abc import Iterable

from balancer.adapters.redis_connection import Connection


def came_to(connection: Connection, exchange: str, routing_key: str) -> str | None:
    """The queue that a message of this exchange came to; `None` where none is bound for it any more."""
    if not exchange:
        return routing_key
    keys = connection.keys
    table = connection.client.smembers(f"{keys.prefix}_kombu.binding.{exchange}")
    return bound_queue(table, routing_key, keys.sep)


def bound_queue(bindings: Iterable[bytes], routing_key: str, sep: str) -> str | None:
    """The queue that a message of an exchange with these bindings (kombu's table) came to."""
    for binding in sorted(bindings):
        key, pattern, queue, *_ = [*binding.decode("utf-8", "replace").split(sep), "", ""]
        if queue and (key == routing_key or (pattern and re.match(pattern, routing_key))):
            return queue
    return None
