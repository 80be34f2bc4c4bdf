"""What a worker writes each second, in one round trip, and what it learns by it of the fleet.

Used by the worker's reporter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from balancer.adapters.redis_keys import Keys
from balancer.adapters.scripts import load_script


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """The answer to a report: the server's clock (s), the state of the cancelled tasks, how many clients
    are to be told of tasks that were set aside, and who is gone and still holds deliveries."""

    at: float
    cancelled_revision: bytes = b""
    untold: int = 0
    dead: tuple[str, ...] = ()


def enter(client: Any, keys: Keys, instance: str) -> None:
    """Put a worker that starts on the list of the living. Raises what redis-py raises."""
    seconds, microseconds = client.time()
    client.zadd(keys.alive, {instance: seconds + microseconds / 1e6}, nx=True)


def publish(client: Any, keys: Keys, *, name: str, instance: str, beat: bytes, description: str | None,
            holds: str | None, renew: Sequence[str] = (), now: float, ttl_s: float = 10.0) -> Told:
    """Report a worker alive. Raises what redis-py raises.

    `beat` is `beat.pack(…)`; `description` and `holds` are documents of `documents`, `None` where
    nothing changed (send them again now and then: what was flushed or forgotten is not known any
    more). `renew` holds delivery tags, put in the broker's index with `now`, the time as kombu
    writes it (`time.time()`), where they still are. `ttl_s` is the age limit of a report.
    """
    seconds, microseconds, revision, untold, *dead = load_script(client, "publish")(
        [keys.alive, keys.beats, keys.workers, keys.holds, keys.unacked_index, keys.cancelled_revision,
         keys.failed_untold, keys.silence, keys.board, keys.places, keys.places_free],
        [name, instance, beat, description or "", holds or "", repr(now), keys.held(""), ttl_s, *renew],
    )
    return Told(at=int(seconds) + int(microseconds) / 1e6, cancelled_revision=bytes(revision),
                untold=int(untold), dead=tuple(one.decode() for one in dead))
