"""One move's life as a pure state machine: events of workers in, commands to the hand-over out.

Sits between deciding and acting: the loop writes a migration down, then sends its commands, then
feeds it what workers answer. A migration that has ended never changes again.

    requested ──HandedOver──► handed_over ──RunStarted/RunFinished on the target──► completed
        │  └─ RunStarted/RunFinished on the target (the answer was late) ─────────► completed
        │  └─ queued work: the hand-over moves it at once ────────────────────────► completed
        ├──Refused, or the task finished or left by itself ► refused
        ├──source gone, balancer told to ► cancelled
        └──nobody answered in time ► stale        (handed_over that nobody started: stale, too)
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import dataclass, replace
from typing import Final

from balancer.model import (
    Event,
    HandedOver,
    MetricsTold,
    Migration,
    MigrationState,
    Move,
    Refused,
    RunFinished,
    RunStarted,
)
from balancer.routing import direct_queue

#: Outcomes after which a task will not run again under its id. ("retry" and "moved" come back,
#: "stale" was a copy that another worker had overtaken.)
FINAL_OUTCOMES: Final = frozenset({"success", "failure", "ignored"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Ask the world for this move."""

    move: Move


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancel:
    """Take the request back where nobody has acted on it, so that a late worker does not."""

    move: Move


Command = Request | Cancel
Step = tuple[Migration, tuple[Command, ...]]


def start(move: Move, at: float) -> Step:
    """A new migration, and the request to send once it is written down."""
    return Migration(move=move, state="requested", requested_at=at), (Request(move=move),)


def settle(migration: Migration, moved: int, at: float) -> Step:
    """What the hand-over answered to the request: queued work has moved by now, or was not there.

    Reserved and running tasks are answered by events; for them this changes nothing.
    """
    if not migration.in_flight or migration.move.kind != "queued":
        return migration, ()
    if moved <= 0:
        return _end(migration, "refused", at, "no longer queued")
    ended, commands = _end(migration, "completed", at)
    return replace(ended, handed_over_at=at, moved=moved), commands


def advance(migration: Migration, event: Event) -> Step:
    """The migration after one event. Events of other tasks and other moves change nothing.

    An answer with another move's id is stale and dropped; a run that began or ended before the
    move was decided says nothing about it, except that a task which has finished will not come.
    """
    if not migration.in_flight or not _about(event) or _about(event) != migration.move.task_id:
        return migration, ()
    if isinstance(event, HandedOver) and event.move_id == migration.move.move_id:
        return _handed_over(migration, event)
    if isinstance(event, Refused) and event.move_id == migration.move.move_id:
        # After the hand-over a refusal can only answer a second copy of the same request.
        return (migration, ()) if migration.state == "handed_over" else _end(
            migration, "refused", event.at, event.reason)
    if isinstance(event, RunStarted) and event.at >= migration.requested_at:
        return _run_started(migration, event)
    if isinstance(event, RunFinished):
        return _run_finished(migration, event)
    return migration, ()


def expire(migration: Migration, now: float, timeout: float) -> Step:
    """Ends a move that stood still for `timeout` seconds, so that it frees its slot.

    Of a task that was handed over the message is safe in the target's queue; what ends is the
    waiting for it.
    """
    if migration.state == "requested" and now - migration.requested_at >= timeout:
        return _end(migration, "stale", now, f"no answer in {timeout:g} s", cancel=True)
    since = migration.handed_over_at
    if migration.state == "handed_over" and since is not None and now - since >= timeout:
        return _end(migration, "stale", now, f"handed over, not started in {timeout:g} s")
    return migration, ()


def cancel(migration: Migration, at: float, reason: str) -> Step:
    """Gives up a move that nobody has acted on; after the hand-over it is too late for that."""
    if migration.state != "requested":
        return migration, ()
    return _end(migration, "cancelled", at, reason, cancel=True)


def advance_all(migrations: Iterable[Migration],
                events: Iterable[Event]) -> tuple[tuple[Migration, ...], tuple[Command, ...]]:
    """Every migration after all events in their order, and the commands that follow."""
    by_task: dict[str, list[Event]] = {}
    for event in events:
        by_task.setdefault(_about(event), []).append(event)
    advanced: list[Migration] = []
    commands: list[Command] = []
    for migration in migrations:
        for event in by_task.get(migration.move.task_id, ()):
            migration, more = advance(migration, event)
            commands.extend(more)
        advanced.append(migration)
    return tuple(advanced), tuple(commands)


