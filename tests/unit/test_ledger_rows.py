"""Rows of the ledger: what a tick, a run and a move become."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer import ledger_rows
from balancer.model import (
    Decision,
    Fleet,
    Forecast,
    Hardware,
    HeldTask,
    Imbalance,
    JudgedForecast,
    Lane,
    Migration,
    Move,
    Reading,
    Rejected,
    RunFinished,
    RunStarted,
    Score,
    SetAside,
    SystemLoad,
    TaskProfile,
    Thresholds,
    Worker,
    WorkloadTrend,
)
from balancer.settings import Settings

K80 = Hardware(kind="cuda", model="K80", emulated=True, telemetry="emulated")


#: The seed's example, with the settings' defaults in it.
SEED_METRICS = """{
    "worker_count": 5,
    "active_migrations": 2,
    "thresholds": {"high": 0.82, "low": 0.24, "initial_high": 0.85, "initial_low": 0.20},
    "migrations": {"initiated": 3, "successful": 2, "success_rate": 0.6667},
    "features": {
        "dynamic_thresholds": true, "predictive_balancing": true, "cost_benefit_analysis": true,
        "hardware_specific": true, "resource_efficiency": true
    },
    "prediction": {"current_load": 0.68, "predicted_load": 0.74, "confidence": 0.85, "window_minutes": 3}
}"""


def worker(name: str = "k80@a", **given: object) -> Worker:
    values: dict[str, object] = {
        "name": name,
        "instance": f"{name}:1:2",
        "hardware": K80,
        "slots": 2,
        "at": 99.0,
    }
    return Worker(**{**values, **given})  # type: ignore[arg-type]


def move(move_id: str = "m1", **given: object) -> Move:
    values: dict[str, object] = {
        "move_id": move_id,
        "task_id": "t1",
        "profile": "p",
        "kind": "running",
        "source": "a",
        "target": "b",
        "target_queue": "bal.worker.b",
        "reason": "rescue",
        "at": 100.0,
        "score": Score(cost=2.0, benefit=5.0, cost_s=1.0, benefit_s=9.0, parts={"match": 1.5}),
    }
    return Move(**{**values, **given})  # type: ignore[arg-type]


def forecast(value: float = 0.74) -> Forecast:
    return Forecast(
        subject="system", made_at=100, due_at=280, value=value, low=0.6, high=0.9, confidence=0.85
    )


def decision(**given: object) -> Decision:
    values: dict[str, object] = {
        "at": 100.0,
        "strategy": "priced",
        "load": SystemLoad(at=100, average=0.68, deviation=0.1, imbalance=0.4),
        "thresholds": Thresholds(high=0.82, low=0.24, initial_high=0.85, initial_low=0.2),
        "trend": WorkloadTrend(direction="increasing", slope=0.02, magnitude=0.02),
    }
    return Decision(**{**values, **given})  # type: ignore[arg-type]


def tick(
    made: Decision,
    migrations: tuple[Migration, ...] = (),
    initiated: int = 0,
    successful: int = 0,
    fleet: Fleet | None = None,
) -> ledger_rows.Rows:
    return ledger_rows.tick_rows(
        made, fleet or Fleet(at=100), migrations, Settings(), initiated=initiated, successful=successful
    )


def test_the_seeds_row_and_its_json_have_the_seeds_shape_and_values() -> None:
    fleet = Fleet(at=100, workers=tuple(worker(f"w{i}") for i in range(5)))
    under_way = (
        Migration(move=move()),
        Migration(move=move(), state="handed_over"),
        Migration(move=move(), state="completed"),
    )
    row = tick(decision(forecasts=(forecast(),), accuracy=0.9), under_way, 3, 2, fleet)[
        "load_balancer_metrics"
    ][0]
    assert {k: v for k, v in row.items() if k != "metrics"} == {
        "timestamp": 100.0,
        "system_load": 0.68,
        "threshold_high": 0.82,
        "threshold_low": 0.24,
        "imbalance_score": 0.4,
        "migrations_initiated": 3,
        "migrations_successful": 2,
        "prediction_accuracy": 0.9,
    }
    seed = json.loads(SEED_METRICS)
    assert {key: row["metrics"][key] for key in seed} == seed
    assert list(row["metrics"])[: len(seed)] == list(seed)


def test_without_moves_there_is_no_success_rate_and_without_forecast_no_prediction() -> None:
    metrics = tick(decision())["load_balancer_metrics"][0]["metrics"]
    assert metrics["migrations"] == {"initiated": 0, "successful": 0, "success_rate": None}
    assert metrics["prediction"]["predicted_load"] is None
    assert metrics["prediction"]["confidence"] is None


def test_every_decision_has_its_row_with_its_reason() -> None:
    made = decision(
        imbalance=Imbalance(
            kind="predicted", score=0.7, overloaded=tuple(f"w{i}" for i in range(11)), underloaded=("v",)
        ),
        moves=(move(proactive=True),),
        rejected=(
            Rejected(
                task_id="t2",
                profile="p",
                kind="queued",
                source="a",
                target="b",
                reason="cooldown",
                detail="moved 3 s ago",
                score=Score(cost=1, benefit=0.5),
            ),
        ),
        set_aside=(SetAside(source="beats", reason="NaN", detail="cpu"),),
        notes=("no worker can run lane x",),
    )
    rows = tick(made)["decisions"]
    assert [(r["kind"], r["reason"]) for r in rows] == [
        ("imbalance", "predicted"),
        ("move", "rescue"),
        ("refused", "cooldown"),
        ("note", "no worker can run lane x"),
        ("set_aside", "NaN"),
    ]
    assert all(r["timestamp"] == 100.0 and r["strategy"] == "priced" for r in rows)
    assert "w7 and 3 more" in rows[0]["detail"]
    assert rows[1]["proactive"] is True
    assert (rows[1]["cost"], rows[1]["benefit_s"], rows[1]["parts"]) == (2.0, 9.0, {"match": 1.5})
    assert rows[2]["detail"] == "moved 3 s ago"
    assert rows[4]["source"] == "beats"


def test_a_sample_keeps_absent_readings_absent() -> None:
    sample = ledger_rows.sample_rows(
        Fleet(
            at=100,
            workers=(
                worker(
                    reading=Reading(gpu=0.5, power_w=math.nan),
                    busy=1,
                    reserved=(HeldTask(task_id="t", profile="p"),),
                ),
            ),
        )
    )["worker_samples"][0]
    assert (sample["gpu"], sample["cpu"], sample["power_w"]) == (0.5, None, None)
    assert (sample["emulated"], sample["hardware_class"], sample["telemetry"]) == (
        True,
        "cuda-K80",
        "emulated",
    )
    assert (sample["load"], sample["busy"], sample["reserved"]) == (1.0, 1, 1)
    assert (sample["timestamp"], sample["reported_at"]) == (100, 99.0)


@pytest.mark.parametrize(
    ("power", "busy", "emulated", "joules", "source"),
    [
        (100.0, 2, False, 200.0, "estimated"),
        (100.0, 1, True, 400.0, "emulated"),
        (100.0, 0, False, 400.0, "estimated"),
        (None, 1, False, None, None),
        (math.inf, 1, False, None, None),
    ],
)
def test_energy_is_the_power_shared_by_the_busy_slots(
    power: float | None, busy: int, emulated: bool, joules: float | None, source: str | None
) -> None:
    hardware = replace(K80, emulated=emulated)
    fleet = Fleet(at=100, workers=(worker(hardware=hardware, reading=Reading(power_w=power), busy=busy),))
    run = RunFinished(
        at=100,
        task_id="t",
        profile="p",
        worker="k80@a",
        hardware_class="cuda-K80",
        epoch=0,
        outcome="success",
        duration_s=4,
        ready_at=90.5,
    )
    row = ledger_rows.run_rows([run], fleet)["runs"][0]
    assert (row["joules"], row["joules_from"]) == (joules, source)
    assert (row["started_at"], row["ended_at"], row["emulated"]) == (96, 100, emulated)
    assert row["ready_at"] == 90.5


def test_a_run_of_a_worker_that_is_gone_is_kept_without_energy() -> None:
    gone = RunFinished(
        at=100,
        task_id="t",
        profile="p",
        worker="gone@a",
        hardware_class="cuda-K80",
        epoch=1,
        outcome="moved",
        duration_s=4,
        share=None,
    )
    started = RunStarted(at=1, task_id="t", profile="p", worker="w", hardware_class="cpu", epoch=0)
    rows = ledger_rows.run_rows([started, gone], Fleet(at=100, workers=(worker(),)))["runs"]
    assert [(r["worker"], r["emulated"], r["joules"], r["share"]) for r in rows] == [
        ("gone@a", True, None, None)
    ]
    unknown = ledger_rows.run_rows([gone], Fleet(at=100))["runs"][0]
    assert unknown["emulated"] is None


def test_a_move_keeps_the_times_of_its_steps_and_what_has_not_happened_is_none() -> None:
    row = ledger_rows.move_rows(
        [Migration(move=move(), state="handed_over", requested_at=100.1, handed_over_at=100.4, state_bytes=7)]
    )["moves"][0]
    assert (row["decided_at"], row["requested_at"], row["handed_over_at"]) == (100.0, 100.1, 100.4)
    assert (row["started_at"], row["ended_at"], row["state"], row["state_bytes"]) == (
        None,
        None,
        "handed_over",
        7,
    )


def test_a_judged_forecast_has_its_truth_and_a_new_one_has_none() -> None:
    judged = JudgedForecast(forecast=forecast(), truth=0.7, accuracy=0.96, inside=True)
    new, old = ledger_rows.forecast_rows(made=[forecast(0.5)], judged=[judged])["forecasts"]
    assert new["truth"] is None
    assert (old["truth"], old["accuracy"], old["inside"], old["value"]) == (0.7, 0.96, True, 0.74)


def test_waiting_tasks_are_counted_and_merging_leaves_out_empty_tables() -> None:
    lane = Lane(queue="q", profile=TaskProfile(name="p", task="t"), waiting=4)
    rows = tick(decision(), fleet=Fleet(at=100, lanes=(lane, lane)))
    assert rows["load_balancer_metrics"][0]["metrics"]["waiting"] == 8
    assert set(rows) == {"load_balancer_metrics"}
    assert ledger_rows.merge({"a": [{"x": 1}]}, {"a": [{"x": 2}], "b": []}) == {"a": [{"x": 1}, {"x": 2}]}


@given(st.lists(st.floats(), min_size=8, max_size=8))
def test_no_nan_and_no_infinity_ever_reaches_a_row(values: list[float]) -> None:
    a, b, c, d, e, f, g, h = values
    made = decision(
        load=SystemLoad(at=1, average=a, deviation=b, imbalance=c),
        thresholds=Thresholds(high=d, low=e, initial_high=f, initial_low=g),
        accuracy=h,
        forecasts=(replace(forecast(), value=a, low=b, high=c, confidence=d),),
        judged=(JudgedForecast(forecast=forecast(e), truth=f, accuracy=g, inside=False),),
        moves=(move(score=Score(cost=a, benefit=b, cost_s=c, benefit_s=d, parts={"x": e})),),
    )
    rows = ledger_rows.merge(
        tick(made),
        ledger_rows.sample_rows(Fleet(at=1, workers=(worker(reading=Reading(cpu=a, gpu=b, power_w=c)),))),
    )
    assert json.dumps({table: list(many) for table, many in rows.items()}, allow_nan=False)
