"""Acks on their way to Redis: they ride on the next pop, and are never forgotten.

One outbox a worker and broker, so that the acks of a connection that was lost go with the next
one. Pool threads put acks in; the event loop takes them out.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final

from celery.utils.log import get_logger

from balancer.adapters.redis_errors import refused_for_now
from workers.transport.fleet import Fleet

logger = get_logger(__name__)

#: Acks in one script.
BATCH: Final = 100

#: Pause (s) after an answer of Redis that is an error: it is full, loading, or cannot write.
PAUSE_S: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ack:
    """The end of one delivery, as the Lua part `ack` takes it. `token` is "" where no claim was taken
    with it; `refused` is "1" for a run that was refused."""

    tag: str
    task_id: str = ""
    token: str = ""
    event: str = ""
    refused: str = ""

    def arguments(self) -> tuple[str, ...]:
        """As `pop.lua` takes it."""
        return self.task_id, self.token, self.tag, self.event, self.refused


class Outbox:
    """The acks of one process that Redis has not answered yet."""

    def __init__(self) -> None:
        self._waiting: deque[Ack] = deque()
        self._tags: set[str] = set()
        #: They were refused: until then (steady clock, s) they are sent with a pop or not at all.
        self._rest_until = 0.0

    def put(self, ack: Ack) -> None:
        """From any thread."""
        self._tags.add(ack.tag)
        self._waiting.append(ack)

    def due(self) -> bool:
        """Whether acks are to be sent now."""
        return bool(self._waiting) and time.monotonic() >= self._rest_until

    def tags(self) -> set[str]:
        """Deliveries that have ended here, whatever Redis knows of it yet."""
        return set(self._tags)

    def take(self, most: int = BATCH) -> list[Ack]:
        """The next acks to send; `arrived` or `lost` says what became of them. From any thread."""
        taken: list[Ack] = []
        while len(taken) < most:
            try:
                taken.append(self._waiting.popleft())
            except IndexError:
                break
        return taken

    def arrived(self, acks: Iterable[Ack]) -> None:
        self._tags.difference_update(ack.tag for ack in acks)

    def lost(self, acks: Iterable[Ack]) -> None:
        """No answer came: they are sent again, which changes nothing where they had arrived."""
        self._waiting.extendleft(reversed(list(acks)))

    def flush(self, fleet: Fleet) -> None:
        """Send what waits, now, and forget nothing. Raises what Redis raises, unless it refuses for now."""
        while acks := self.take():
            try:
                fleet.connection.script("pop")(*flush_arguments(fleet, acks))
            except BaseException as error:
                self.lost(acks)
                if not refused_for_now(error):
                    raise
                logger.warning("Redis refuses acks for now, they are sent again: %s", error)
                self._rest_until = time.monotonic() + PAUSE_S
                return
            self.arrived(acks)


def flush_arguments(fleet: Fleet, acks: Iterable[Ack]) -> tuple[list[str], list[Any]]:
    """KEYS and ARGV of a pop that takes nothing and only acknowledges."""
    keys = fleet.connection.keys
    told = [ack.arguments() for ack in acks]
    return (
        [keys.unacked, keys.unacked_index, keys.held(fleet.instance), keys.events, keys.alive,
         keys.cancelled],
        [fleet.base, 0, "", "", fleet.instance, fleet.worker, "", 0, 0, fleet.fence_ttl_s, fleet.bell, "", "",
         keys.sep, 0, 0, len(told), *chain.from_iterable(told)],
    )


_OUTBOXES: dict[tuple[int, str, str, str], Outbox] = {}


def outbox_of(address: str, fleet: Fleet) -> Outbox:
    """The outbox of this process, or of the worker that it is, for the broker at `address`; a forked child
    has its own, empty one. What a worker holds is not for channels to acknowledge that are no worker's."""
    place = os.getpid(), address, fleet.base, fleet.instance
    return _OUTBOXES.setdefault(place, Outbox())
