"""What a worker writes each second, in one round trip. Used by the worker's reporter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from balancer.adapters.redis_keys import Keys
from balancer.adapters.scripts import load_script


def publish(client: Any, keys: Keys, *, name: str, instance: str, beat: bytes, description: str | None,
            holds: str | None, renew: Sequence[str] = (), now: float) -> float:
    """Report a worker alive; returns the server's clock (s). Raises what redis-py raises.

    `beat` is `beat.pack(…)`; `description` and `holds` are documents of `documents`, `None` where
    nothing changed (send them again now and then: what was flushed or forgotten is not known any
    more). `renew` holds delivery tags, put in the broker's index with `now`, the time as kombu
    writes it (`time.time()`), where they still are.
    """
    seconds, microseconds = load_script(client, "publish")(
        [keys.alive, keys.beats, keys.workers, keys.holds, keys.unacked_index],
        [name, instance, beat, description or "", holds or "", repr(now), *renew],
    )
    return int(seconds) + int(microseconds) / 1e6
