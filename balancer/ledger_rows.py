"""Records as rows of the ledger's tables (`adapters/sql/schema.sql`): pure conversion.

Between the tick and the `Ledger` port: the loop calls these with what it has in hand and records
the result. Times stay epoch seconds; a number that is not finite becomes `None`, so that NaN
never reaches the database.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

import numpy as np

from balancer.decide.foreseen import Foreseen, Verdicts
from balancer.decide.gpu_memory import gpu_memory
from balancer.decide.load import utilisations
from balancer.model import (
    IN_FLIGHT,
    Decision,
    Event,
    Fleet,
    Forecast,
    Hardware,
    Imbalance,
    JudgedForecast,
    Migration,
    Move,
    Rejected,
    RunFinished,
    Score,
    SetAside,
    ShortTurn,
    Worker,
)
from balancer.model.batch import Batch, Column, Row
from balancer.model.table import READING_FIELDS, WorkerTable
from balancer.settings import Settings

Rows = Mapping[str, Sequence[Row]]

#: What of a forecast is written.
FORECAST_FIELDS: Final = ("subject", "made_at", "due_at", "method", "value", "low", "high", "confidence")

#: What of a reading is written.
SAMPLED: Final = ("cpu", "memory", "gpu", "gpu_memory", "io", "pressure", "disk_bytes_per_s",
                  "network_bytes_per_s", "temperature_celsius", "power_w")

#: Workers named in the detail of an imbalance; of a large fleet the rest is counted.
NAMED_WORKERS: Final = 8


#: The seed's switches as its `metrics` JSON names them, and the options behind them.
_FEATURES: Final = {
    "dynamic_thresholds": "enable_dynamic_thresholds",
    "predictive_balancing": "enable_predictive_balancing",
    "cost_benefit_analysis": "enable_cost_benefit_analysis",
    "hardware_specific": "enable_hardware_specific_strategies",
    "resource_efficiency": "enable_resource_efficiency",
}


def merge(*parts: Mapping[str, Sequence[Row]]) -> Rows:
    """Rows of several sources as one batch, in order, without empty tables."""
    together: dict[str, Sequence[Row]] = {}
    for part in parts:
        for table, rows in part.items():
            if rows:
                together[table] = [*together[table], *rows] if table in together else rows
    return together


def tick_rows(
    decision: Decision,
    fleet: Fleet,
    migrations: Sequence[Migration],
    settings: Settings,
    *,
    initiated: int,
    successful: int,
) -> Rows:
    """All rows of one whole tick but those of samples, runs and moves.

    The seed's row in `load_balancer_metrics`; in `decisions` the imbalance, each move made and
    refused, what was set aside and the notes; in `forecasts` those made and those judged.
    `migrations` are the moves under way, `initiated` and `successful` count moves since the last
    tick's row.
    """
    metrics = _metrics_row(decision, fleet, migrations, settings, initiated, successful)
    return merge(
        {"load_balancer_metrics": [metrics]},
        {"decisions": _decision_rows(decision)},
        aside_rows(decision.set_aside, decision.at, strategy=decision.strategy),
        forecast_rows(made=decision.forecasts, judged=decision.judged),
    )


def made_rows(turn: ShortTurn) -> Rows:
    """The rows of `decisions` of a turn between whole ticks: the moves it made."""
    return {"decisions": [{"timestamp": turn.at, "strategy": turn.strategy, **_made_row(move)}
                          for move in turn.moves]}


def sample_rows(fleet: Fleet) -> Rows:
    """One row of `worker_samples` for each worker of the snapshot."""
    return {"worker_samples": Batch(len(fleet.workers), lambda: _sample_columns(fleet))}


def run_rows(events: Iterable[Event], fleet: Fleet) -> Rows:
    """One row of `runs` for each `RunFinished`.

    `joules` is an estimate: the power of the worker's last report, where that has a reading, times
    the run's seconds, over the slots that were busy then. `joules_from` says "estimated", or
    "emulated" where the device is.
    """
    runs = [event for event in events if isinstance(event, RunFinished)]
    if not runs:
        return {}
    unlike = WorkerTable.of(fleet.workers).roster.unlike
    emulated = {hardware.hardware_class: hardware.emulated for hardware in unlike}
    return {"runs": [_run_row(run, fleet.worker(run.worker), emulated.get(run.hardware_class))
                     for run in runs]}


def move_rows(migrations: Iterable[Migration]) -> Rows:
    """One row of `moves` for each migration as it stands; a later row of the same move replaces it."""
    return {"moves": [_move_row(migration) for migration in migrations]}


def aside_rows(set_asides: Iterable[SetAside], at: float, *, strategy: str | None = None) -> Rows:
    """Rows of `decisions` for what could not be read, with where it came from and why."""
    return {
        "decisions": [
            {
                "timestamp": at,
                "strategy": strategy,
                "kind": "set_aside",
                "reason": aside.reason,
                "detail": aside.detail,
                "source": aside.source,
            }
            for aside in set_asides
        ]
    }


def forecast_rows(*, made: Sequence[Forecast] = (), judged: Sequence[JudgedForecast] = ()) -> Rows:
    """Rows of `forecasts`: new ones without a truth, judged ones with it (they replace the first)."""
    return {"forecasts": Batch(len(made) + len(judged), lambda: _forecast_columns(made, judged))}


def _forecast_columns(made: Sequence[Forecast], judged: Sequence[JudgedForecast]) -> dict[str, Column]:
    fresh: Mapping[str, Column] = made.columns() if isinstance(made, Foreseen) else {
        name: [_field(forecast, name) for forecast in made] for name in FORECAST_FIELDS}
    unjudged = dict.fromkeys(("truth", "accuracy", "inside"), np.full(len(made), np.nan))
    if not judged:
        return {**fresh, **unjudged}
    due: Mapping[str, Column] = judged.columns() if isinstance(judged, Verdicts) else {
        **{name: [_field(j.forecast, name) for j in judged] for name in FORECAST_FIELDS},
        "truth": [number(j.truth) for j in judged],
        "accuracy": [number(j.accuracy) for j in judged],
        "inside": [j.inside for j in judged],
    }
    return {name: _after(values, due[name]) for name, values in {**fresh, **unjudged}.items()}


def _after(values: Column, more: Column) -> Column:
    """Both, one after the other; numbers stay an array of numbers."""
    if isinstance(values, np.ndarray) and isinstance(more, np.ndarray):
        return np.concatenate([values, more])
    return [*values, *(more.tolist() if isinstance(more, np.ndarray) else more)]


def _field(forecast: Forecast, name: str) -> Any:
    value = getattr(forecast, name)
    return number(value) if isinstance(value, float) else value


def number(value: float | None) -> float | None:
    """`value`, or `None` where it is NaN or infinite."""
    return value if value is not None and math.isfinite(value) else None


def _metrics_row(
    decision: Decision,
    fleet: Fleet,
    migrations: Sequence[Migration],
    settings: Settings,
    initiated: int,
    successful: int,
) -> Row:
    return {
        "timestamp": decision.at,
        "system_load": number(decision.load.average),
        "threshold_high": number(decision.thresholds.high),
        "threshold_low": number(decision.thresholds.low),
        "imbalance_score": number(decision.load.imbalance),
        "migrations_initiated": initiated,
        "migrations_successful": successful,
        "prediction_accuracy": number(decision.accuracy),
        "metrics": _metrics_document(decision, fleet, migrations, settings, initiated, successful),
    }


def _metrics_document(
    decision: Decision,
    fleet: Fleet,
    migrations: Sequence[Migration],
    settings: Settings,
    initiated: int,
    successful: int,
) -> Row:
    """The seed's `metrics` JSON, and after it what the seed lists but its example leaves out."""
    thresholds = decision.thresholds
    return {
        "worker_count": len(fleet.workers),
        "active_migrations": sum(m.state in IN_FLIGHT for m in migrations),
        "thresholds": {
            "high": number(thresholds.high),
            "low": number(thresholds.low),
            "initial_high": number(thresholds.initial_high),
            "initial_low": number(thresholds.initial_low),
        },
        "migrations": {
            "initiated": initiated,
            "successful": successful,
            "success_rate": round(successful / initiated, 4) if initiated else None,
        },
        "features": {name: getattr(settings, option) for name, option in _FEATURES.items()},
        "prediction": _prediction(decision, settings),
        "strategy": decision.strategy,
        "load_deviation": number(decision.load.deviation),
        "trend": {"direction": decision.trend.direction, "magnitude": number(decision.trend.magnitude)},
        "waiting": sum(lane.waiting for lane in fleet.lanes),
        "gpu_memory": asdict(memory) if (memory := gpu_memory(fleet)) else None,
        "power": {name: {"source": each.source, "slot_w": number(each.slot_w), "idle_w": number(each.idle_w)}
                  for name, each in decision.power.items()},
        "dry_run": settings.dry_run,
    }


