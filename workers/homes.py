"""Where a task belongs: the queue it was published to, also after it has moved."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from balancer.adapters.bindings import came_to
from balancer.adapters.redis_connection import Connection
from balancer.routing import is_direct_queue, is_ours
from workers.header import Header, read_header
from workers.task import fence_of


def home_of(app: Any, request: Any) -> str:
    """The queue a task goes back to: from a direct queue the one it was published to, else the one it came
    from.

    Empty when that cannot be found out now.
    """
    exchange, came = _address(request)
    header = read_header(request.request_dict.get("balancer"))
    if header.home:
        return header.home
    if not is_direct_queue(came):
        return came_to(fence_of(app)[0].connection, exchange, came) or ""
    return app.balancer_router.lane_again(request.task, header.profile or request.name, header.group) or ""


def operators_queue(connection: Connection, request: Any, header: Header) -> str:
    """The queue of the operator's own that a task was published to; "" where it was a lane.

    Raises what Redis raises, once for each exchange and routing key.
    """
    return header.home or _operators_queue(connection, *_address(request))


@lru_cache(maxsize=1024)
def _operators_queue(connection: Connection, exchange: str, routing_key: str) -> str:
    """Where nothing is bound any more, a name that no worker serves: such a task stays where it is."""
    queue = came_to(connection, exchange, routing_key) or f"{exchange}:{routing_key}"
    return "" if is_ours(queue) else queue


def _address(request: Any) -> tuple[str, str]:
    info = request.delivery_info or {}
    return str(info.get("exchange") or ""), str(info.get("routing_key") or "")
