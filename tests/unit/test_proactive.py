"""A load that grows is acted upon before it is too high, and every place that tells of moves says so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from balancer.adapters.duckdb_ledger import DuckDBLedger
from balancer.decide.strategies import by_name
from balancer.model import HandedOver, Reading
from balancer.report.questions import window
from balancer.report.summary import summarise
from tests.unit.ledger_samples import asking
from tests.unit.rig import FAST, SLOW, Rig, began, finished, rig

#: What the operator's options are here: the rest as by default, debounce and moving thresholds too.
OPTIONS = {"check_interval": 30, "heartbeat_ttl": 60}


def growing(made: Rig, step: int) -> float:
    """The slow worker's load a step later; the fast one stays idle."""
    load = min(1.0, 0.40 + 0.03 * step)
    for name, cpu in ((SLOW, load), (FAST, 0.04)):
        one = made.world.reports[name]
        made.world.report(replace(one, reading=Reading(cpu=cpu), busy=0, slots=4, reserved=(),
                                  running=one.running))
    return load


def grown(made: Rig) -> tuple[float, float]:
    """Ticks until something is asked to move: the load then, and the high threshold."""
    balancer = made.add("a")
    for step in range(24):
        load = growing(made, step)
        assert balancer.turn()
        if made.handover.requested:
            decision = balancer.standing.decision
            assert decision is not None
            return load, decision.thresholds.high
        made.tick(30.0)
    raise AssertionError("nothing was moved")


@pytest.mark.parametrize("dynamic", [True, False], ids=["moving thresholds", "the operator's thresholds"])
def test_a_growing_load_moves_a_task_before_the_threshold_is_crossed(dynamic: bool) -> None:
    made = rig(strategy=by_name("adaptive"), enable_dynamic_thresholds=dynamic, **OPTIONS)
    load, high = grown(made)
    assert load < high
    (move,) = made.handover.requested
    assert (move.task_id, move.source, move.target, move.proactive) == ("t1", SLOW, FAST, True)
    assert "will be over" in move.reason


def test_without_foresight_the_same_load_moves_nothing_so_early() -> None:
    made = rig(strategy=by_name("adaptive"), enable_predictive_balancing=False, **OPTIONS)
    load, high = grown(made)
    assert load > high


def test_a_move_ahead_of_time_is_recorded_and_reported_as_such(tmp_path: Path) -> None:
    made = rig(strategy=by_name("adaptive"), **OPTIONS)
    grown(made)
    (move,) = made.handover.requested
    balancer = made.add("a")
    made.tick()
    made.store.tell(HandedOver(at=made.world.now, move_id=move.move_id, task_id="t1", worker=SLOW,
                               queue=move.target_queue))
    made.store.tell(began(made, FAST))
    made.tick()
    made.store.tell(finished(made, FAST))
    assert balancer.turn()
    states = [(row["state"], row["proactive"]) for row in made.rows("moves")]
    assert states[-1] == ("completed", True)
    told = {(row["kind"], row["reason"] if row["kind"] == "imbalance" else "", row.get("proactive"))
            for row in made.rows("decisions") if row["kind"] in ("imbalance", "move")}
    assert ("imbalance", "predicted", True) in told
    assert ("move", "", True) in told
    path = tmp_path / "ledger.duckdb"
    assert DuckDBLedger(str(path)).record(made.ledger.tables)
    ask = asking(path)
    span = window(ask, now=made.world.now)
    assert span is not None
    assert "1 ahead of a foreseen imbalance" in str(summarise(ask, span))