def follow(migrations: Iterable[Migration], events: Iterable[Event], *, now: float, timeout: float,
           alive: Container[str]) -> tuple[tuple[Migration, ...], tuple[Command, ...]]:
    """One turn in the life of all moves under way: their events, then those that cannot happen any
    more (`alive` lacks a worker of theirs), then those that stood still too long."""
    advanced, commands = advance_all(migrations, events)
    followed: list[Migration] = []
    for migration in advanced:
        migration, withdrawn = _without_gone(migration, now, alive)
        migration, expired = expire(migration, now, timeout)
        commands = (*commands, *withdrawn, *expired)
        followed.append(migration)
    return tuple(followed), commands


def _about(event: Event) -> str:
    """The task an event tells of; empty when it tells of none."""
    return "" if isinstance(event, MetricsTold) else event.task_id


def _without_gone(migration: Migration, now: float, alive: Container[str]) -> Step:
    move = migration.move
    if move.kind == "queued":
        return migration, ()
    if move.source not in alive:
        return cancel(migration, now, f"source {move.source} is gone")
    if move.target not in alive and move.target_queue == direct_queue(move.target):
        return cancel(migration, now, f"target {move.target} is gone")
    return migration, ()


def _handed_over(migration: Migration, event: HandedOver) -> Step:
    if migration.state == "handed_over":
        return migration, ()
    return replace(migration, state="handed_over", handed_over_at=event.at, state_bytes=event.state_bytes,
                   moved=1), ()


def _reached(migration: Migration, worker: str, queue: str = "") -> bool:
    """Whether a run shows that the task came where it was sent: that worker, or another on that queue."""
    return worker == migration.move.target or (queue != "" and queue == migration.move.target_queue)


def _run_started(migration: Migration, event: RunStarted) -> Step:
    move, withdraw = migration.move, migration.state == "requested"
    if _reached(migration, event.worker, event.queue):
        # It cannot run there without having been handed over: the answer is only late or lost.
        return _completed(migration, event.at, event.at, withdraw=withdraw)
    if event.worker == move.source:
        if migration.state == "requested":
            return migration, ()  # a reserved task that began meanwhile: its worker will answer
        return _end(migration, "refused", event.at, f"came back to {move.source}")
    if migration.state == "handed_over":
        return _completed(migration, event.at, event.at, detail=f"runs on {event.worker}")
    return _end(migration, "refused", event.at, f"runs on {event.worker}", cancel=True)


def _run_finished(migration: Migration, event: RunFinished) -> Step:
    move, withdraw = migration.move, migration.state == "requested"
    final, before = event.outcome in FINAL_OUTCOMES, event.at < migration.requested_at
    if event.worker == move.source:
        if migration.state == "handed_over":
            # Its commit was taken although the task was given up: then it was back there.
            return _end(migration, "refused", event.at, f"came back to {move.source}") if final else (
                migration, ())
        if final:
            return _end(migration, "refused", event.at, "finished", cancel=True)
        if event.outcome == "moved" or before:
            return migration, ()
        return _end(migration, "refused", event.at, event.outcome, cancel=True)
    if before and not final:
        return migration, ()
    if _reached(migration, event.worker):
        began = max(migration.requested_at, event.at - max(0.0, event.duration_s))
        return _completed(migration, event.at, began, withdraw=withdraw)
    if not final:
        return migration, ()
    if migration.state == "handed_over":
        return _completed(migration, event.at, None, detail=f"ran on {event.worker}")
    return _end(migration, "refused", event.at, f"finished on {event.worker}", cancel=True)


def _completed(migration: Migration, at: float, started_at: float | None, *, detail: str = "",
               withdraw: bool = False) -> Step:
    ended, commands = _end(migration, "completed", at, detail, cancel=withdraw)
    return replace(ended, started_at=started_at, moved=max(1, migration.moved)), commands


def _end(migration: Migration, state: MigrationState, at: float, detail: str = "", *,
         cancel: bool = False) -> Step:
    commands: tuple[Command, ...] = (Cancel(move=migration.move),) if cancel else ()
    return replace(migration, state=state, ended_at=at, detail=detail), commands
