"""The whole tick: its steps in order, what it keeps, and what each switch turns off."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import settings as trials
from hypothesis import strategies as st

from balancer.decide import engine
from balancer.decide.forecast import Foresight
from balancer.decide.foreseen import SYSTEM
from balancer.decide.memory import Memory, fresh, from_document, to_document
from balancer.decide.situation import Situation, Strategy, Suggestions
from balancer.decide.strategies.adaptive import Adaptive
from balancer.decide.strategies.fixed import Fixed
from balancer.decide.thresholds import initial
from balancer.model import Decision, Fleet, Move, Order, Reading, SetAside, Worker
from balancer.settings import Settings
from tests.unit.fleets import NOW, held, lane, worker

#: The seed's own: one bad sample triggers.
LITERAL = Settings(trip_samples=1, clear_samples=1)


class Quiet:
    """A strategy that only looks on."""

    name: str = "quiet"
    moves_thresholds: bool = True
    foresees: bool = True

    def orders(self, situation: Situation) -> tuple[Order, ...]:
        fleet = situation.fleet
        return tuple(Order(hardware_class=c, at=fleet.at, price=0.5) for c in fleet.classes)

    def suggest(self, situation: Situation) -> Suggestions:
        return Suggestions()


def fleet(*loads: float, at: float = NOW, task: bool = True) -> Fleet:
    """Two-slot CPU workers of these loads, the first of which runs a task that may move."""
    tasks = (held("t", "p", ran_s=1.0),) if task else ()
    made = [worker("cpu", i, load=v, slots=2, running=tasks if i == 0 else ()) for i, v in enumerate(loads)]
    return Fleet(at=at, workers=tuple(made), lanes=(lane("p"),))


def ticks(
    loads: Sequence[Sequence[float]], settings: Settings = LITERAL, strategy: Strategy | None = None
) -> tuple[Memory, list[Decision]]:
    """Ticks 30 s apart over fleets of these loads; the memory goes through its document each time."""
    memory, decisions = fresh(settings), []
    for place, values in enumerate(loads):
        there = fleet(*values, at=NOW + 30.0 * place)
        memory, decision = engine.decide(memory, there, settings, strategy or Adaptive(), ())
        memory = from_document(json.loads(json.dumps(to_document(memory), allow_nan=False)))
        decisions.append(decision)
    return memory, decisions


def test_one_tick_tells_all() -> None:
    aside = SetAside(source="beats", reason="NaN")
    there = replace(fleet(0.95, 0.05), set_aside=(aside,))
    memory, decision = engine.decide(fresh(LITERAL), there, LITERAL, Adaptive(), ())
    assert decision.load.average == pytest.approx(0.5)
    assert decision.thresholds == memory.thresholds
    assert decision.thresholds.high == pytest.approx(0.9)  # the literal rule at a load of one half
    assert decision.imbalance is not None
    (move,) = decision.moves
    assert (move.task_id, move.source, move.target, move.proactive) == ("t", "cpu-0", "cpu-1", False)
    assert move.target_queue == "bal.worker.cpu-1"
    assert move.score.net_benefit > 0
    assert decision.set_aside == (aside,)
    assert [order.hardware_class for order in decision.orders] == ["cpu"]
    assert "current imbalance 0.90" in decision.notes[0]


def test_the_tick_is_pure() -> None:
    memory, there = fresh(LITERAL), fleet(0.95, 0.05)
    first, second = (engine.decide(memory, there, LITERAL, Adaptive(), ()) for _ in range(2))
    assert first == second
    assert memory == fresh(LITERAL)


def test_an_empty_fleet_is_no_error_and_no_load_of_zero() -> None:
    memory, decision = engine.decide(fresh(LITERAL), Fleet(at=NOW), LITERAL, Adaptive(), ())
    assert memory.loads == ()
    assert (decision.moves, decision.orders, decision.imbalance, decision.forecasts) == ((), (), None, ())
    assert decision.accuracy is None


def test_loads_of_the_window_are_kept_and_series_stay_aligned() -> None:
    memory, _ = ticks([[0.5, 0.4]] * 15 + [[0.5]] * 3 + [[0.5, 0.4]] * 2)
    assert [r.at for r in memory.loads] == [NOW + 30.0 * i for i in range(9, 20)]  # five minutes
    assert memory.worker_loads["cpu-1"][-5:] == (None, None, None, 0.4, 0.4)
    assert all(len(v) == len(memory.loads) for v in memory.worker_loads.values())


def test_who_has_not_been_seen_for_a_window_is_forgotten() -> None:
    memory, _ = ticks([[0.5, 0.4]] * 2 + [[0.5]] * 12)
    assert set(memory.worker_loads) == {"cpu-0"}


def test_a_clock_set_back_drops_the_records_of_the_future() -> None:
    memory, _ = ticks([[0.5, 0.4]] * 5)
    memory, _ = engine.decide(memory, fleet(0.5, 0.4, at=NOW + 45), LITERAL, Adaptive(), ())
    assert [r.at for r in memory.loads] == [NOW, NOW + 30, NOW + 45]


def test_forecasts_are_judged_when_due_and_make_the_accuracy() -> None:
    memory, decisions = ticks([[0.5, 0.4]] * 12)
    assert [bool(d.forecasts) for d in decisions[:5]] == [False, False, False, True, True]
    assert [len(d.judged) for d in decisions] == [0] * 9 + [3] * 3  # the system and two workers
    assert decisions[8].accuracy is None
    assert decisions[-1].accuracy == pytest.approx(1.0)
    assert decisions[-1].judged[0].forecast.subject == SYSTEM
    track = memory.foresight.track("cpu-0")
    assert track is not None
    assert track.count == 3


def test_prices_are_remembered_between_turns() -> None:
    memory, orders = engine.price(fresh(LITERAL), fleet(0.5, 0.5), LITERAL, Quiet())
    assert [o.hardware_class for o in orders] == ["cpu"]
    assert dict(memory.prices) == {"cpu": 0.5}
    assert engine.situation(memory, fleet(0.5), LITERAL).prices == {"cpu": 0.5}


RAMP = [[0.50 + 0.03 * i, 0.25 - 0.01 * i] for i in range(9)]  # over .85 and under .20 only later


def test_a_foreseen_imbalance_makes_a_proactive_move() -> None:
    pinned = replace(LITERAL, enable_dynamic_thresholds=False)
    _, decisions = ticks(RAMP, pinned)
    first = next(d for d in decisions if d.moves)
    assert first.load.imbalance < 0.6
    assert first.imbalance is not None
    assert first.imbalance.kind == "predicted"
    assert all(m.proactive and "will be over" in m.reason for m in first.moves)


def test_switch_predictive_balancing() -> None:
    off = replace(LITERAL, enable_dynamic_thresholds=False, enable_predictive_balancing=False)
    memory, decisions = ticks(RAMP, off)
    assert all(not d.moves and not d.forecasts and not d.judged for d in decisions)
    assert memory.foresight == Foresight()


def test_a_strategy_that_does_not_foresee_is_not_told() -> None:
    _, decisions = ticks(RAMP, replace(LITERAL, enable_dynamic_thresholds=False), Fixed())
    assert all(d.imbalance is None for d in decisions)
    assert decisions[-1].forecasts  # but the ledger is


def test_switch_dynamic_thresholds() -> None:
    _, moved = ticks([[0.9, 0.8]] * 4)
    _, pinned = ticks([[0.9, 0.8]] * 4, replace(LITERAL, enable_dynamic_thresholds=False))
    assert moved[-1].thresholds.high < 0.75
    assert {d.thresholds for d in pinned} == {initial(LITERAL)}


def test_fixed_thresholds_stay_whatever_the_switch() -> None:
    _, decisions = ticks([[0.9, 0.8]] * 4, strategy=Fixed())
    assert {d.thresholds for d in decisions} == {initial(LITERAL)}


def test_other_strategies_get_the_tempered_rule() -> None:
    storm, calm = [[0.9, 0.9]] * 4, [[0.5, 0.5]] * 8
    _, decisions = ticks(storm + calm, replace(LITERAL, trip_samples=3), Quiet())
    assert decisions[3].thresholds.high < 0.8
    assert decisions[-1].thresholds.high == pytest.approx(0.85, abs=0.01)


def test_switch_task_migration() -> None:
    off = replace(LITERAL, enable_task_migration=False)
    _, (decision,) = ticks([[0.95, 0.05]], off)
    assert decision.moves == ()
    assert {r.reason for r in decision.rejected} == {"migration off"}
    assert decision.imbalance is not None  # it is seen and told all the same


def test_switch_cost_benefit_analysis() -> None:
    dear = replace(held("t", "p", ran_s=3_000.0, state_bytes=10**12), priority=0)
    there = fleet(0.95, 0.05)
    there = replace(there, workers=(replace(there.workers[0], running=(dear,)), there.workers[1]))
    _, weighed = engine.decide(fresh(LITERAL), there, LITERAL, Adaptive(), ())
    assert {r.reason for r in weighed.rejected} == {"no net benefit"}
    off = replace(LITERAL, enable_cost_benefit_analysis=False)
    _, unweighed = engine.decide(fresh(off), there, off, Adaptive(), ())
    assert [m.task_id for m in unweighed.moves] == ["t"]


def test_switch_hardware_specific_strategies() -> None:
    there = unlike_fleet()
    _, aware = engine.decide(fresh(LITERAL), there, LITERAL, Adaptive(), ())
    off = replace(LITERAL, enable_hardware_specific_strategies=False)
    _, blind = engine.decide(fresh(off), there, off, Adaptive(), ())
    assert [m.target for m in aware.moves] == ["cuda-1"]
    assert [m.target for m in blind.moves] == ["cpu-0"]  # a little idler, and three times slower


def unlike_fleet() -> Fleet:
    """A GPU worker in need, an idler CPU worker and a slightly less idle GPU worker."""
    return Fleet(at=NOW, lanes=(lane("p"),), workers=(
        replace(worker("cuda", 0, load=0.95, slots=2, running=(held("t", "p", ran_s=0.01),))),
        worker("cpu", 0, load=0.02, slots=2),
        worker("cuda", 1, load=0.10, slots=2),
    ))


def test_switch_resource_efficiency() -> None:
    there = Fleet(at=NOW, lanes=(lane("p"),), workers=(
        worker("openvino", 0, load=0.95, slots=2, running=(held("t", "p", ran_s=0.1),)),
        heated(worker("openvino", 1, load=0.05, slots=2), 80.0),
        heated(worker("openvino", 2, load=0.06, slots=2), 40.0),
    ))
    there = replace(there, workers=(heated(there.workers[0], 80.0), *there.workers[1:]))
    _, cool = engine.decide(fresh(LITERAL), there, LITERAL, Adaptive(), ())
    off = replace(LITERAL, enable_resource_efficiency=False)
    _, blind = engine.decide(fresh(off), there, off, Adaptive(), ())
    assert [m.target for m in cool.moves] == ["openvino-2"]
    assert [m.target for m in blind.moves] == ["openvino-1"]


def heated(there: Worker, celsius: float) -> Worker:
    reading: Reading = replace(there.reading, temperature_celsius=celsius)
    return replace(there, reading=reading)


def test_moves_in_flight_are_counted() -> None:
    _, first = engine.decide(fresh(LITERAL), fleet(0.95, 0.05), LITERAL, Adaptive(), ())
    _, second = engine.decide(fresh(LITERAL), fleet(0.95, 0.05), LITERAL, Adaptive(), first.moves)
    assert second.moves == ()
    assert {r.reason for r in second.rejected} == {"in flight"}


def test_ten_thousand_workers_are_decided_upon() -> None:
    count = 10_000
    loads = [0.95 if i % 2 else 0.05 for i in range(count)]
    there = [fleet(*loads, at=NOW + 30.0 * i) for i in range(5)]
    memory = fresh(LITERAL)
    for one in there:
        memory, decision = engine.decide(memory, one, LITERAL, Adaptive(), ())
    assert len(decision.forecasts) == count + 1
    assert [batch.told.size for batch in memory.foresight.pending] == [count + 1] * 2  # and all are kept


RUN_S = st.floats(-10, 1e6)
READINGS = st.one_of(st.none(), st.floats(allow_nan=True, allow_infinity=True), st.floats(0, 1))


@st.composite
def strange_fleets(draw: st.DrawFn) -> list[Fleet]:
    """A few looks at workers that come, go, ail and report garbage."""
    looks, at = [], NOW
    for _ in range(draw(st.integers(1, 7))):
        at += draw(st.floats(-40, 100))
        made = [
            replace(
                worker("cpu" if i % 2 else "cuda", i, slots=draw(st.integers(0, 2))),
                reading=Reading(
                    cpu=draw(READINGS), memory=draw(READINGS), temperature_celsius=draw(READINGS)
                ),
                running=tuple(held(f"t{i}", "p", ran_s=s) for s in draw(st.lists(RUN_S, max_size=1))),
                health=draw(st.sampled_from(["ok", "degraded", "draining"])),
            )
            for i in range(draw(st.integers(0, 4)))
        ]
        looks.append(Fleet(at=at, workers=tuple(made), lanes=(lane("p"),) if draw(st.booleans()) else ()))
    return looks


@trials(max_examples=60, deadline=None)
@given(strange_fleets(), st.sampled_from([Adaptive(), Fixed(), Quiet()]))
def test_no_fleet_however_strange_breaks_a_tick(looks: list[Fleet], strategy: Strategy) -> None:
    memory = fresh(LITERAL)
    flying: tuple[Move, ...] = ()
    for there in looks:
        memory, decision = engine.decide(memory, there, LITERAL, strategy, flying)
        memory = from_document(json.loads(json.dumps(to_document(memory), allow_nan=False)))
        flying = (*flying, *decision.moves)[-2:]
        assert 0 <= decision.load.imbalance <= 1
        assert all(0 <= f.confidence <= 1 for f in decision.forecasts)
        assert all(m.score.net_benefit > 0 for m in decision.moves if strategy.name == "adaptive")
        assert [r.at for r in memory.loads] == sorted(r.at for r in memory.loads)
