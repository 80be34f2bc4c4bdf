"""One move's life so far, as `balancer.migration` advances it and the ledger keeps it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from balancer.model.decision import Move

MigrationState = Literal["requested", "handed_over", "completed", "refused", "stale", "cancelled"]

#: States in which a move still counts against the limits.
IN_FLIGHT: Final = ("requested", "handed_over")


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """A move with the times of its steps (server clock, s); what has not happened is `None`.

    requested → handed_over (the worker gave it up) → completed (it runs on the target, or its
    message lies in the target queue for queued work); or refused, stale, cancelled.
    """

    move: Move
    state: MigrationState = "requested"
    requested_at: float = 0.0
    handed_over_at: float | None = None
    started_at: float | None = None
    ended_at: float | None = None
    detail: str = ""
    state_bytes: int | None = None
    moved: int = 0

    @property
    def in_flight(self) -> bool:
        return self.state in IN_FLIGHT

    @property
    def successful(self) -> bool:
        return self.state == "completed"
