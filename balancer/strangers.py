"""Workers that consume from the fleet's queues without the plug-in: found, named, and what follows.

Such a worker renews no delivery, so a short visibility timeout would have its long tasks delivered
twice. One process of the fleet asks all workers once a minute; what it found is read by the others,
and as long as nobody has asked, or somebody was found, the timeout is not shortened.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from celery import Celery

from balancer.adapters import asides
from balancer.adapters.documents import read, write
from balancer.adapters.redis_connection import Connection
from balancer.adapters.served_queues import described
from balancer.errors import StoreError
from balancer.model import SetAside
from balancer.routing import PREFIX

log = logging.getLogger("balancer")

#: Seconds between two looks of a fleet, and after which a look counts no more.
LOOK_EVERY_S: Final = 60
LOOK_COUNTS_S: Final = 200

#: Seconds that workers may take to answer.
ANSWER_S: Final = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What a look found at `at` (s): strangers by name, each with the queues of the fleet it serves."""

    at: float
    strangers: Mapping[str, tuple[str, ...]]

    @property
    def clear(self) -> bool:
        return not self.strangers

    def sentence(self) -> str:
        named = "; ".join(f"{name} ({', '.join(queues)})" for name, queues in sorted(self.strangers.items()))
        return (f"workers without celery-balancer serve the fleet's queues: {named}. They pass the fence by, "
                "and the visibility timeout stays the broker's: give them the plug-in or queues of their own")

    def asides(self) -> tuple[SetAside, ...]:
        """As a thing that a person should look at."""
        if self.clear:
            return ()
        return (SetAside(source="workers without the plug-in", reason=self.sentence()),)


def strangers_among(active: Mapping[str, Sequence[Mapping[str, Any]]], ours: Collection[str],
                    queues: Collection[str]) -> dict[str, tuple[str, ...]]:
    """Of workers by name, with the queues they consume from, those that are not `ours` but serve what
    the fleet serves. Pure."""
    found = {}
    for name, consumed in active.items():
        if name in ours:
            continue
        names = sorted({str(queue.get("name")) for queue in consumed})
        shared = tuple(queue for queue in names if queue in queues or queue.startswith(f"{PREFIX}."))
        if shared:
            found[name] = shared
    return found


def look_when_due(app: Celery, connection: Connection, heartbeat_ttl_s: float) -> Look | None:
    """Ask all workers, if nobody of the fleet did within a minute. Raises what Redis and the broker raise."""
    keys, client = connection.keys, connection.client
    if not client.set(keys.recovering("strangers"), "1", nx=True, ex=LOOK_EVERY_S):
        return None
    # A connection of its own, not one of the app's pool: a process forked later closes its copies of the
    # pool's connections, for which kombu reads the answer that this look waited for last, perhaps for ever
    # (https://github.com/celery/celery/issues/8874).
    with app.connection_for_write() as own:
        active: dict[str, Any] = app.control.inspect(timeout=ANSWER_S, connection=own).active_queues() or {}
    fleet = described(connection, heartbeat_ttl_s)
    ours = {one.name for one in fleet} | {name.decode() for name in client.hkeys(keys.workers)}
    found = Look(at=time.time(), strangers=strangers_among(active, ours, _queues(fleet)))
    client.set(keys.strangers, _document(found), ex=LOOK_COUNTS_S)
    if not found.clear:
        log.error("%s", found.sentence())
        asides.push(client, keys, found.asides(), found.at)
    return found


def last_look(connection: Connection) -> Look | None:
    """What the last look found; `None` when there was none of late, or it cannot be read."""
    raw = connection.client.get(connection.keys.strangers)
    try:
        fields = read(raw, "look for strangers") if raw is not None else {}
        return Look(at=float(fields["at"]),
                    strangers={str(name): tuple(queues) for name, queues in fields["strangers"].items()})
    except (StoreError, KeyError, TypeError, ValueError, AttributeError):
        return None


def _queues(fleet: Iterable[Any]) -> set[str]:
    return {queue for one in fleet for queue in one.queues}


def _document(look: Look) -> str:
    return write({"v": 1, "at": round(look.at, 3),
                  "strangers": {name: list(queues) for name, queues in look.strangers.items()}},
                 "look for strangers")