def _prediction(decision: Decision, settings: Settings) -> Row:
    foreseen = next((f for f in decision.forecasts if f.subject == "system"), None)
    return {
        "current_load": number(decision.load.average),
        "predicted_load": number(foreseen.value) if foreseen else None,
        "confidence": number(foreseen.confidence) if foreseen else None,
        "window_minutes": settings.prediction_window,
    }


def _decision_rows(decision: Decision) -> list[Row]:
    at, strategy = decision.at, decision.strategy
    rows = [] if decision.imbalance is None else [_imbalance_row(decision.imbalance)]
    rows += [_made_row(move) for move in decision.moves]
    rows += [_refused_row(refusal) for refusal in decision.rejected]
    rows += [{"kind": "note", "reason": note} for note in decision.notes]
    return [{"timestamp": at, "strategy": strategy, **row} for row in rows]


def _imbalance_row(imbalance: Imbalance) -> Row:
    return {
        "kind": "imbalance",
        "reason": imbalance.kind,
        "detail": f"score {imbalance.score:.2f}; over: {_named(imbalance.overloaded)}; "
        f"under: {_named(imbalance.underloaded)}",
        "proactive": imbalance.kind == "predicted",
    }


def _named(workers: Sequence[str]) -> str:
    rest = len(workers) - NAMED_WORKERS
    return (", ".join(workers[:NAMED_WORKERS]) or "none") + (f" and {rest} more" if rest > 0 else "")


