"""The broker's visibility timeout, shortened for this worker while the whole fleet has the plug-in.

Recovery does not need it: what dead workers held is found by the sets of what they held. It brings
back what those do not know, such as tasks that are not balanced on the stock transport.
"""

from __future__ import annotations

import time
from typing import Any, Final

from celery.utils.log import get_logger

from balancer import strangers
from balancer.adapters.redis_connection import Connection
from balancer.settings import Settings
from workers.beside import Beside
from workers.held import snapshot

logger = get_logger(__name__)

#: Seconds between two reads of what the last look found.
READ_EVERY_S: Final = 5.0


class Visibility:
    """Keeps one worker's timeout as short as the last look allows. Used in the report's thread."""

    def __init__(self, app: Any, connection: Connection, settings: Settings) -> None:
        self._app = app
        self._connection = connection
        self._settings = settings
        self._read_at = float("-inf")
        self._short = False
        self._warned_of = ""
        self._asking = Beside("the look for workers without the plug-in")

    def tend(self, consumer: Any) -> None:
        """After a report. Raises what Redis raises."""
        if not self._settings.visibility_timeout:
            return
        if time.monotonic() - self._read_at >= READ_EVERY_S:
            self._read_at = time.monotonic()
            # Workers take longer to answer than a report may wait.
            self._asking.run(
                strangers.look_when_due, self._app, self._connection, self._settings.heartbeat_ttl
            )
            self._judge(strangers.last_look(self._connection))
        set_timeout(consumer, self._settings.visibility_timeout if self._short else None)

    def _judge(self, look: strangers.Look | None) -> None:
        """Shorten only on a look that found nobody; say who was found, once as long as it is the same."""
        self._short = look is not None and look.clear
        sentence = "" if look is None or look.clear else look.sentence()
        if sentence and sentence != self._warned_of:
            logger.error("balancer_visibility_timeout is not applied: %s", sentence)
        self._warned_of = sentence


def timeout_of(consumer: Any) -> float | None:
    """The visibility timeout (s) by which this worker gives back what was held too long."""
    channel = getattr(consumer.task_consumer, "channel", None)
    return None if channel is None else float(channel.qos.visibility_timeout)


def set_timeout(consumer: Any, seconds: float | None) -> None:
    """Give every channel of the worker's connection this visibility timeout; `None`: the broker's own.

    kombu restores by the first channel that consumes, whichever that is.
    """
    channel = getattr(consumer.task_consumer, "channel", None)
    cycle = getattr(getattr(channel, "connection", None), "cycle", None)
    for one in snapshot(getattr(cycle, "_channels", ())):
        own = one.__dict__.setdefault("balancer_own_timeout", one.visibility_timeout)
        one.visibility_timeout = own if seconds is None else seconds
        # A cached property, read from the channel once.
        one.qos.__dict__["visibility_timeout"] = one.visibility_timeout
