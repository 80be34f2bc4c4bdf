"""Where a balancer stands between two turns: what it sees, what it keeps, what it acts through.

Records of the loop, apart from it so that the loop's file holds nothing but its steps.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from balancer import ledger_rows
from balancer.decide.situation import Strategy
from balancer.model import IN_FLIGHT, Decision, Event, Fleet, Migration, Move, Order, SetAside
from balancer.ports import Clock, FleetStore, HandOver, Lease, Ledger, Recovery
from balancer.settings import Settings
from balancer.state import State, migration_documents


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """The world as the loop needs it (`balancer.ports`); without `recovery`, workers alone recover."""

    store: FleetStore
    handover: HandOver
    lease: Lease
    ledger: Ledger
    clock: Clock
    recovery: Recovery | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What is known at this moment. `fence` is `None` while another balancer holds the lease.

    `events` are the recent ones: a task may have finished before its move is written down. `changed`
    are migrations the ledger has not seen yet; `initiated` and `successful` count moves since the
    last row of metrics, `asides` is what could not be read since then. `skew_s` is how far the
    Redis server's clock is ahead of ours.
    """

    state: State
    fence: int | None = None
    fleet: Fleet | None = None
    decision: Decision | None = None
    orders: tuple[Order, ...] = ()
    events: tuple[Event, ...] = ()
    asides: tuple[SetAside, ...] = ()
    changed: tuple[Migration, ...] = ()
    skew_s: float = 0.0
    initiated: int = 0
    successful: int = 0

    @property
    def in_flight(self) -> tuple[Move, ...]:
        return tuple(m.move for m in self.state.migrations if m.in_flight)

    def migration_of(self, task_id: str) -> Migration | None:
        """The move of a task that is under way."""
        return next((m for m in self.state.migrations if m.move.task_id == task_id and task_id), None)

    def with_aside(self, *asides: SetAside) -> Standing:
        """The same, with what could not be read; once, however often it is met."""
        return replace(self, asides=tuple(dict.fromkeys((*self.asides, *asides))))


@dataclass(slots=True, kw_only=True)
class Schedule:
    """When the next whole tick is due (s); goes on when the clock is set back."""

    check_interval: float
    next_whole: float | None = None

    def whole_due(self, now: float) -> bool:
        due = self.next_whole
        return due is None or now >= due or due - now > self.check_interval

    def whole_done(self, now: float) -> None:
        self.next_whole = now + self.check_interval


def statistics(standing: Standing, settings: Settings, strategy: Strategy, decision: Decision | None,
               holder: str | None) -> dict[str, Any]:
    """The seed's metrics JSON of this moment, and beside it totals, the lease and the fleet."""
    history, fleet = standing.state.memory.history, standing.fleet
    stats: dict[str, Any] = {"worker_count": 0, "active_migrations": len(standing.in_flight)}
    if fleet is not None and decision is not None:
        rows = ledger_rows.tick_rows(decision, fleet, standing.state.migrations, settings,
                                     initiated=standing.initiated, successful=standing.successful)
        stats = dict(rows["load_balancer_metrics"][0]["metrics"])
        stats |= {"imbalance_score": decision.load.imbalance, "prediction_accuracy": decision.accuracy}
    return stats | {
        "strategy": strategy.name,
        "dry_run": settings.dry_run,
        "holder": holder,
        "works_here": standing.fence is not None,
        "at": fleet.at if fleet else None,
        "classes": list(fleet.classes) if fleet else [],
        "waiting": sum(lane.waiting for lane in fleet.lanes) if fleet else 0,
        "totals": {
            "initiated": history.initiated,
            "successful": history.successful,
            "success_rate": history.successful / history.initiated if history.initiated else None,
        },
        "migrations_in_flight": migration_documents(
            [m for m in standing.state.migrations if m.state in IN_FLIGHT]),
    }
