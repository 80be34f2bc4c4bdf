"""The list of what could not be read, kept in Redis so that a person can look at it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from balancer.adapters.documents import write
from balancer.adapters.redis_keys import Keys
from balancer.model import SetAside

#: Entries that are kept.
KEPT: Final = 1_000

#: Characters of an unreadable document that are shown.
DETAIL_LIMIT: Final = 500


def aside(source: str, reason: str, raw: bytes | str = b"", limit: int = DETAIL_LIMIT) -> SetAside:
    """`raw` set aside, cut to `limit` characters."""
    text = raw if isinstance(raw, str) else raw[: limit + 1].decode("utf-8", "backslashreplace")
    return SetAside(source=source[:200], reason=reason[:500],
                    detail=text if len(text) <= limit else text[:limit] + "…")


class Asides:
    """Writes what was set aside, each thing once as long as it stays the same."""

    def __init__(self) -> None:
        self._told: set[SetAside] = set()

    def tell(self, client: Any, keys: Keys, asides: Sequence[SetAside], at: float) -> None:
        """Push those that were not there the last time, newest first in the list."""
        fresh = [a for a in dict.fromkeys(asides) if a not in self._told][:KEPT]
        self._told = set(asides)
        if fresh:
            push(client, keys, fresh, at)


def push(client: Any, keys: Keys, asides: Sequence[SetAside], at: float) -> None:
    """Put `asides` on the list and keep it bounded, in one round trip."""
    documents = [write({"source": a.source, "reason": a.reason, "detail": a.detail, "at": at}, "aside")
                 for a in asides]
    with client.pipeline(transaction=False) as pipe:
        pipe.lpush(keys.asides, *(d.encode("utf-8", "backslashreplace") for d in documents))
        pipe.ltrim(keys.asides, 0, KEPT - 1)
        pipe.execute()
