"""What a worker does for the fleet after each of its reports, in the report's thread.

Gives back what dead workers held, tells clients of tasks that were set aside, ends what it holds of
tasks that were cancelled for good, and keeps the visibility timeout.
"""

from __future__ import annotations

import time
from typing import Any

from celery.concurrency.base import BasePool
from celery.utils.log import get_logger
from celery.worker import state as worker_state

from balancer.adapters import redis_cancelled
from balancer.adapters.redis_beats import Told
from balancer.adapters.redis_connection import Connection
from balancer.adapters.redis_stray import return_strays
from balancer.recovery import FleetRecovery
from balancer.settings import Settings
from workers import held
from workers.beside import Beside
from workers.out_of_memory import MemoryWatch
from workers.pulse import Pulse
from workers.visibility import Visibility

logger = get_logger(__name__)


class Errands:
    """The errands of one worker."""

    def __init__(self, consumer: Any, connection: Connection, settings: Settings) -> None:
        self._consumer = consumer
        self._recovery = FleetRecovery(consumer.app, connection, settings)
        self._recovering = Beside("recovery")
        self._visibility = Visibility(consumer.app, connection, settings)
        self._revision = b""
        self._settings = settings
        #: When this worker looks for messages to workers that are gone (steady clock, s); not at once,
        #: since the others of a fleet that starts have not reported yet.
        self._next_look = time.monotonic() + settings.heartbeat_ttl
        MemoryWatch.current = self._memory = MemoryWatch()

    @property
    def _connection(self) -> Connection:
        return self._recovery.deliveries.connection

    def run(self, told: Told) -> None:
        """After one report. Raises what Redis raises: the next report tries again."""
        self._memory.note()
        if told.cancelled_revision != self._revision:
            self._end_cancelled()
            self._revision = told.cancelled_revision
        if told.dead or told.untold:
            self._recovering.run(self._recovery.act, told.untold, told.dead)
        self._look_for_strays()
        self._visibility.tend(self._consumer)

    def _look_for_strays(self) -> None:
        """What lies in direct queues of workers that are gone; one worker of the fleet looks at a time."""
        if time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + self._settings.heartbeat_ttl / 2
        if returned := return_strays(self._connection, self._settings.heartbeat_ttl):
            logger.warning("%d messages for workers that are gone are back in their lanes", returned)

    def _end_cancelled(self) -> None:
        """Have the event loop end what is held of tasks that were cancelled."""
        active, waiting = held.requests(self._consumer)
        for task_id, reason in redis_cancelled.among(self._connection, [r.id for r in (*active, *waiting)]):
            self._consumer.call_soon(end_cancelled, self._consumer, task_id, reason)
        if Pulse.current is not None:
            Pulse.current.wake()


def end_cancelled(consumer: Any, task_id: str, reason: str) -> None:
    """End a task that this worker holds, as `revoke(terminate=True)` would. On the event loop.

    Where the pool cannot stop a body, its end is refused by the fence and the client told now.
    """
    request = held.find(consumer, task_id)
    if request is None or request.acknowledged:
        return
    logger.info("task %s was cancelled: %s", task_id, reason or "no reason was given")
    # Prefork has it from its pool's instance, so that its class does not tell.
    stops = getattr(consumer.pool.terminate_job, "__func__", None) is not BasePool.terminate_job
    if stops and request in worker_state.active_requests:
        request.terminate(consumer.pool)
        return
    request._announce_revoked(reason or "cancelled", False, None, False)
    if hasattr(request, "handed_over"):
        # Its timer or its turn comes all the same: then it is dropped, as what was handed over is.
        request.handed_over = True
    if stops:
        # Should it be on its way to a pool process already, that ends when it accepts the task.
        request._terminate_on_ack = consumer.pool, None
