"""Learning from runs and from moves that ended."""

from __future__ import annotations

from dataclasses import replace

import pytest

from balancer.decide.history import FORGET_AFTER_S
from balancer.decide.learn import learn, learn_migrations, standstill_s
from balancer.decide.memory import Memory, fresh
from balancer.model import Migration, MigrationState, Move, MoveKind, RunFinished, RunStarted, Score
from balancer.settings import Settings
from tests.unit.fleets import fleet

SETTINGS = Settings()


def migration(
    state: MigrationState = "completed", *, task_id: str = "t", kind: MoveKind = "running", at: float = 100.0,
    gap_s: float = 2.0, detail: str = "",
) -> Migration:
    move = Move(
        move_id=f"{task_id}@{at}", task_id=task_id, profile="p", kind=kind, source="a", target="b",
        target_queue="bal.worker.b", reason="", score=Score(cost=1, benefit=2), at=at,
    )
    done = state == "completed"
    return Migration(
        move=move, state=state, requested_at=at, handed_over_at=at + 5 if done else None,
        started_at=at + 5 + gap_s if done else None, ended_at=at + 5 + gap_s, detail=detail,
    )


def run(duration_s: float, worker: str = "cpu-0", hardware_class: str = "cpu") -> RunFinished:
    return RunFinished(
        at=1.0, task_id="t", profile="p", worker=worker, hardware_class=hardware_class, epoch=0,
        outcome="success", duration_s=duration_s,
    )


def test_runs_become_estimates() -> None:
    memory = learn(fresh(SETTINGS), [run(4.0)] * 5, fleet("cpu"), SETTINGS)
    assert memory.estimates.pairs["p", "cpu"].seconds == pytest.approx(4.0)
    assert memory.estimates.pairs["p", "cpu"].count == 5


def test_runs_become_hardware_profiles() -> None:
    events = [run(30.0)] * 20 + [run(5.0, "cuda-V100-0", "cuda-V100")] * 20
    memory = learn(fresh(SETTINGS), events, fleet("cpu cuda-V100"), SETTINGS)
    assert memory.profiles["cuda"].performance_weight > 3.0  # the table's; six times was seen
    assert memory.profiles["cuda"].observed_runs == 20


def test_other_events_teach_nothing() -> None:
    memory = fresh(SETTINGS)
    started = RunStarted(at=1, task_id="t", profile="p", worker="w", hardware_class="cpu", epoch=0)
    assert learn(memory, [started], fleet("cpu"), SETTINGS) is memory


def test_success_and_cost_are_moving_averages_that_begin_as_means() -> None:
    ended = [migration(gap_s=0.2), migration("stale"), migration(gap_s=0.4)]
    history = learn_migrations(fresh(SETTINGS), ended, SETTINGS).history
    moves = history.profiles["p"]
    assert moves.count == 3
    assert moves.success == pytest.approx(2 / 3)
    assert moves.cost_s == pytest.approx(0.2 + (0.4 - 0.2) / 3)
    assert (history.initiated, history.successful) == (3, 2)


@pytest.mark.parametrize("before", [0, 3])
def test_one_move_that_had_to_wait_hardly_counts(before: int) -> None:
    """It stood for half a minute behind something else: neither its profile nor the network is that slow."""
    waited = replace(migration(gap_s=31.0), state_bytes=10_000_000)
    history = learn_migrations(fresh(SETTINGS), [*[migration(gap_s=0.1)] * before, waited], SETTINGS).history
    assert (history.profiles["p"].cost_s or 0.0) < 2.0
    assert history.bandwidth_bytes_per_s > 5e6


def test_moves_that_always_stand_long_are_believed() -> None:
    history = learn_migrations(fresh(SETTINGS), [migration(gap_s=30.0)] * 20, SETTINGS).history
    assert history.profiles["p"].cost_s == pytest.approx(30.0, rel=0.1)


def test_bandwidth_is_learned_from_what_a_hand_over_does_not_explain() -> None:
    """Two hundred megabytes at ten a second, after hand-overs of half a second."""
    bare, laden = migration(gap_s=0.5), replace(migration(gap_s=20.5), state_bytes=200_000_000)
    history = learn_migrations(fresh(SETTINGS), [bare, *[laden] * 8], SETTINGS).history
    assert history.bandwidth_bytes_per_s == pytest.approx(10e6, rel=0.05)
    assert history.profiles["p"].cost_s == pytest.approx(0.5, abs=1.0)  # the way of the state is not in it


@pytest.mark.parametrize(
    "told", [migration("stale"), migration(), migration(kind="queued"), migration("refused")])
def test_moves_without_state_or_end_say_nothing_of_bandwidth(told: Migration) -> None:
    carrying = replace(told, state_bytes=None if told == migration() else 10**9)
    history = learn_migrations(fresh(SETTINGS), [carrying], SETTINGS).history
    assert history.bandwidth_bytes_per_s == 100e6


def test_little_state_does_not_move_the_bandwidth_far() -> None:
    small = replace(migration(gap_s=0.11), state_bytes=1_000)
    history = learn_migrations(fresh(SETTINGS), [small] * 50, SETTINGS).history
    assert history.bandwidth_bytes_per_s == pytest.approx(100e6, rel=0.4)


def test_late_moves_outweigh_early_ones() -> None:
    memory = fresh(SETTINGS)
    memory = learn_migrations(memory, [migration()] * 50, SETTINGS)
    memory = learn_migrations(memory, [migration("stale")] * 10, SETTINGS)
    assert memory.history.profiles["p"].success < 0.15


@pytest.mark.parametrize("detail", ["finished", "finished on gpu0@h"])
def test_a_task_that_finished_first_is_no_failure(detail: str) -> None:
    moot = migration("refused", detail=detail)
    history = learn_migrations(fresh(SETTINGS), [moot], SETTINGS).history
    assert "p" not in history.profiles
    assert (history.initiated, history.successful) == (1, 0)


def test_tasks_remember_where_they_left_and_how_often() -> None:
    memory = learn_migrations(fresh(SETTINGS), [migration(at=100.0)], SETTINGS)
    assert memory.history.tasks["t"].left == "a"
    memory = learn_migrations(memory, [migration("stale", at=200.0)], SETTINGS)
    moves = memory.history.tasks["t"]
    assert (moves.count, moves.last_at, moves.left) == (2, 207.0, "")


def test_tasks_are_forgotten_after_an_hour() -> None:
    memory = learn_migrations(fresh(SETTINGS), [migration(task_id="old", at=0.0)], SETTINGS)
    memory = learn_migrations(memory, [migration(task_id="new", at=FORGET_AFTER_S + 100)], SETTINGS)
    assert set(memory.history.tasks) == {"new"}


def test_what_is_in_flight_or_has_no_id_is_passed_over() -> None:
    memory: Memory = learn_migrations(fresh(SETTINGS), [migration("requested")], SETTINGS)
    assert memory.history.initiated == 0
    bulk = migration(task_id="", kind="queued")
    history = learn_migrations(memory, [bulk], SETTINGS).history
    assert dict(history.tasks) == {}
    assert history.successful == 1


def test_standstill_is_the_time_without_progress() -> None:
    assert standstill_s(migration(gap_s=3.0)) == pytest.approx(3.0)  # a running task worked until it left
    queued = migration(kind="queued", gap_s=3.0)
    assert standstill_s(queued) == pytest.approx(8.0)
    assert standstill_s(migration("stale")) is None
    assert standstill_s(replace(migration(), started_at=None, ended_at=None)) is None
