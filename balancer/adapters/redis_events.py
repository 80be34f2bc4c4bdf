"""Puts an event on the fleet's stream, for processes that are no workers (`balancer.api`)."""

from __future__ import annotations

from typing import Final

from redis.exceptions import RedisError

from balancer.adapters.documents import event_document
from balancer.adapters.redis_connection import Connection
from balancer.errors import StoreError
from balancer.model import Event

#: Entries of the stream that are kept, as the workers keep them.
EVENTS_KEPT: Final = 200_000


def tell(connection: Connection, event: Event) -> None:
    """Add `event`; its time is the server's. Raises `StoreError` when Redis does not answer."""
    try:
        connection.client.xadd(connection.keys.events, {"e": event_document(event)}, maxlen=EVENTS_KEPT,
                               approximate=True)
    except (RedisError, OSError) as error:
        raise StoreError(f"Redis does not answer (tell an event): {error}") from error
