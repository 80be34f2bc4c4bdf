"""A balanced task's request in the worker's main process: what Celery's must do otherwise.

Celery names this class through `Task.Request` and mixes its own `execute_using_pool` and
`on_success` over it, so only the methods that survive that are overridden.
"""

from __future__ import annotations

from time import monotonic, time
from typing import Any, Final

from billiard.einfo import ExceptionInfo, ExceptionWithTraceback
from billiard.exceptions import Terminated, TimeLimitExceeded, WorkerLostError
from celery.backends.base import DisabledBackend
from celery.utils.log import get_logger
from celery.worker.request import Request
from celery.worker.state import task_ready
from kombu.transport.virtual import QoS
from redis.exceptions import RedisError

from balancer.errors import BalancerError, ProcessLostError
from workers.header import read_header
from workers.leaving import RefusedDelivery
from workers.out_of_memory import sent_where_memory_is
from workers.pulse import Pulse
from workers.receipts import STORED, BalancedQoS, Receipt, receipt_of
from workers.run import Run, delivery_of, finished_document
from workers.set_aside import set_aside
from workers.task import BalancedMixin, fence_of

logger = get_logger(__name__)

#: Losses of its process in a row, without a checkpoint between, after which a task is given up.
LOSSES: Final = 5


def commits(task: Any) -> bool:
    """Whether a run of this task has told the fence of its end; a `__call__` of its own may pass it by."""
    return type(task).__call__ is BalancedMixin.__call__


