"""Sets aside a task that has ended one pool process after another: its client is told by its request."""

from __future__ import annotations

import time
from typing import Any

from celery.utils.log import get_logger
from redis.exceptions import RedisError

from balancer.adapters import redis_failed
from balancer.adapters.bindings import came_to
from balancer.adapters.held_message import read_held
from balancer.errors import BalancerError
from balancer.model import GivenUp
from workers.task import fence_of

logger = get_logger(__name__)


def set_aside(request: Any, reason: str) -> None:
    """Keep the message of a request that is about to fail, so that a person can send it again.

    Never raises: the client hears of the failure anyhow.
    """
    try:
        fence = fence_of(request.app)[0]
        connection, tag = fence.connection, request.delivery.tag
        raw = connection.client.hget(connection.keys.unacked, tag)
        held = read_held(tag, raw or b"")
        queue = came_to(connection, held.exchange, held.routing_key) or held.routing_key
        document = redis_failed.failed_document(
            held, queue=queue, reason=reason, history=[f"{time.time():.0f} {fence.worker}"]
        )
        redis_failed.keep(connection, request.id, document)
        fence.tell(GivenUp(at=0.0, task_id=request.id, worker=fence.worker, reason=reason))
    except (RedisError, BalancerError) as error:
        logger.warning("task %s could not be set aside for a person to see: %s", request.id, error)