def _made_row(move: Move) -> Row:
    return {
        "kind": "move",
        "reason": move.reason,
        "move_id": move.move_id,
        "task_id": move.task_id or None,
        "profile": move.profile,
        "move_kind": move.kind,
        "source": move.source,
        "target": move.target,
        "proactive": move.proactive,
        "tasks": move.count,
        **_score_columns(move.score),
    }


def _refused_row(refusal: Rejected) -> Row:
    return {
        "kind": "refused",
        "reason": refusal.reason,
        "detail": refusal.detail,
        "task_id": refusal.task_id or None,
        "profile": refusal.profile,
        "move_kind": refusal.kind,
        "source": refusal.source,
        "target": refusal.target,
        **_score_columns(refusal.score),
    }


def _score_columns(score: Score | None) -> Row:
    if score is None:
        return {}
    return {
        "cost": number(score.cost),
        "benefit": number(score.benefit),
        "cost_s": number(score.cost_s),
        "benefit_s": number(score.benefit_s),
        "parts": {name: number(value) for name, value in score.parts.items()},
    }


def _sample_columns(fleet: Fleet) -> dict[str, Column]:
    workers = WorkerTable.of(fleet.workers)
    roster, holdings, numbers = workers.roster, workers.holdings, workers.numbers

    def of_device(what: Callable[[Hardware], Any]) -> Column:
        return np.array([what(device) for device in roster.unlike], dtype=object)[roster.which]

    return {
        "timestamp": np.full(len(workers), fleet.at),
        "worker": roster.labels,
        "instance": [described.instance for described in roster.described],
        "hardware": of_device(lambda device: device.kind),
        "hardware_class": of_device(lambda device: device.hardware_class),
        "emulated": of_device(lambda device: device.emulated),
        "telemetry": of_device(lambda device: device.telemetry),
        "health": [held.health for held in holdings.held],
        "slots": roster.slots.astype(np.int64),
        "busy": np.maximum(numbers.busy, holdings.ran).astype(np.int64),
        "reserved": holdings.reserved.astype(np.int64),
        "load": utilisations(fleet).shares,
        "reported_at": numbers.at,
        **{name: numbers.readings[:, READING_FIELDS.index(name)] for name in SAMPLED},
    }


def _busy(worker: Worker) -> int:
    return max(worker.busy, len(worker.running))


def _run_row(run: RunFinished, worker: Worker | None, class_emulated: bool | None) -> Row:
    duration = number(run.duration_s)
    emulated = worker.hardware.emulated if worker else class_emulated
    power = number(worker.reading.power_w) if worker else None
    joules = None
    if worker is not None and power is not None and duration is not None:
        joules = power * duration / max(1, _busy(worker))
    return {
        "task_id": run.task_id,
        "profile": run.profile,
        "worker": run.worker,
        "hardware_class": run.hardware_class,
        "emulated": emulated,
        "epoch": run.epoch,
        "outcome": run.outcome,
        "ready_at": number(run.ready_at),
        "started_at": None if duration is None else run.at - duration,
        "ended_at": run.at,
        "duration_s": duration,
        "size": number(run.size),
        "share": number(run.share),
        "joules": joules,
        "joules_from": None if joules is None else "emulated" if emulated else "estimated",
    }


def _move_row(migration: Migration) -> Row:
    move = migration.move
    return {
        "move_id": move.move_id,
        "task_id": move.task_id or None,
        "profile": move.profile,
        "kind": move.kind,
        "source": move.source,
        "target": move.target,
        "target_queue": move.target_queue,
        "reason": move.reason,
        "proactive": move.proactive,
        "state": migration.state,
        "detail": migration.detail,
        "decided_at": move.at,
        "requested_at": migration.requested_at or None,
        "handed_over_at": migration.handed_over_at,
        "started_at": migration.started_at,
        "ended_at": migration.ended_at,
        "asked": move.count,
        "moved": migration.moved,
        "state_bytes": migration.state_bytes,
        **_score_columns(move.score),
    }
