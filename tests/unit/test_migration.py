"""One move's life: every state with every event, the traps, and what holds for any sequence."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from balancer.migration import Cancel, Request, advance, advance_all, cancel, expire, settle, start
from balancer.model import (
    Duplicate,
    Event,
    HandedOver,
    MetricsTold,
    Migration,
    Move,
    MoveKind,
    Refused,
    RunFinished,
    RunStarted,
    Score,
)

AT = 1000.0


def a_move(kind: MoveKind = "running", task_id: str = "t1", move_id: str = "m1") -> Move:
    return Move(move_id=move_id, task_id=task_id, profile="p", kind=kind, source="slow@h", target="fast@h",
                target_queue="bal.worker.fast", reason="rescue", score=Score(cost=1, benefit=2), at=AT)


def handed(at: float = AT + 1, move_id: str = "m1", task_id: str = "t1") -> HandedOver:
    return HandedOver(at=at, move_id=move_id, task_id=task_id, worker="slow@h", queue="bal.worker.fast",
                      state_bytes=10)


def refused(at: float = AT + 1, move_id: str = "m1") -> Refused:
    return Refused(at=at, move_id=move_id, task_id="t1", worker="slow@h", reason="not migratable")


def began(worker: str, at: float = AT + 2, queue: str = "", task_id: str = "t1") -> RunStarted:
    return RunStarted(at=at, task_id=task_id, profile="p", worker=worker, hardware_class="cpu", epoch=1,
                      queue=queue)


def finished(worker: str, outcome: str = "success", at: float = AT + 3, task_id: str = "t1") -> RunFinished:
    return RunFinished(at=at, task_id=task_id, profile="p", worker=worker, hardware_class="cpu", epoch=1,
                       outcome=outcome, duration_s=1.0)


EVENTS: dict[str, Event] = {
    "handed over": handed(),
    "handed over, another move": handed(move_id="m0"),
    "refused": refused(),
    "refused, another move": refused(move_id="m0"),
    "began on target": began("fast@h"),
    "began from target queue": began("other@h", queue="bal.worker.fast"),
    "began on source": began("slow@h"),
    "began elsewhere": began("third@h"),
    "began on target before": began("fast@h", at=AT - 5),
    "finished on source": finished("slow@h"),
    "failed on source": finished("slow@h", "failure"),
    "finished on source before": finished("slow@h", at=AT - 0.01),
    "moved from source": finished("slow@h", "moved"),
    "retried on source": finished("slow@h", "retry"),
    "retried on source before": finished("slow@h", "retry", at=AT - 5),
    "stale on source": finished("slow@h", "stale"),
    "finished on target": finished("fast@h"),
    "moved from target before": finished("fast@h", "moved", at=AT - 5),
    "finished elsewhere": finished("third@h"),
    "moved from elsewhere": finished("third@h", "moved"),
    "duplicate": Duplicate(at=AT + 1, task_id="t1", worker="fast@h", reason="held"),
    "another task": began("fast@h", task_id="t2"),
    "metrics from outside": MetricsTold(at=AT + 1, worker="slow@h", values={"cpu": 0.5}),
}

# state and event → (state after, is the request withdrawn?)
TABLE: dict[tuple[str, str], tuple[str, bool]] = {
    ("requested", "handed over"): ("handed_over", False),
    ("requested", "handed over, another move"): ("requested", False),
    ("requested", "refused"): ("refused", False),
    ("requested", "refused, another move"): ("requested", False),
    ("requested", "began on target"): ("completed", True),
    ("requested", "began from target queue"): ("completed", True),
    ("requested", "began on source"): ("requested", False),
    ("requested", "began elsewhere"): ("refused", True),
    ("requested", "began on target before"): ("requested", False),
    ("requested", "finished on source"): ("refused", True),
    ("requested", "failed on source"): ("refused", True),
    ("requested", "finished on source before"): ("refused", True),
    ("requested", "moved from source"): ("requested", False),
    ("requested", "retried on source"): ("refused", True),
    ("requested", "retried on source before"): ("requested", False),
    ("requested", "stale on source"): ("refused", True),
    ("requested", "finished on target"): ("completed", True),
    ("requested", "moved from target before"): ("requested", False),
    ("requested", "finished elsewhere"): ("refused", True),
    ("requested", "moved from elsewhere"): ("requested", False),
    ("requested", "duplicate"): ("requested", False),
    ("requested", "another task"): ("requested", False),
    ("requested", "metrics from outside"): ("requested", False),
    ("handed_over", "metrics from outside"): ("handed_over", False),
    ("handed_over", "handed over"): ("handed_over", False),
    ("handed_over", "handed over, another move"): ("handed_over", False),
    ("handed_over", "refused"): ("handed_over", False),
    ("handed_over", "refused, another move"): ("handed_over", False),
    ("handed_over", "began on target"): ("completed", False),
    ("handed_over", "began from target queue"): ("completed", False),
    ("handed_over", "began on source"): ("refused", False),
    ("handed_over", "began elsewhere"): ("completed", False),
    ("handed_over", "began on target before"): ("handed_over", False),
    ("handed_over", "finished on source"): ("refused", False),
    ("handed_over", "failed on source"): ("refused", False),
    ("handed_over", "finished on source before"): ("refused", False),
    ("handed_over", "moved from source"): ("handed_over", False),
    ("handed_over", "retried on source"): ("handed_over", False),
    ("handed_over", "retried on source before"): ("handed_over", False),
    ("handed_over", "stale on source"): ("handed_over", False),
    ("handed_over", "finished on target"): ("completed", False),
    ("handed_over", "moved from target before"): ("handed_over", False),
    ("handed_over", "finished elsewhere"): ("completed", False),
    ("handed_over", "moved from elsewhere"): ("handed_over", False),
    ("handed_over", "duplicate"): ("handed_over", False),
    ("handed_over", "another task"): ("handed_over", False),
}


def in_state(state: str) -> Migration:
    migration, _ = start(a_move(), AT)
    if state == "handed_over":
        migration, _ = advance(migration, handed())
    return migration


def test_the_table_is_whole() -> None:
    assert set(TABLE) == {(state, name) for state in ("requested", "handed_over") for name in EVENTS}


@pytest.mark.parametrize(("state", "name"), sorted(TABLE))
def test_every_state_with_every_event(state: str, name: str) -> None:
    after, withdrawn = TABLE[state, name]
    migration, commands = advance(in_state(state), EVENTS[name])
    assert migration.state == after
    assert commands == ((Cancel(move=migration.move),) if withdrawn else ())
    assert (migration.ended_at is None) == (after in ("requested", "handed_over"))


@pytest.mark.parametrize("name", sorted(EVENTS))
@pytest.mark.parametrize("state", ["completed", "refused", "stale", "cancelled"])
def test_an_ended_move_never_changes(state: Any, name: str) -> None:
    ended = replace(in_state("handed_over"), state=state, ended_at=AT + 9)
    assert advance(ended, EVENTS[name]) == (ended, ())
    assert expire(ended, AT + 1e6, 1) == (ended, ())
    assert cancel(ended, AT, "x") == (ended, ())


def test_a_start_asks_for_the_move() -> None:
    migration, commands = start(a_move(), AT)
    assert (migration.state, migration.requested_at) == ("requested", AT)
    assert commands == (Request(move=a_move()),)


def test_a_running_move_keeps_its_times() -> None:
    migration = in_state("handed_over")
    done, _ = advance(migration, began("fast@h", at=AT + 2))
    assert (done.requested_at, done.handed_over_at, done.started_at, done.ended_at) == (
        AT, AT + 1, AT + 2, AT + 2)
    assert done.state_bytes == 10


def test_a_task_that_finishes_before_its_cancel_frees_its_slot_at_once() -> None:
    migration, _ = advance(in_state("requested"), finished("slow@h"))
    assert not migration.in_flight
    assert migration.detail == "finished"


@pytest.mark.parametrize(("moved", "state", "counted"), [(7, "completed", 7), (0, "refused", 0)])
def test_queued_work_moves_at_once(moved: int, state: str, counted: int) -> None:
    migration, _ = start(a_move("queued", task_id=""), AT)
    settled, commands = settle(migration, moved, AT + 0.01)
    assert (settled.state, settled.moved, commands) == (state, counted, ())
    assert settled.ended_at == AT + 0.01


def test_only_queued_work_is_settled_by_the_request() -> None:
    migration = in_state("requested")
    assert settle(migration, 0, AT) == (migration, ())


@pytest.mark.parametrize(("state", "now", "after", "withdrawn"), [
    ("requested", AT + 59, "requested", False),
    ("requested", AT + 60, "stale", True),
    ("requested", AT - 60, "requested", False),
    ("handed_over", AT + 60, "handed_over", False),
    ("handed_over", AT + 61, "stale", False),
])
def test_a_move_that_stands_still_is_stale(state: str, now: float, after: str, withdrawn: bool) -> None:
    migration, commands = expire(in_state(state), now, 60.0)
    assert migration.state == after
    assert bool(commands) == withdrawn


def test_a_move_is_cancelled_only_before_it_left() -> None:
    gone, commands = cancel(in_state("requested"), AT + 1, "source gone")
    assert (gone.state, gone.detail, commands) == ("cancelled", "source gone", (Cancel(move=a_move()),))
    assert cancel(in_state("handed_over"), AT + 1, "source gone") == (in_state("handed_over"), ())


def test_queued_work_without_an_id_listens_to_nobody() -> None:
    migration, _ = start(a_move("queued", task_id=""), AT)
    assert advance(migration, began("fast@h", task_id="")) == (migration, ())


def test_many_moves_take_their_own_events_in_order() -> None:
    first, second = in_state("requested"), start(a_move(task_id="t2", move_id="m2"), AT)[0]
    events: list[Event] = [handed(), finished("slow@h", task_id="t2"), began("fast@h")]
    (one, two), commands = advance_all([first, second], events)
    assert (one.state, two.state) == ("completed", "refused")
    assert commands == (Cancel(move=second.move),)


@hypothesis_settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.sampled_from(sorted(EVENTS)), max_size=12),
       st.sampled_from(["queued", "reserved", "running"]))
def test_any_sequence_ends_and_ends_once(names: list[str], kind: MoveKind) -> None:
    migration, _ = start(a_move(kind), AT)
    endings = 0
    for name in names:
        after, commands = advance(migration, EVENTS[name])
        endings += migration.in_flight and not after.in_flight
        assert not (commands and migration.state == "handed_over"), "nothing to withdraw after the hand-over"
        migration = after
    for now in (AT + 1e4, AT + 2e4):
        after, _ = expire(migration, now, 60.0)
        endings += migration.in_flight and not after.in_flight
        migration = after
    assert not migration.in_flight
    assert endings == 1
