"""What a message's `balancer` header says, whatever somebody has put there.

A header comes from outside: a broken one counts as one that says nothing, so that no message can
silence the report of the worker that holds it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from math import isfinite
from typing import Any, TypeGuard


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """The header as read. `profile` and `group` are "" when it names none, `size` 1 when it says none; `at`
    is when it was published (s); `begun` says that it goes on with what began in time: its `expires` is met;
    `home` is the queue of the operator's own that it was moved out of, "" for none.
    `claim` is the token of a claim that this worker took with the delivery, never the publisher's."""

    profile: str = ""
    group: str = ""
    size: float = 1.0
    epoch: int = 0
    claim: str = ""
    at: float | None = None
    begun: bool = False
    home: str = ""

    def ready_at(self, eta: Any) -> float | None:
        """When its task could first have begun (s): published, and its `eta` (ISO 8601 or `None`) come."""
        if self.at is None or not isinstance(eta, str):
            return self.at
        try:
            due = datetime.fromisoformat(eta)
        except ValueError:
            return self.at
        return max(self.at, (due if due.tzinfo else due.replace(tzinfo=UTC)).timestamp())


def read_header(raw: Any) -> Header:
    """The header in `raw`, the value of a message's `balancer` header or `None`."""
    if not isinstance(raw, Mapping):
        return Header()
    profile, size, epoch, claim = raw.get("profile"), raw.get("size"), raw.get("epoch"), raw.get("claim")
    group, at, home = raw.get("group"), raw.get("at"), raw.get("home")
    return Header(
        profile=profile if isinstance(profile, str) else "",
        group=group if isinstance(group, str) else "",
        size=float(size) if _is_number(size) and 0 < size < float("inf") else 1.0,
        epoch=int(epoch) if _is_number(epoch) and 0 <= epoch < 10**6 else 0,
        claim=claim if isinstance(claim, str) else "",
        at=float(at) if _is_number(at) and 0 < at < 10**12 else None,
        begun=raw.get("begun") is True,
        home=home if isinstance(home, str) else "",
    )


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)
