"""One step of recovery as every worker's reporter and every balancer takes it, each second or turn.

What dead workers held goes back to its queues, clients of tasks that were set aside are told, and
workers without the plug-in are looked for where that matters.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final

from celery import Celery
from redis.exceptions import RedisError

from balancer import strangers
from balancer.adapters.redis_connection import Connection
from balancer.adapters.redis_recovery import Recovery
from balancer.client_word import tell_set_aside
from balancer.errors import StoreError
from balancer.model import SetAside
from balancer.settings import Settings

log = logging.getLogger("balancer")

#: What one step may take (s), so that a balancer's turn does not wait longer.
STEP_S: Final = 2.0


class FleetRecovery:
    """Recovers for one fleet; `ports.Recovery`."""

    def __init__(self, app: Celery, connection: Connection, settings: Settings) -> None:
        self._app = app
        self._settings = settings
        self.deliveries = Recovery(
            connection, heartbeat_ttl_s=settings.heartbeat_ttl, deaths_limit=settings.deaths_limit,
            fence_ttl_s=settings.fence_ttl)

    def recover(self) -> tuple[SetAside, ...]:
        """Look for what is left undone, and do it; what a person should look at. Raises `StoreError`."""
        try:
            self.act(*self.deliveries.dead())
            return self._strangers()
        except (RedisError, OSError) as error:
            raise StoreError(f"no answer while dead workers were looked for: {error}") from error

    def act(self, untold: int, dead: Sequence[str]) -> int:
        """Do what a look has found. Raises what Redis raises."""
        returned = 0
        for instance in dead:
            tally = self.deliveries.recover(instance, budget_s=STEP_S / len(dead))
            returned += tally.returned
            untold += len(tally.set_aside)
            if tally:
                log.warning("worker %s is gone: %d of its deliveries are back in their queues, %d had ended, "
                            "%d are set aside%s", instance, tally.returned, tally.dropped,
                            len(tally.set_aside), f", {tally.left} still to do" if tally.left else "")
        if untold:
            self._tell_clients()
        return returned

    def _strangers(self) -> tuple[SetAside, ...]:
        """Workers without the plug-in on our queues, where a short visibility timeout is asked for."""
        if not self._settings.visibility_timeout:
            return ()
        connection, look = self.deliveries.connection, None
        try:
            look = strangers.look_when_due(self._app, connection, self._settings.heartbeat_ttl)
        except Exception as error:
            # Whatever the broker's client raises: without a look nothing is shortened.
            log.warning("workers could not be asked for their queues: %r", error)
        return look.asides() if look is not None else ()

    def _tell_clients(self) -> None:
        try:
            tell_set_aside(self._app, self.deliveries.connection)
        except Exception as error:
            # Whatever a result backend raises; they stay noted, and the next step tries again.
            log.warning("clients of tasks that were set aside are not told yet: %r", error)
