"""Where a balancer stands between two turns: what it sees, what it keeps, what it acts through.

Records of the loop, apart from it so that the loop's file holds nothing but its steps.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

from balancer import ledger_rows
from balancer.decide.learn import learn
from balancer.decide.memory import Memory
from balancer.decide.situation import Strategy
from balancer.model import IN_FLIGHT, Decision, Event, Fleet, Migration, Move, Order, SetAside
from balancer.ports import Clock, FleetStore, HandOver, Lease, Ledger, Recovery
from balancer.settings import Settings
from balancer.state import State, fresh, from_document, migration_documents, since_document, to_document

#: Events that a new holder may have to learn again, at most about so many.
RELEARNED_MOST: Final = 20_000

#: Whose settings statistics are told by: what the fleet does now, or what this process would do.
RUNNING: Final = "the running balancer"
OWN: Final = "this app"

#: Learning needs the fleet only to tell kinds of hardware, which classes' names tell, too.
NOBODY: Final = Fleet(at=0.0)


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
    """What is known at this moment. `fence` is `None` while another balancer holds the lease; `waits_for`
    then tells which.

    `events` are the recent ones: a task may have finished before its move is written down. `changed`
    are migrations the ledger has not seen yet; `initiated` and `successful` count moves since the
    last row of metrics, `asides` is what could not be read since then. `skew_s` is how far the
    Redis server's clock is ahead of ours. `settings_from` tells an onlooker whose settings it uses, and
    `told_at` when these were told (server clock, s).
    """

    state: State
    fence: int | None = None
    waits_for: str | None = None
    fleet: Fleet | None = None
    decision: Decision | None = None
    orders: tuple[Order, ...] = ()
    events: tuple[Event, ...] = ()
    asides: tuple[SetAside, ...] = ()
    changed: tuple[Migration, ...] = ()
    skew_s: float = 0.0
    initiated: int = 0
    successful: int = 0
    settings_from: str = OWN
    told_at: float | None = None

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


class Keeper:
    """Keeps the state where the next holder of the lease finds it.

    Whole after a whole tick; after other turns only what must not be lost, as what was learned in between
    can be learned again from the events: at ten thousand workers that is a few kilobytes a second and not
    a few megabytes.
    """

    def __init__(self, store: FleetStore, settings: Settings) -> None:
        self._store = store
        self._settings = settings
        self._whole_by: int | None = None
        self._events = 0

    def load(self) -> State:
        """What the last holder kept, with what it had learned since. Raises `StoreError`."""
        document = self._store.load_memory()
        if document is None:
            return fresh(self._settings)
        kept = from_document(document, self._settings)
        memory = self._learned(kept.memory, kept.cursor) if kept.cursor else kept.memory
        return replace(kept, memory=memory, cursor="")

    def heard(self, events: int) -> None:
        """Count events that were learned from and are not in the whole document yet."""
        self._events += events

    def save(self, state: State, fence: int, *, whole: bool) -> bool:
        """Keep the state; `False` when a later holder of the lease has written. A holder's first is whole."""
        whole = whole or self._whole_by != fence or self._events > RELEARNED_MOST
        document = to_document(state) if whole else since_document(state)
        if not self._store.save_memory(document, fence, since=not whole):
            return False
        if whole:
            self._whole_by, self._events = fence, 0
        return True

    def _learned(self, memory: Memory, until: str) -> Memory:
        """`memory` after the events up to the cursor `until`."""
        while memory.cursor != until:
            cursor, events = self._store.events(memory.cursor, until=until)
            if cursor == memory.cursor:
                break  # they are no longer kept
            memory = replace(learn(memory, events, NOBODY, self._settings), cursor=cursor)
        return replace(memory, cursor=until)


def statistics(standing: Standing, settings: Settings, strategy: Strategy, decision: Decision | None,
               holder: str | None) -> dict[str, Any]:
    """The seed's metrics JSON of this moment, and beside it totals, the lease and the fleet."""
    history, fleet = standing.state.memory.history, standing.fleet
    account = standing.state.memory.account
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
        **_settings_from(standing),
        "at": fleet.at if fleet else None,
        "classes": list(fleet.classes) if fleet else [],
        "waiting": sum(lane.waiting for lane in fleet.lanes) if fleet else 0,
        "may_sleep": list(standing.state.memory.asleep),
        "groups": {name: round(by, 1) for name, by in account.ahead_s.items()} if account else {},
        "totals": {
            "initiated": history.initiated,
            "successful": history.successful,
            "success_rate": history.successful / history.initiated if history.initiated else None,
        },
        "migrations_in_flight": migration_documents(
            [m for m in standing.state.migrations if m.state in IN_FLIGHT]),
    }


def _settings_from(standing: Standing) -> dict[str, Any]:
    """Whose settings all this is told by, and how long ago they were told (s)."""
    if standing.fence is not None:
        return {"settings_from": RUNNING, "settings_age_s": 0.0}
    told, fleet = standing.told_at, standing.fleet
    return {"settings_from": standing.settings_from,
            "settings_age_s": None if told is None or fleet is None else max(0.0, fleet.at - told)}
