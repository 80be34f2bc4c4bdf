"""What becomes of a delivery whose task could not be claimed: refused copies never become requests.

`Task.Strategy` of balanced tasks, over Celery's own. A copy that is held elsewhere, stale or done was
dropped where it was taken; one that was cancelled is announced as revoked.
"""

from __future__ import annotations

from typing import Any

from celery.utils.log import get_logger
from celery.worker import state as worker_state
from celery.worker.strategy import default
from redis.exceptions import RedisError

from balancer.errors import BalancerError
from balancer.model import Duplicate
from workers.task import fence_of

logger = get_logger(__name__)


def balanced(task: Any, app: Any, consumer: Any, **options: Any) -> Any:
    """Celery's strategy for this task, for what the fence lets through."""
    receive = default(task, app, consumer, **options)

    def task_message_handler(
        message: Any, body: Any, ack: Any, reject: Any, callbacks: Any, **extra: Any
    ) -> Any:
        header = (message.headers or {}).get("balancer")
        verdict = header.get("verdict") if type(header) is dict else None
        if verdict is None:
            return receive(message, body, ack, reject, callbacks, **extra)
        task_id = message.headers["id"]
        if verdict != "cancelled":
            return _refuse(app, task_id, verdict)
        # Announced by the way a revoked task is; the id is not remembered, since a cancel may be undone.
        known = task_id in worker_state.revoked
        worker_state.revoked.add(task_id)
        try:
            return receive(message, body, ack, reject, callbacks, **extra)
        finally:
            if not known:
                worker_state.revoked.discard(task_id)

    return task_message_handler


def _refuse(app: Any, task_id: str, verdict: str) -> None:
    logger.info("task %s: this copy is not run (%s)", task_id, verdict)
    try:
        fence = fence_of(app)[0]
        fence.tell(Duplicate(at=0.0, task_id=task_id, worker=fence.worker, reason=verdict))
    except (RedisError, BalancerError) as error:
        logger.warning("an event could not be told: %s", error)
