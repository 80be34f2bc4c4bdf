"""Where a task belongs that cannot stay with the worker that holds it."""

from __future__ import annotations

from typing import Any

from balancer.adapters.served_queues import came_to
from balancer.routing import is_direct_queue
from workers.header import read_header
from workers.task import fence_of


def home_of(app: Any, request: Any) -> str:
    """The queue a task goes back to: its own lane from a direct queue, else the queue it came from.

    Empty when that cannot be found out now.
    """
    info = request.delivery_info or {}
    exchange, came = str(info.get("exchange") or ""), str(info.get("routing_key") or "")
    if not is_direct_queue(came):
        return came_to(fence_of(app)[0].connection, exchange, came) or ""
    header = read_header(request.request_dict.get("balancer"))
    return app.balancer_router.lane_again(request.task, header.profile or request.name, header.group) or ""
