"""What came of a demo: the figures for machines, and the same in plain words.

Figures about tasks come from the client and the independent book; only moves and forecasts are
the balancer's own words, read from its ledger.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from balancer.adapters.duckdb_ledger import read
from balancer.demo.disturb import Disturbance
from balancer.demo.watch import Verdict
from balancer.demo.workload import Clipped
from balancer.errors import BalancerError

MOVES = """
SELECT kind, CAST(sum(greatest(coalesce(moved, 0), 1)) AS INTEGER) AS tasks
FROM moves WHERE state = 'completed' GROUP BY kind
"""
FORECASTS = "SELECT avg(accuracy) AS accuracy FROM forecasts WHERE subject = 'system' AND truth IS NOT NULL"


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """What was seen of a demo, before it is put into figures.

    `completions_s` are seconds from publish to result of finished tasks; `makespan_s` and
    `bound_s` count from the first publish.
    """

    strategy: str
    seed: int
    tasks: int
    lost: int
    failed: int
    completions_s: Sequence[float]
    makespan_s: float
    bound_s: float
    verdict: Verdict
    disturbances: Sequence[Disturbance]
    clipped: Clipped
    workers: int
    warm: bool
    ledger: Path
    report: Path | None = None
    flower: str | None = None


def figures(account: Account) -> dict[str, Any]:
    """The one JSON object a demo ends with; unknown is null."""
    done = np.array(account.completions_s)
    moves = moves_by_kind(account.ledger)
    return {
        "tasks": account.tasks,
        "lost": account.lost,
        "finished_twice": len(account.verdict.finished_twice),
        "failed": account.failed,
        "makespan_s": round(account.makespan_s, 3),
        "bound_s": round(account.bound_s, 3),
        "makespan_over_bound": round(account.makespan_s / account.bound_s, 4) if account.bound_s else None,
        "mean_completion_s": round(float(done.mean()), 3) if done.size else None,
        "p99_completion_s": round(float(np.percentile(done, 99)), 3) if done.size else None,
        **{f"moves_{kind}": moves.get(kind, 0) if moves is not None else None
           for kind in ("queued", "reserved", "running")},
        "forecast_accuracy": forecast_accuracy(account.ledger),
        "strategy": account.strategy,
        "emulated": True,
        "seed": account.seed,
        "hints": account.warm,
        "workers": account.workers,
        "runs": account.verdict.runs,
        "runs_resumed": account.verdict.resumed,
        "runs_left": account.verdict.left,
        "runs_cut_off": account.verdict.cut_off,
        "disturbances": [[round(d.at_s, 2), d.kind, d.target] for d in account.disturbances],
        "clipped": account.clipped.sentence(),
        "flower": account.flower,
        "ledger": str(account.ledger) if account.ledger.exists() else None,
        "report": str(account.report) if account.report else None,
    }


def sound(found: dict[str, Any]) -> bool:
    """Whether nothing was lost, finished twice or wrong."""
    return not (found["lost"] or found["finished_twice"] or found["failed"])


def lines(found: dict[str, Any]) -> list[tuple[str, str]]:
    """The figures in plain words, as pairs of a label and a sentence."""
    ratio = found["makespan_over_bound"]
    told = "told the measured speeds" if found["hints"] else "cold: told no speeds"
    said = [
        ("tasks", f"{found['tasks']}: {found['lost']} lost, {found['finished_twice']} finished twice, "
                  f"{found['failed']} failed"),
        ("runs", f"{found['runs']}: {found['runs_left']} left at a checkpoint, {found['runs_cut_off']} cut "
                 f"off, {found['runs_resumed']} went on from a checkpoint"),
        ("makespan", f"{found['makespan_s']:.1f} s with strategy {found['strategy']} ({told}); no schedule "
                     f"can be under {found['bound_s']:.1f} s (LP bound)"
                     f"{'' if ratio is None else f': {ratio:.2f} times that'}"),
        ("completion", f"mean {_seconds(found['mean_completion_s'])}, "
                       f"p99 {_seconds(found['p99_completion_s'])}"),
        ("moves", _moves_line(found)),
        ("sizes", found["clipped"]),
        ("hardware", "GPUs are emulated at the speeds Gavel measured (K80, P100, V100); CPU work is real"),
    ]
    if found["flower"]:
        said.append(("Flower", f"stood at {found['flower']} while the demo ran; for a fleet of yours: "
                               "celery -A PROJ --broker redis://HOST flower"))
    if found["ledger"]:
        said.append(("ledger", found["ledger"]))
    if found["report"]:
        said.append(("report", f"{found['report']} (open it in a browser)"))
    return said


def show(found: dict[str, Any], console: Console) -> None:
    """Print the figures: wrapped beside their labels on a terminal, one line each elsewhere."""
    if not console.is_terminal:
        for label, text in lines(found):
            console.print(f"{label}: {text}", highlight=False, markup=False, soft_wrap=True)
        return
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    for label, text in lines(found):
        grid.add_row(label, Text(text))
    console.print(Text(""), grid)


def moves_by_kind(ledger: Path) -> dict[str, int] | None:
    """Tasks moved, by kind of move; `None` when there is no ledger that can be read."""
    try:
        return {row["kind"]: row["tasks"] for row in read(str(ledger), MOVES)}
    except BalancerError:
        return None


def forecast_accuracy(ledger: Path) -> float | None:
    """Mean accuracy (0–1) of the system's load forecasts whose time came; `None` when there is none."""
    try:
        value = read(str(ledger), FORECASTS)[0]["accuracy"]
    except BalancerError:
        return None
    return None if value is None else round(float(value), 4)


def _moves_line(found: dict[str, Any]) -> str:
    accuracy = found["forecast_accuracy"]
    judged = "no forecast came due" if accuracy is None else f"load forecasts were {accuracy:.0%} accurate"
    if found["moves_queued"] is None:
        return f"unknown, the ledger could not be read; {judged}"
    return (
        f"{found['moves_queued']} queued, {found['moves_reserved']} reserved, "
        f"{found['moves_running']} running tasks; {judged}"
    )


def _seconds(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.1f} s"
