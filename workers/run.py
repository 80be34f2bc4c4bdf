"""One fenced run of a task's body: claim, body, commit; or the way out at a checkpoint.

Called by `BalancedTask.__call__` in the process that runs the body. Follows
`docs/moving.md`: a stale copy neither runs nor finishes.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from celery.exceptions import Ignore, Reject, Retry
from celery.utils.log import get_task_logger
from kombu import serialization
from redis.exceptions import RedisError

from balancer.adapters.redis_fence import Delivery, Fence
from balancer.model import Duplicate, HandedOver, Refused, RunFinished, RunStarted
from workers import leaving

logger = get_task_logger(__name__)

#: Pauses (s) between tries of a claim or a commit while Redis does not answer: 63 s in all,
#: about what Celery itself spends on reconnecting before a worker gives up its connection.
PATIENCE_S: Final = (0.1, 0.2, 0.5, 1, 2, 4, 8, 15, 15, 17)


@dataclass(slots=True, kw_only=True)
class Run:
    """What is known of the run that this process is in."""

    delivery: Delivery
    fence: Fence
    started: RunStarted
    size: float
    token: str = ""
    began: float = field(default_factory=time.monotonic)
    share_at_start: float | None = 0.0
    share: float | None = None

    def finished(self, outcome: str) -> RunFinished:
        """The event of this run's end; `share` is what this run did of the task."""
        whole = outcome in ("success", "failure", "stale")
        done = 1.0 if whole else self.share
        known = done is not None and self.share_at_start is not None
        return RunFinished(
            at=0.0,
            task_id=self.delivery.task_id,
            profile=self.started.profile,
            worker=self.started.worker,
            hardware_class=self.started.hardware_class,
            epoch=self.started.epoch,
            outcome=outcome,
            duration_s=time.monotonic() - self.began,
            size=self.size,
            share=max(0.0, done - self.share_at_start) if known else None,  # type: ignore[operator]
        )

    def commit(self, outcome: str, *, ends: bool = False, kept: bytes = b"") -> None:
        """Commit this run's end. Raises `RefusedDelivery` when another run owns the task."""
        delivery = self.delivery
        if not patiently(
            lambda: self.fence.commit(
                delivery.task_id,
                self.token,
                self.finished(outcome),
                self.finished("stale"),
                ends=ends,
                kept=kept,
            )
        ):
            raise leaving.RefusedDelivery("stale", self.backs_another())

    def backs_another(self) -> bool:
        """Whether the broker's entry under our tag belongs to the run that has the claim now."""
        keys = self.fence.connection.keys
        tag = self.fence.connection.client.hget(keys.fence(self.delivery.task_id), "tag")
        return bool(tag is not None and tag.decode() == self.delivery.tag)


def patiently(attempt: Callable[[], Any]) -> Any:
    """Try again while Redis does not answer; the last error is raised."""
    for pause_s in PATIENCE_S:
        try:
            return attempt()
        except RedisError as error:
            logger.warning("Redis does not answer (%s); trying again in %s s", error, pause_s)
            time.sleep(pause_s)
    return attempt()


def keep(value: Any, serializer: str, limit: int) -> bytes:
    """A return value as it is kept until the ack; empty when it cannot be or is over `limit` bytes."""
    try:
        content_type, encoding, data = serialization.dumps(value, serializer=serializer)
    except Exception:
        return b""
    text = data if isinstance(data, str) else data.decode("latin-1")
    kept = json.dumps([content_type, encoding, isinstance(data, str), text]).encode()
    return kept if len(kept) <= limit else b""


def kept_value(kept: bytes) -> Any:
    """The value that `keep` kept."""
    content_type, encoding, is_text, text = json.loads(kept)
    data = text if is_text else text.encode("latin-1")
    return serialization.loads(data, content_type, encoding, accept={content_type})


def fenced(run: Run, body: Callable[[], Any], *, serializer: str, kept_limit: int) -> Any:
    """Run `body` under the fence and return what it returns.

    Raises `RefusedDelivery` for a copy that may not run or not finish, `HandedOver` when the task
    left for another worker; what the body raises goes through once its end is committed.
    """
    delivery = run.delivery
    claim = patiently(lambda: run.fence.claim(delivery, run.started))
    if claim.verdict == "answer":
        logger.info("task %s had committed before its worker died: its kept result is used", delivery.task_id)
        run.token = claim.token
        return kept_value(claim.kept)
    if claim.verdict != "taken":
        tell_duplicate(run, claim.verdict)
        raise leaving.RefusedDelivery(claim.verdict, claim.same_tag and claim.verdict != "done")
    run.token, run.began = claim.token, time.monotonic()
    value = through(run, body)
    run.commit("success", kept=keep(value, serializer, kept_limit))
    return value


def through(run: Run, body: Callable[[], Any]) -> Any:
    """The body, with every way out of it but success told to the fence."""
    try:
        return body()
    except leaving.Leave as leave:
        leave_for(run, leave)
    except Retry:
        run.commit("retry", ends=True)
        raise
    except Reject as reject:
        if reject.requeue:
            run.fence.release(run.delivery.task_id, run.delivery.tag)
        else:
            run.commit("failure", ends=True)
        raise
    except Ignore:
        run.commit("ignored", ends=True)
        raise
    except Exception:
        run.commit("failure")
        raise
    except BaseException:
        # The process is told to end: the body has stopped, so the next delivery need not wait.
        run.fence.release(run.delivery.task_id, run.delivery.tag)
        raise
    raise AssertionError("unreachable")


def leave_for(run: Run, leave: leaving.Leave) -> None:
    """Hand the task over now that its body has stopped. Always raises."""
    delivery, fence = run.delivery, run.fence
    told = HandedOver(
        at=0.0, move_id=leave.move_id, task_id=delivery.task_id, worker=fence.worker, queue=leave.queue
    )
    answer = patiently(lambda: fence.relinquish(delivery, leave.queue, told, token=run.token))
    if answer == "moved":
        tell(run, run.finished("moved"))
        raise leaving.HandedOver(leave.move_id)
    tell(
        run,
        Refused(at=0.0, move_id=leave.move_id, task_id=delivery.task_id, worker=fence.worker, reason=answer),
    )
    if answer == "gone":
        # The broker already gave this delivery back to its queue: free the claim for that copy.
        fence.release(delivery.task_id, delivery.tag)
        raise leaving.RefusedDelivery("stale", False)
    raise leaving.RefusedDelivery("stale", run.backs_another())


def tell_duplicate(run: Run, verdict: str) -> None:
    tell(run, Duplicate(at=0.0, task_id=run.delivery.task_id, worker=run.fence.worker, reason=verdict))


def tell(run: Run, event: Any) -> None:
    """Put an event on the stream; losing one loses a statistic, so an error is only logged."""
    try:
        run.fence.tell(event)
    except RedisError as error:
        logger.warning("an event could not be told: %s", error)
