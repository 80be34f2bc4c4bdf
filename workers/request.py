"""A balanced task's request in the worker's main process: what Celery's must do otherwise.

Celery names this class through `Task.Request` and mixes its own `execute_using_pool` and
`on_success` over it, so only the methods that survive that are overridden.
"""

from __future__ import annotations

from typing import Any

from billiard.einfo import ExceptionWithTraceback
from celery.exceptions import WorkerLostError
from celery.utils.log import get_logger
from celery.worker.request import Request
from celery.worker.state import task_ready
from kombu.transport.virtual import QoS
from redis.exceptions import RedisError

from balancer.errors import BalancerError
from workers.leaving import RefusedDelivery
from workers.pulse import Pulse
from workers.task import delivery_of, fence_of

logger = get_logger(__name__)


class BalancedRequest(Request):  # type: ignore[misc]
    """One delivery of a balanced task."""

    #: Set when a reserved delivery was handed over: it must not reach the pool any more.
    handed_over = False
    acknowledged: bool = False

    @property
    def delivery(self) -> Any:
        return delivery_of(self._context)

    def revoked(self) -> bool:
        return True if self.handed_over else bool(super().revoked())

    def acknowledge(self) -> None:
        super().acknowledge()
        self._wake()

    def reject(self, requeue: bool = False) -> None:
        super().reject(requeue)
        self._wake()

    def on_failure(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> Any:
        error = exc_info.exception
        error = error.exc if isinstance(error, ExceptionWithTraceback) else error
        if isinstance(error, RefusedDelivery):
            return self._refused(error)
        if isinstance(error, WorkerLostError | SystemExit | KeyboardInterrupt):
            self._release(error)
        return super().on_failure(exc_info, send_failed_event, return_ok)

    def on_timeout(self, soft: bool, timeout: float) -> None:
        if not soft and self._owned_elsewhere():
            # This run lost its claim while it hung: its end must not be the task's.
            self._forget()
            return
        super().on_timeout(soft, timeout)

    def _refused(self, refusal: RefusedDelivery) -> None:
        """The fence refused this copy: nothing is stored, nothing is told to the client."""
        logger.info("task %s: this copy is not run to its end (%s)", self.id, refusal.verdict)
        task_ready(self)
        if refusal.same_tag:
            self._forget()
        else:
            self.acknowledge()

    def _forget(self) -> None:
        """Drop the delivery here without touching the broker's entry, which backs another copy."""
        if not self.acknowledged:
            channel = self.message.channel
            if channel is not None:
                QoS.ack(channel.qos, self.message.delivery_tag)
            self.acknowledged = True
            self._wake()

    def _release(self, error: BaseException) -> None:
        """The process that ran this is gone: the delivery that is given back may be claimed again."""
        try:
            fence_of(self.app)[0].release(self.id, self.delivery.tag)
        except (RedisError, BalancerError):
            logger.warning(
                "task %s: its claim lapses with this worker's lease (%r)", self.id, error, exc_info=True
            )

    def _owned_elsewhere(self) -> bool:
        try:
            fence = fence_of(self.app)[0]
            owner = fence.connection.client.hget(fence.connection.keys.fence(self.id), "owner")
        except (RedisError, BalancerError):
            return False
        return owner is not None and owner.decode() != fence.owner

    @staticmethod
    def _wake() -> None:
        if Pulse.current is not None:
            Pulse.current.wake()
