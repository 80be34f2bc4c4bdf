"""Pre-empts a running task: the worker's main process tells the pool process, and kills it at last.

`balancer_preempt` runs on the event loop. A task that has not left after `balancer_preempt_grace`
loses its process by SIGKILL, and this process hands it over from its last checkpoint.
"""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from typing import Any, Final

from celery.utils.log import get_logger
from celery.worker import state as worker_state
from celery.worker.control import control_command
from redis.exceptions import RedisError

from balancer.adapters.redis_fence import Fence
from balancer.decide.way_out import PREEMPTIBLE_POOLS
from balancer.errors import BalancerError
from balancer.model import Refused
from workers import held
from workers.declared import may_be_repeated, saves_checkpoints
from workers.handover import relinquish
from workers.interrupt import SIGNAL
from workers.request import BalancedRequest
from workers.task import fence_of

logger = get_logger(__name__)

#: Seconds between looks at a task that the pool was given and has not begun, and how many there are.
LOOK_S: Final = 0.01
LOOKS: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Preemption:
    """One move of a running task, and what it takes to make it."""

    fence: Fence
    consumer: Any
    request: Any
    move_id: str
    queue: str
    grace_s: float

    @property
    def task_id(self) -> str:
        return str(self.request.id)


@control_command(
    args=[("move_id", str), ("task_id", str), ("queue", str)], signature="<move_id> <task_id> <queue>"
)  # type: ignore[untyped-decorator]
def balancer_preempt(state: Any, move_id: str, task_id: str, queue: str, **_: Any) -> dict[str, str]:
    """Interrupt a running task that is wanted in another queue; the wish is in Redis already."""
    fence, settings = fence_of(state.app)
    request = held.find(state.consumer, task_id)
    preemption = Preemption(
        fence=fence,
        consumer=state.consumer,
        request=request,
        move_id=move_id,
        queue=queue,
        grace_s=settings.preempt_grace,
    )
    reason = preempt(preemption) if request is not None else "unknown"
    if not reason:
        return {"ok": f"task {task_id} leaves for {queue}"}
    refuse(fence, move_id, task_id, reason)
    return {"refused": reason}


def refuse(fence: Fence, move_id: str, task_id: str, reason: str) -> None:
    """Tell that a task stays, and take the wish back, so that what was told is true."""
    try:
        fence.connection.script("cancel_want")([fence.connection.keys.want(task_id)], [move_id])
        fence.tell(Refused(at=0.0, move_id=move_id, task_id=task_id, worker=fence.worker, reason=reason))
    except (RedisError, BalancerError) as error:
        logger.warning("move %s of task %s: its refusal was not told: %s", move_id, task_id, error)


def preempt(wanted: Preemption, looks: int = LOOKS) -> str:
    """Have the task leave; returns why not, or "" when it is on its way or leaves at its checkpoint."""
    request = wanted.request
    settings = fence_of(request.app)[1]
    if not isinstance(request, BalancedRequest):
        return "not balanced"
    if request.acknowledged or request.handed_over:
        return "finished"
    if not may_be_repeated(request.task, settings):
        return "not migratable"
    if request.time_start is None:
        return _not_begun(wanted, looks)
    if pool_name(wanted.consumer) not in PREEMPTIBLE_POOLS:
        return "" if saves_checkpoints(request.task, settings) else "pool cannot be pre-empted"
    try:
        os.kill(request.worker_pid, SIGNAL)
    except ProcessLookupError:
        return "finished"
    wanted.consumer.timer.call_after(wanted.grace_s, escalate, (wanted,))
    return ""


def pool_name(consumer: Any) -> str:
    """The kind of a worker's pool, as its description tells it."""
    return type(consumer.pool).__module__.rsplit(".", 1)[-1]


def _not_begun(wanted: Preemption, looks: int) -> str:
    """A task that waits is handed over as such; one that the pool was just given is looked at again."""
    try:
        reason = relinquish(wanted.consumer, wanted.request, wanted.move_id, wanted.queue)
    except (RedisError, BalancerError) as error:
        return f"error: {error}"
    if reason != "running" or not looks:
        return reason
    wanted.consumer.timer.call_after(LOOK_S, _look_again, (wanted, looks - 1))
    return ""


def _look_again(wanted: Preemption, looks: int) -> None:
    if reason := preempt(wanted, looks):
        refuse(wanted.fence, wanted.move_id, wanted.task_id, reason)


def escalate(wanted: Preemption) -> None:
    """The grace is over: kill the process of a task that has not left, and hand the task over."""
    request = wanted.request
    if request.acknowledged or request.handed_over or request.id not in worker_state.requests:
        return
    try:
        token, state_bytes = wanted_still(wanted)
        if token:
            logger.warning("task %s did not leave in %g s: its process is killed", request.id, wanted.grace_s)
            kill_and_hand_over(wanted, token, state_bytes)
    except (RedisError, BalancerError, OSError):
        logger.exception("task %s could not be pre-empted", request.id)


def wanted_still(wanted: Preemption) -> tuple[str, int | None]:
    """As `standing`; the token is "" also when the task need not leave any more."""
    connection = wanted.fence.connection
    move_id = connection.client.hget(connection.keys.want(wanted.task_id), "move")
    return standing(wanted) if move_id == wanted.move_id.encode() else ("", None)


def standing(wanted: Preemption) -> tuple[str, int | None]:
    """The token of the run under way and the size of its checkpoint (bytes); the token is "" when it has
    ended or left."""
    keys, client = wanted.fence.connection.keys, wanted.fence.connection.client
    with client.pipeline(transaction=True) as pipe:
        pipe.hmget(keys.fence(wanted.task_id), ["claim", "state", "owner", "tag"])
        pipe.hget(keys.state(wanted.task_id), "size")
        (claim, state, owner, tag), size = pipe.execute()
    if state != b"run" or owner != wanted.fence.owner.encode() or tag != wanted.request.delivery.tag.encode():
        return "", None
    return (claim or b"").decode(), int(size) if size else None


def kill_and_hand_over(wanted: Preemption, token: str, state_bytes: int | None = None) -> str:
    """End the body by ending its process, then give the task away; returns the fence's answer.

    What the process had on its way to Redis, a commit say, comes before or after: the fence takes one.
    """
    request, fence = wanted.request, wanted.fence
    # Not through the pool, which would call a job that it ended itself revoked.
    os.kill(request.worker_pid, signal.SIGKILL)
    answer = fence.relinquish(
        request.delivery, wanted.queue, wanted.move_id, token=token, state_bytes=state_bytes
    )
    if answer == "moved":
        request.hand_over()
    else:
        refuse(fence, wanted.move_id, request.id, answer)
    return answer