class BalancedRequest(Request):  # type: ignore[misc]
    """One delivery of a balanced task."""

    #: Set when a reserved delivery was handed over: it must not reach the pool any more.
    handed_over = False
    acknowledged: bool = False
    #: It does not end by success: what its ack ends has been told.
    _failed = False
    #: What the fence said when the hard time limit was over.
    _limit: str | None = None
    #: Celery has sent it again as a retry.
    _comes_back = False

    @property
    def delivery(self) -> Any:
        header = read_header(getattr(self._context, "balancer", None))
        return delivery_of(self._context, header, header.claim)

    def revoked(self) -> bool:
        if self.handed_over:
            # Its timer or its turn has come: Celery has taken it up again.
            task_ready(self)
            return True
        return bool(super().revoked())

    def maybe_expire(self) -> bool:
        """What has begun in time goes on, however late it arrives where it was moved to."""
        if read_header(self.request_dict.get("balancer")).begun:
            return False
        return bool(super().maybe_expire())

    def hand_over(self) -> None:
        """The message is another's from here on: free its place, and let no pool process begin it."""
        self.handed_over = True
        task_ready(self)
        self._forget()

    def acknowledge(self) -> None:
        receipt = receipt_of(self.message)
        if self._was_given_back(receipt):
            self._forget()
            return
        if receipt is not None and self._comes_back and not self._ends_as_retry(receipt):
            self._forget()
            return
        if receipt is not None and not self._failed and not self.acknowledged:
            if self._ignore_result or type(self.task.backend) is DisabledBackend:
                # Told where the ack commits the run: nothing has told of its end before.
                receipt.event = self._finished()
            elif not self.delivery_info["redelivered"] and commits(self.task):
                # Celery may take a redelivery for done by its result alone, and run nothing.
                receipt.event = STORED
        super().acknowledge()

    def reject(self, requeue: bool = False) -> None:
        if self._was_given_back(receipt_of(self.message)):
            self._forget()
        else:
            super().reject(requeue)

    def _was_given_back(self, receipt: Receipt | None) -> bool:
        """Whether this delivery was claimed and is not in this worker's hands any more: its entry in the
        broker may be another delivery's by now, under the same tag."""
        return receipt is None and not self.acknowledged and bool(self.delivery.claim)

    def on_failure(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> Any:
        self._failed = True
        if self.handed_over:
            # Its process was killed so that it leaves; the message is in another queue.
            task_ready(self)
            return None
        error = exc_info.exception
        error = error.exc if isinstance(error, ExceptionWithTraceback) else error
        if isinstance(error, RefusedDelivery):
            return self._refused(error)
        if isinstance(error, TimeLimitExceeded) and self._keeps_its_end():
            return None
        if isinstance(error, WorkerLostError | SystemExit | KeyboardInterrupt | Terminated):
            stopped = self._already_cancelled or self._already_revoked
            if not stopped and sent_where_memory_is(self, error):
                self.hand_over()
                return None
            losses = self._release(error)
            if losses >= LOSSES and not stopped and self._close() == "closed":
                exc_info, return_ok = self._lost_for_good(losses, error), False
        return super().on_failure(exc_info, send_failed_event, return_ok)

    def _success_was_stored(self) -> Any:
        """Celery acknowledges a task whose process was lost after its result was stored. The chord of such
        a task may not have heard of it yet: the next delivery tells the kept result again."""
        return False if self._context.chord else super()._success_was_stored()

    def _retry_worker_lost(self, exc: Any, exc_info: Any) -> bool:
        """As Celery's (`retry_on_worker_lost`), which acknowledges this delivery once the retry is sent."""
        self._comes_back = True
        self._comes_back = bool(super()._retry_worker_lost(exc, exc_info))
        return self._comes_back

    def _ends_as_retry(self, receipt: Receipt) -> bool:
        """Tell the fence that the task comes back: else its retry would count as a copy of what has ended."""
        fence, header = fence_of(self.app)[0], read_header(self.request_dict.get("balancer"))
        began = monotonic() - max(0.0, time() - (self.time_start or time()))
        run = Run(request=self._context, fence=fence, profile=header.profile or self.name, header=header,
                  token=receipt.token, began=began)
        try:
            return fence.commit(self.id, run.token, run.finished("retry"), run.finished("stale"), end="again",
                                generation=self.delivery.generation)
        except (RedisError, BalancerError):
            logger.warning("task %s: its retry could not be noted in its fence", self.id, exc_info=True)
            return False

    def on_timeout(self, soft: bool, timeout: float) -> None:
        self._failed = self._failed or not soft
        if soft or not self._keeps_its_end():
            super().on_timeout(soft, timeout)

    def _announce_revoked(self, reason: str, terminated: bool, signum: Any, expired: bool) -> None:
        self._failed = True
        super()._announce_revoked(reason, terminated, signum, expired)
        self._close()

    def _keeps_its_end(self) -> bool:
        """Whether a run over its hard time limit may not fail the task; then the delivery is dropped.

        Asked twice for one limit, before the pool kills the process and after; answered once.
        """
        if self._limit is None:
            self._limit = self._close() if self.task.acks_on_timeout else "closed"
            if self._limit == "elsewhere":
                # This run lost its claim while it hung.
                task_ready(self)
                self._forget()
            elif self._limit == "committed":
                # It was over in time and only its result is not stored yet: the next delivery answers.
                task_ready(self)
                self._release(TimeLimitExceeded())
                self.reject(requeue=True)
            elif not self.task.acks_on_timeout:
                self._release(TimeLimitExceeded())
        return self._limit in ("elsewhere", "committed")

    def _close(self) -> str:
        """End the task in the fence; "none" where Redis is away."""
        try:
            return fence_of(self.app)[0].close(self.delivery)
        except (RedisError, BalancerError):
            logger.warning("task %s: its end could not be noted in its fence", self.id, exc_info=True)
            return "none"

    def _lost_for_good(self, losses: int, error: BaseException) -> ExceptionInfo:
        """A task that takes its process with it each time fails, so that it ends its round."""
        reason = f"lost its process {losses} times without a checkpoint between; the last time: {error!r}"
        set_aside(self, reason)
        try:
            raise ProcessLostError(f"task {self.name}[{self.id}] {reason}") from error
        except ProcessLostError:
            return ExceptionInfo()

    def _refused(self, refusal: RefusedDelivery) -> None:
        """The fence refused this copy: nothing is stored, nothing is told to the client."""
        logger.info("task %s: this copy is not run to its end (%s)", self.id, refusal.verdict)
        task_ready(self)
        receipt = receipt_of(self.message)
        if receipt is not None and refusal.verdict != "revoked":
            # The script that ends it sees whose the entry is.
            receipt.refused = True
            self.acknowledge()
        elif refusal.verdict == "cancelled":
            self._announce_revoked("revoked", False, None, False)
        elif refusal.same_tag:
            self._forget()
        else:
            self.acknowledge()

    def _forget(self) -> None:
        """Drop the delivery here without touching the broker's entry, which backs another copy."""
        if not self.acknowledged:
            channel, tag = self.message.channel, self.message.delivery_tag
            if channel is not None and isinstance(channel.qos, BalancedQoS):
                channel.qos.drop(tag)
            elif channel is not None:
                QoS.ack(channel.qos, tag)
            self.acknowledged = True
            self._wake()

    def _finished(self) -> str:
        """The document of a run's end as its worker saw it."""
        header = read_header(self.request_dict.get("balancer"))
        return finished_document(
            task_id=self.id,
            profile=header.profile or self.name,
            worker=self.hostname,
            epoch=header.epoch,
            outcome="success",
            duration_s=max(0.0, time() - self.time_start) if self.time_start else 0.0,
            size=header.size,
            share=1.0,
            ready_at=header.ready_at(self.request_dict.get("eta")),
        )

    def _release(self, error: BaseException) -> int:
        """The process that ran this is gone: the delivery that is given back may be claimed again.

        Returns how often that happened since the task's last checkpoint.
        """
        try:
            fence = fence_of(self.app)[0]
            lost = isinstance(error, WorkerLostError | SystemExit) and not self._already_cancelled
            receipt = receipt_of(self.message)
            if receipt is not None:
                receipt.front = True
            return fence.release(self.id, self.delivery.tag, lost=lost) or 0
        except (RedisError, BalancerError):
            logger.warning(
                "task %s: its claim lapses with this worker's lease (%r)", self.id, error, exc_info=True
            )
            return 0

    @staticmethod
    def _wake() -> None:
        if Pulse.current is not None:
            Pulse.current.wake()
