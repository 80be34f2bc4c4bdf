"""The traps in the seed's own text and pseudocode that lie in deciding, one test each.

Those of the ledger, of the store and of a move's life are tested beside what they concern.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from balancer.decide import engine
from balancer.decide.foreseen import SYSTEM
from balancer.decide.history import MoveHistory, TaskMoves
from balancer.decide.learn import learn_migrations
from balancer.decide.load import utilisation
from balancer.decide.memory import Memory, fresh
from balancer.decide.plan import admit, move_id
from balancer.decide.situation import Situation, Suggestions
from balancer.decide.strategies.adaptive import Adaptive
from balancer.decide.strategies.fixed import Fixed
from balancer.decide.thresholds import initial, literal, tempered
from balancer.model import Decision, Fleet, Migration, Move, MoveKind, Needs, Reading, Score, Worker
from balancer.routing import can_run, class_queue, direct_queue
from balancer.settings import Settings
from tests.unit.fleets import NOW, hardware, held, known, lane, situation, worker
from tests.unit.test_trend import records

#: The seed's own: one bad sample triggers, and its thresholds stay where they are put.
LITERAL = Settings(trip_samples=1, clear_samples=1, enable_dynamic_thresholds=False)


def fleet(*loads: float, at: float = NOW) -> Fleet:
    """CPU workers of these loads; the first runs a task that may move."""
    running = (held("t", "p", ran_s=1.0),)
    made = [worker("cpu", i, load=v, slots=2, running=() if i else running) for i, v in enumerate(loads)]
    return Fleet(at=at, workers=tuple(made), lanes=(lane("p"),))


def ticks(loads: Sequence[Sequence[float]], settings: Settings = LITERAL) -> tuple[Memory, list[Decision]]:
    memory, decisions = fresh(settings), []
    for place, values in enumerate(loads):
        there = fleet(*values, at=NOW + 30.0 * place)
        memory, decision = engine.decide(memory, there, settings, Adaptive(), ())
        decisions.append(decision)
    return memory, decisions


def to(target: str, task: str, *, source: str = "cpu-0", kind: MoveKind = "running") -> Move:
    return Move(
        move_id=move_id(task, NOW), task_id=task, profile="p", kind=kind, source=source, target=target,
        target_queue=direct_queue(target), reason="", score=Score(cost=1, benefit=2), at=NOW,
    )


def test_accuracy_is_computed_because_forecasts_are_kept_until_they_are_due() -> None:
    _, decisions = ticks([[0.5, 0.4]] * 12)
    assert all(d.accuracy is None for d in decisions[:9])  # the first of tick 3 is due at tick 9
    assert [d.judged[0].forecast.made_at for d in decisions[9:]] == [NOW + 90, NOW + 120, NOW + 150]
    assert decisions[-1].accuracy == pytest.approx(1.0)


def test_confidence_is_about_the_interval_and_not_r_squared() -> None:
    noise = np.random.default_rng(3).normal(0, 0.02, 10)
    flat = [0.6 + float(v) for v in noise]
    r_squared = float(np.corrcoef(range(10), flat)[0, 1] ** 2)
    assert r_squared < 0.2  # what the seed's measure would say of a load that anybody can foresee
    _, decisions = ticks([[v, v] for v in flat])
    (system,) = (f for f in decisions[-1].forecasts if f.subject == SYSTEM)
    assert system.confidence > 0.9


@pytest.mark.parametrize(("load", "end"), [(0.4, (0.95, 0.10)), (0.8, (0.70, 0.40))])
def test_thresholds_that_run_away_and_stay_do_so_only_under_the_literal_rule(
    load: float, end: tuple[float, float]
) -> None:
    settings, history = Settings(), records(*[load] * 6, *[0.5] * 12)
    literally = tempering = initial(settings)
    for place in range(len(history)):
        literally = literal(literally, history[: place + 1], settings)
        tempering = tempered(tempering, history[: place + 1], settings)
        if place == 4:
            assert (literally.high, literally.low) == pytest.approx(end)
    # An ordinary load does not bring the literal ones back.
    assert (literally.high, literally.low) == pytest.approx((0.95, 0.10))
    assert (tempering.high, tempering.low) == pytest.approx((0.85, 0.20), abs=0.001)


def test_a_foreseen_imbalance_is_acted_upon() -> None:
    _, decisions = ticks([[0.50 + 0.03 * i, 0.25 - 0.01 * i] for i in range(9)])
    acted = [d for d in decisions if d.moves]
    assert acted
    assert acted[0].imbalance is not None
    assert acted[0].imbalance.kind == "predicted"
    assert acted[0].load.imbalance < acted[0].imbalance.score
    assert all(move.proactive for move in acted[0].moves)


def test_twenty_moves_do_not_go_to_one_target() -> None:
    workers = (worker("cpu", 0, load=0.95), *(worker("cpu", i, load=0.05) for i in range(1, 6)))
    now = situation(Fleet(at=NOW, workers=workers, lanes=(lane("p"),)))
    twenty = [to("cpu-1", f"q{i}", source=class_queue("cpu"), kind="queued") for i in range(20)]
    made, refused = admit(Suggestions(moves=tuple(twenty)), now)
    assert len(made) == 1
    assert [r.reason for r in refused] == ["no idle slot"] * 19


def test_a_cap_of_two_lets_two() -> None:
    busy = [worker("cpu", i, load=0.95, running=(held(f"t{i}", "p", ran_s=1),)) for i in range(3)]
    idle = [worker("cpu", i, load=0.05) for i in range(3, 6)]
    now = situation(Fleet(at=NOW, workers=(*busy, *idle), lanes=(lane("p"),)))
    moves = [to(f"cpu-{i + 3}", f"t{i}", source=f"cpu-{i}") for i in range(3)]
    assert len(admit(Suggestions(moves=tuple(moves)), now)[0]) == 2
    one_under_way = replace(now, in_flight=(moves[0],))
    assert len(admit(Suggestions(moves=tuple(moves[1:])), one_under_way)[0]) == 1


def test_hardware_lists_mean_any_of_in_order_of_preference() -> None:
    needs = Needs(hardware=("cuda", "cpu"))
    assert can_run(hardware("cuda"), needs)
    assert can_run(hardware("cpu"), needs)
    assert not can_run(hardware("rocm"), needs)
    loaded = worker("cpu", 0, load=0.95, slots=2, running=(held("t", "p", ran_s=0.1),))
    there = Fleet(at=NOW, lanes=(lane("p", needs=needs),), workers=(
        loaded, worker("cpu", 1, load=0.05), worker("cuda", 0, load=0.05), worker("rocm", 0, load=0.0),
    ))
    memory = replace(fresh(LITERAL), estimates=known({"p": {"cpu": 10.0, "cuda": 10.0}}))
    _, decision = engine.decide(memory, there, LITERAL, Adaptive(), ())
    assert [m.target for m in decision.moves] == ["cuda-0"]  # as fast as the other, and preferred


def test_dimensions_stay_apart() -> None:
    full = replace(worker("cuda", 0), reading=Reading(cpu=0.10, memory=0.20, gpu_memory=0.99))
    assert sum((0.10, 0.20, 0.99)) / 3 == pytest.approx(0.43)  # what an average would say
    assert utilisation(full) == 0.99
    there = Fleet(at=NOW, workers=(full, worker("cuda", 1, load=0.05)), lanes=(lane("p"),))
    _, decision = engine.decide(fresh(LITERAL), there, LITERAL, Adaptive(), ())
    assert decision.imbalance is not None
    assert decision.imbalance.overloaded == ("cuda-0",)


def test_a_dead_worker_is_no_target_and_counts_no_more() -> None:
    there = replace(fleet(0.95), silent=("cpu-1",))
    memory, decision = engine.decide(fresh(LITERAL), there, LITERAL, Adaptive(), ())
    assert decision.load.lowest == "cpu-0"
    assert set(memory.worker_loads) == {"cpu-0"}
    (_, (refusal,)) = admit(Suggestions(moves=(to("cpu-1", "t"),)), situation(there))
    assert (refusal.reason, refusal.detail) == ("target gone", "cpu-1 has fallen silent")


def test_one_blip_triggers_nothing() -> None:
    several = replace(LITERAL, trip_samples=3, clear_samples=2)
    blip = [[0.5, 0.1], [0.95, 0.1], [0.5, 0.1], [0.95, 0.1], [0.95, 0.1]]
    _, decisions = ticks(blip, several)
    assert [len(d.moves) for d in decisions] == [0] * 5
    assert "sample 2 of 3, waiting" in decisions[-1].notes[0]
    _, held_on = ticks([*blip, [0.95, 0.1]], several)
    assert len(held_on[-1].moves) == 1
    assert [len(d.moves) for d in ticks(blip, LITERAL)[1]] == [0, 1, 0, 1, 1]  # the seed's own


def slower_target() -> tuple[Memory, Fleet]:
    there = Fleet(at=NOW, lanes=(lane("p"),), workers=(
        worker("cuda", 0, load=0.90, slots=2, running=(held("t", "p", ran_s=0.1),)),
        worker("cpu", 0, load=0.0),
    ))
    return replace(fresh(LITERAL), estimates=known({"p": {"cuda": 10.0, "cpu": 30.0}})), there


def test_work_does_not_go_to_an_idle_worker_three_times_slower() -> None:
    memory, there = slower_target()
    _, aware = engine.decide(memory, there, LITERAL, Adaptive(), ())
    assert aware.moves == ()
    assert [r.reason for r in aware.rejected] == ["no net benefit"]
    blind = replace(LITERAL, enable_hardware_specific_strategies=False)
    assert len(engine.decide(memory, there, blind, Adaptive(), ())[1].moves) == 1
    assert len(engine.decide(memory, there, LITERAL, Fixed(), ())[1].moves) == 1


def after_move(there: Fleet, move: Move, at: float) -> Fleet:
    """The fleet `at` a later time, with the moved task running on its target under the same foreign load."""

    def at_home(w: Worker) -> Worker:
        running = (replace(held("t", "p", ran_s=0.0), started_at=at),) if w.name == move.target else ()
        load = 0.95 if running else 0.05
        return replace(w, running=running, busy=len(running), reading=Reading(cpu=load))

    return replace(there, at=at, workers=tuple(at_home(w) for w in there.workers))


def test_two_tasks_do_not_bounce_for_ever_at_short_ticks() -> None:
    """Wherever the task runs is overloaded: literally it would go to and fro at each tick of 5 s."""
    settings = replace(LITERAL, check_interval=5.0)
    memory, there, moves = fresh(settings), fleet(0.95, 0.05), 0
    for turn in range(60):
        memory, decision = engine.decide(memory, there, settings, Adaptive(), ())
        at = NOW + 5.0 * (turn + 1)
        there = replace(there, at=at)
        for move in decision.moves:
            moves += 1
            there = after_move(there, move, at)
            done = Migration(move=move, state="completed", requested_at=at - 1, handed_over_at=at - 1,
                             started_at=at, ended_at=at)
            memory = learn_migrations(memory, [done], settings)
    assert moves == 1


def test_literal_does_nothing_at_overload_and_says_so() -> None:
    _, (decision,) = ticks([[0.95, 0.90, 0.88]])
    assert (decision.imbalance, decision.moves, decision.notes) == (None, (), ())


def test_a_task_does_not_move_again_at_once_even_elsewhere() -> None:
    past = MoveHistory(tasks={"t": TaskMoves(count=2, last_at=NOW - 50, left="cpu-9")})
    now: Situation = situation(fleet(0.95, 0.05), history=past)
    _, (refusal,) = admit(Suggestions(moves=(to("cpu-1", "t"),)), now)
    assert refusal.reason == "cooldown"
