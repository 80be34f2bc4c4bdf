"""What a worker answers: give up a reserved task, say what it holds, pass on the seed's three calls.

Remote-control commands, run on the worker's event loop. The answer to `balancer_relinquish` is an
event on the stream; the fence decides, in one script, whether the task was still to be had.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from billiard.pool import ApplyResult
from celery.utils.log import get_logger
from celery.worker.control import control_command, inspect_command
from redis.exceptions import RedisError

from balancer import api
from balancer.adapters.redis_fence import Delivery, Fence
from balancer.errors import BalancerError
from balancer.model import Refused
from workers import held
from workers.reporter import Reporter
from workers.request import BalancedRequest
from workers.task import fence_of

logger = get_logger(__name__)


@control_command(
    args=[("move_id", str), ("task_id", str), ("queue", str)], signature="<move_id> <task_id> <queue>"
)  # type: ignore[untyped-decorator]
def balancer_relinquish(state: Any, move_id: str, task_id: str, queue: str, **_: Any) -> dict[str, str]:
    """Hand a reserved task to another queue."""
    fence = fence_of(state.app)[0]
    try:
        reason = relinquish(state.consumer, held.find(state.consumer, task_id), move_id, queue)
    except (RedisError, BalancerError) as error:
        logger.warning("move %s of task %s was not made: %s", move_id, task_id, error)
        reason = f"error: {error}"
    if reason:
        fence.tell(Refused(at=0.0, move_id=move_id, task_id=task_id, worker=fence.worker, reason=reason))
        return {"refused": reason}
    return {"ok": f"task {task_id} is in {queue}"}


def relinquish(consumer: Any, request: Any, move_id: str, queue: str) -> str:
    """Give up a reserved delivery; returns why not, or "" when it is in `queue`."""
    if request is None:
        return "unknown"
    if not isinstance(request, BalancedRequest):
        return "not balanced"
    if request.acknowledged or request.handed_over:
        return "finished"
    delivery = request.delivery
    if getattr(delivery, "claim", "") and given_to_a_process(request):
        # Its body may begin at this moment, on the claim that it came with.
        return "running"
    fence = fence_of(consumer.app)[0]
    size = state_bytes(fence, delivery)
    answer = fence.relinquish(delivery, queue, move_id, token=None, state_bytes=size)
    if answer != "moved":
        return "running" if answer == "fence" else str(answer)
    held.let_go(consumer, request)
    request.hand_over()
    return ""


def given_to_a_process(request: Any) -> bool:
    """Whether a request that nobody has seen begin is with a pool process already."""
    job = request._apply_result() if request._apply_result is not None else None
    return isinstance(job, ApplyResult)


def state_bytes(fence: Fence, delivery: Delivery) -> int | None:
    """Size of the checkpoint that a waiting task takes along; one that never ran has none."""
    if not delivery.epoch and not delivery.retries:
        return None
    size = fence.connection.client.hget(fence.connection.keys.state(delivery.task_id), "size")
    return int(size) if size else None


@inspect_command()  # type: ignore[untyped-decorator]
def balancer_status(state: Any, **_: Any) -> dict[str, Any]:
    """What this worker is, follows and holds, as the balancer is told."""
    reporter = Reporter.current
    return reporter.status() if reporter is not None else {"error": "this worker does not report"}


@inspect_command()  # type: ignore[untyped-decorator]
def get_load_balancer_stats(state: Any, **_: Any) -> dict[str, Any]:
    """Statistics of the balancer and its fleet."""
    return api.get_load_balancer_stats(state.app)


@control_command(args=[("task_id", str), ("source_worker_id", str)], signature="<task_id> <source_worker_id>")  # type: ignore[untyped-decorator]
def handle_task_cancelled_for_migration(
    state: Any, task_id: str, source_worker_id: str, **_: Any
) -> dict[str, str]:
    """A task was cancelled on its worker so that it can move."""
    return _told(lambda: api.handle_task_cancelled_for_migration(state.app, task_id, source_worker_id))


@control_command(
    args=[("worker_id", str), ("metrics", json.loads)], signature="<worker_id> <metrics as JSON>"
)  # type: ignore[untyped-decorator]
def update_worker_performance(
    state: Any, worker_id: str, metrics: dict[str, Any], **_: Any
) -> dict[str, str]:
    """Metrics of a worker from outside."""
    return _told(lambda: api.update_worker_performance(state.app, worker_id, metrics))


def _told(tell: Callable[[], None]) -> dict[str, str]:
    """What a caller of a control command reads: that the balancer is told, or what is wrong."""
    try:
        tell()
    except (BalancerError, RedisError) as error:
        return {"error": str(error)}
    return {"ok": "the balancer hears it in its next turn"}
