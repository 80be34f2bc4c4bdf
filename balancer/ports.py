"""Every port on one page: what the loop needs of the world, without saying who provides it.

Each has an in-memory twin in `balancer.adapters.in_memory` and a real adapter beside it; one
contract suite runs over both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from balancer.model import Event, Fleet, Move, Order, SetAside


class FleetStore(Protocol):
    """Reads the fleet and publishes what it should serve."""

    def observe(self) -> Fleet:
        """One snapshot, with what could not be read set aside. Raises `StoreError` if there is none."""

    def events(self, after: str, limit: int = 10_000, until: str = "") -> tuple[str, list[Event]]:
        """Events after the cursor `after` ("" = from the oldest kept) up to the cursor `until` ("" = to the
        newest), and the new cursor."""

    def publish_orders(self, orders: Sequence[Order], ttl_s: float) -> None:
        """Replace the orders of these classes; workers follow them until `ttl_s` has passed."""

    def load_memory(self) -> Mapping[str, Any] | None:
        """What the last turns kept, or `None`: the whole document, with what came after it under "since". An
        unreadable one is set aside, not raised."""

    def save_memory(self, document: Mapping[str, Any], fence: int, *, since: bool = False) -> bool:
        """Keep it, unless a later holder has taken the lease or has written (`False`). With `since` it is
        kept beside the whole document, and goes when that is written anew."""


class HandOver(Protocol):
    """Makes moves happen. Answers come back later as events."""

    def request(self, move: Move, timeout_s: float) -> int:
        """Ask for one move. Returns how many messages moved at once (queued), else 0."""

    def cancel(self, move: Move) -> None:
        """Take the request back where the worker has not acted on it."""

    def return_stranded(self, queues: Sequence[str]) -> int:
        """Send messages that wait in direct queues of workers that are gone back to their lanes."""


class Recovery(Protocol):
    """Gives back what dead workers held. Any worker does the same beside it."""

    def recover(self) -> tuple[SetAside, ...]:
        """Look who is gone; returns what a person should look at."""


class Lease(Protocol):
    """Only one balancer works at a time."""

    def acquire(self) -> int | None:
        """Take or renew the lease: a fence that grows with each holder, or `None` if another holds it."""

    def holder(self) -> str | None:
        """Who holds it now."""

    def release(self) -> None:
        """Give it back, if it is ours."""


class Ledger(Protocol):
    """Keeps rows for good."""

    def record(self, rows: Mapping[str, Sequence[Mapping[str, Any]]]) -> bool:
        """Append rows by table. Never raises: what cannot be written waits in memory (`False`)."""

    def close(self) -> None:
        """Write what waits, once more, and close."""


class Clock(Protocol):
    """Seconds since the epoch, and a way to wait that a test may replace."""

    def now(self) -> float: ...

    def wait(self, seconds: float) -> bool:
        """Wait; `True` when it was asked to stop meanwhile."""

    def stop(self) -> None:
        """Make the present wait and every later one return `True` at once; may come from any thread."""
