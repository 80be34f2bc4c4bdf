"""A ledger as a small fleet would leave it, made of real records: for the tests of the report.

Run as a script it writes one to look at: `python -m tests.unit.ledger_samples FILE [SPAN_S]`.
"""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from balancer import ledger_rows
from balancer.adapters.duckdb_ledger import DuckDBLedger, read
from balancer.model import (
    Decision,
    Fleet,
    Forecast,
    Hardware,
    Imbalance,
    JudgedForecast,
    Lane,
    Migration,
    Move,
    MoveKind,
    Reading,
    Rejected,
    RunFinished,
    Score,
    SetAside,
    SystemLoad,
    TaskProfile,
    Thresholds,
    Worker,
    WorkloadTrend,
)
from balancer.report.questions import Ask, Rows, Window, window
from balancer.settings import Settings

START = 1_767_268_800.0  # 2026-01-01 12:00 UTC

CLASSES = {
    "k80": (Hardware(kind="cuda", model="K80", emulated=True, telemetry="emulated"), 4, 8.0, 220.0),
    "p100": (Hardware(kind="cuda", model="P100", emulated=True, telemetry="emulated"), 3, 4.0, 250.0),
    "v100": (Hardware(kind="cuda", model="V100", emulated=True, telemetry="emulated"), 3, 2.0, 300.0),
    "cpu": (Hardware(kind="cpu", telemetry="psutil"), 2, 12.0, None),
}
PROFILES = ("ResNet-50/128", "Transformer/64", "A3C", "LM/<script>alert(1)</script>")
REFUSALS = (
    ("cooldown", "moved 12 s ago; may move again in 18 s"),
    ("no idle slot", "every slot of the target is busy or booked"),
    ("net benefit", "cost 4.1 exceeds benefit 2.2"),
    ("hardware", "needs cuda-V100; this is cpu"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """How long and how big: `ticks` whole ticks over `span_s` seconds, `scale` times the workers."""

    span_s: float = 180.0
    ticks: int = 36
    scale: int = 1
    seed: int = 7

    def times(self) -> list[float]:
        return [START + self.span_s * number / self.ticks for number in range(self.ticks + 1)]


def write_sample(path: str, sample: Sample | None = None) -> Sample:
    """Write the ledger of a spike, a worker that dies and one that joins; what was written."""
    sample = sample or Sample()
    dice = random.Random(sample.seed)
    rows = [_tick(at, sample, dice) for at in sample.times()]
    if not DuckDBLedger(path).record(ledger_rows.merge(*rows)):
        raise RuntimeError(f"cannot write {path}")
    return sample


def asking(path: Path) -> Ask:
    """A reader of the ledger at `path`, as the commands have it."""

    def ask(statement: str, params: Mapping[str, Any]) -> Rows:
        return read(str(path), statement, params)

    return ask


def whole(ask: Ask) -> Window:
    """All the time that the ledger covers."""
    span = window(ask, now=START)
    assert span is not None, "the ledger is not empty"
    return span


def _tick(at: float, sample: Sample, dice: random.Random) -> ledger_rows.Rows:
    fleet = _fleet(at, sample, dice)
    decision = _decision(at, fleet, sample, dice)
    migrations = [_migration(move, dice) for move in decision.moves]
    won = sum(m.successful for m in migrations)
    return ledger_rows.merge(
        ledger_rows.tick_rows(
            decision, fleet, migrations, Settings(), initiated=len(migrations), successful=won
        ),
        ledger_rows.sample_rows(fleet),
        ledger_rows.run_rows(_runs(at, fleet, dice), fleet),
        ledger_rows.move_rows(migrations),
    )


def _wave(at: float, sample: Sample) -> float:
    """The load in the middle of things: a rise, a spike at a third, a slow fall."""
    x = (at - START) / sample.span_s
    return 0.25 + 0.5 * math.exp(-(((x - 0.35) / 0.22) ** 2)) + 0.06 * math.sin(40 * x)


def _fleet(at: float, sample: Sample, dice: random.Random) -> Fleet:
    x = (at - START) / sample.span_s
    workers = []
    for place, (name, (hardware, count, _, power)) in enumerate(CLASSES.items()):
        for number in range(count * sample.scale):
            dead = name == "p100" and number == 1 and x > 0.6
            joins = name == "v100" and number == 2 and x < 0.3
            if dead or joins:
                continue
            level = min(1.0, max(0.0, _wave(at, sample) + 0.08 * place - 0.1 + dice.gauss(0, 0.07)))
            gpu = None if name == "cpu" else level
            reading = Reading(
                cpu=level if gpu is None else None,
                gpu=gpu,
                gpu_memory=None if gpu is None else 0.3,
                power_w=None if power is None else power * (0.2 + 0.8 * level),
            )
            workers.append(
                Worker(
                    name=f"{name}-{number}@node{number}",
                    instance=f"node{number}:{place}:1",
                    hardware=hardware,
                    slots=4,
                    at=at - 0.4,
                    reading=reading,
                    busy=round(4 * level),
                )
            )
    lanes = [Lane(queue=f"bal.lane.{p}", profile=TaskProfile(name=p, task="t"), waiting=4) for p in PROFILES]
    return Fleet(at=at, workers=tuple(workers), lanes=tuple(lanes))


def _decision(at: float, fleet: Fleet, sample: Sample, dice: random.Random) -> Decision:
    loads = [max(w.dimensions().values()) for w in fleet.workers]
    mean = sum(loads) / len(loads)
    deviation = math.sqrt(sum((v - mean) ** 2 for v in loads) / len(loads))
    spread = max(loads) - min(loads)
    wave, ahead = _wave(at, sample), 0.1 * sample.span_s
    forecast, judged = _forecasts(at, mean, sample, dice)
    busy = spread > 0.35
    return Decision(
        at=at,
        strategy="priced",
        load=SystemLoad(at=at, average=mean, deviation=deviation, imbalance=spread),
        thresholds=Thresholds(
            high=0.85 - 0.1 * wave, low=0.2 + 0.1 * wave, initial_high=0.85, initial_low=0.2
        ),
        trend=WorkloadTrend(direction="stable", slope=0.0, magnitude=0.0),
        forecasts=(forecast,),
        judged=(judged,) if at - START > ahead else (),
        accuracy=judged.accuracy if at - START > ahead else None,
        imbalance=Imbalance(
            kind="current",
            score=spread,
            overloaded=("v100-0@node0",),
            underloaded=("k80-0@node0", "k80-1@node1"),
        )
        if busy
        else None,
        moves=tuple(_move(at, number, dice) for number in range(dice.choice((0, 1, 1, 2, 3)) if busy else 0)),
        rejected=tuple(_rejected(dice) for _ in range(dice.choice((0, 1, 2, 4)))),
        set_aside=(SetAside(source="beats gpu9@x", reason="cpu is NaN", detail="byte 12"),)
        if dice.random() < 0.05
        else (),
        notes=("p100-1@node1 has been silent for 10 s",) if dice.random() < 0.03 else (),
    )


def _forecasts(
    at: float, truth: float, sample: Sample, dice: random.Random
) -> tuple[Forecast, JudgedForecast]:
    """One that is made now, and the verdict on one that is due now."""
    wave, ahead = _wave(at, sample), 0.1 * sample.span_s
    made = Forecast(
        subject="system",
        made_at=at,
        due_at=at + ahead,
        value=_wave(at + ahead, sample) + 0.05,
        low=wave - 0.05,
        high=wave + 0.2,
        confidence=0.8,
    )
    value = wave + dice.gauss(0.02, 0.05)
    due = replace(made, made_at=at - ahead, due_at=at, value=value, low=wave - 0.1, high=wave + 0.12)
    inside = due.low <= truth <= due.high
    return made, JudgedForecast(forecast=due, truth=truth, accuracy=1 - abs(truth - value), inside=inside)


def _score(dice: random.Random, gain: float) -> Score:
    cost, benefit = abs(dice.gauss(2.5, 1.2)), max(0.0, dice.gauss(gain, 2))
    return Score(
        cost=cost, benefit=benefit, cost_s=cost / 4, benefit_s=benefit * 1.5, parts={"match": benefit / 2}
    )


def _move(at: float, number: int, dice: random.Random) -> Move:
    kinds: tuple[MoveKind, ...] = ("queued", "reserved", "running")
    return Move(
        move_id=f"{at:.3f}/{number}",
        task_id=f"task-{at:.0f}-{number}",
        profile=dice.choice(PROFILES),
        kind=dice.choice(kinds),
        source="k80-0@node0",
        target="v100-1@node1",
        target_queue="bal.worker.v100-1-node1",
        reason=dice.choice(("rescue: idle V100 finishes it 6 s sooner", "imbalance 0.52 between workers")),
        at=at,
        score=_score(dice, 6.0),
        proactive=dice.random() < 0.2,
    )


def _migration(move: Move, dice: random.Random) -> Migration:
    asked = Migration(move=move, requested_at=move.at)
    if dice.random() < 0.12:
        return replace(
            asked, state=dice.choice(("refused", "stale")), ended_at=move.at + 0.2, detail="finished"
        )
    given = replace(asked, handed_over_at=move.at + 0.1, state="handed_over", state_bytes=4096)
    if dice.random() < 0.06:
        return given
    return replace(given, state="completed", started_at=move.at + 0.3, ended_at=move.at + 0.3, moved=1)


def _rejected(dice: random.Random) -> Rejected:
    reason, detail = dice.choice(REFUSALS)
    return Rejected(
        task_id=f"task-{dice.randrange(999)}",
        profile=dice.choice(PROFILES),
        kind="running",
        source="k80-2@node2",
        target="v100-0@node0",
        reason=reason,
        detail=detail,
        score=_score(dice, 1.5) if reason != "hardware" else None,
    )


def _runs(at: float, fleet: Fleet, dice: random.Random) -> list[RunFinished]:
    runs = []
    for worker in fleet.workers:
        seconds = CLASSES[worker.name.split("-")[0]][2]
        if worker.busy and dice.random() < min(1.0, 4 / seconds):
            outcome = dice.choices(("success", "failure", "moved"), (0.93, 0.02, 0.05))[0]
            runs.append(
                RunFinished(
                    at=at,
                    task_id=f"run-{at:.0f}-{worker.name}",
                    profile=dice.choice(PROFILES),
                    worker=worker.name,
                    hardware_class=worker.hardware.hardware_class,
                    epoch=0,
                    outcome=outcome,
                    duration_s=seconds * dice.uniform(0.7, 1.3),
                )
            )
    return runs


if __name__ == "__main__":
    span = float(sys.argv[2]) if len(sys.argv) > 2 else 180.0
    print(write_sample(sys.argv[1], Sample(span_s=span, ticks=36 if span < 1000 else 500)))
