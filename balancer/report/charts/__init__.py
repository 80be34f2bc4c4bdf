"""The pictures by the names of their metrics; each picture is a file of this folder.

A picture module has `build(ask, span, interactive)`, which asks the ledger and returns a
`Picture`, or `None` where the ledger has nothing of the kind.
"""

from __future__ import annotations

import difflib
import importlib
from dataclasses import dataclass
from typing import Any, Final

from balancer.errors import BalancerError, MissingExtraError
from balancer.report.questions import Ask, Rows, Window


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One thing that can be drawn: its name on the command line, its title, and what its absence means."""

    name: str
    title: str
    about: str
    absent: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """An Altair chart whose data is named, and the rows behind the names."""

    chart: Any
    datasets: dict[str, Rows]

    def spec(self) -> dict[str, Any]:
        """The picture in Vega-Lite, complete."""
        spec: dict[str, Any] = self.chart.to_dict()
        spec.pop("$schema", None)
        spec.pop("config", None)
        return {**spec, "datasets": self.datasets}


#: The seed's six pictures, then those of its other key metrics.
METRICS: Final = {
    metric.name: metric
    for metric in (
        Metric(
            name="system_load",
            title="System load heatmap",
            about="How full each worker was: its fullest of CPU, memory, GPU, GPU memory and slots.",
            absent="No worker has reported a load yet.",
        ),
        Metric(
            name="thresholds",
            title="Threshold adaptation",
            about="How the thresholds of high and low utilization follow the load.",
            absent="No whole tick has been recorded yet.",
        ),
        Metric(
            name="migration_success_rate",
            title="Migration success rate",
            about="How many of the moves ended well, by the time they were decided.",
            absent="Nothing has been moved yet.",
        ),
        Metric(
            name="worker_utilization",
            title="Worker utilization distribution",
            about="The spread of each worker's load: its middle half, and 90 % of the time.",
            absent="No worker has reported a load yet.",
        ),
        Metric(
            name="prediction_accuracy",
            title="Prediction accuracy",
            about="The load that was foreseen, with its interval, and the load that came.",
            absent="No forecast has been made yet.",
        ),
        Metric(
            name="cost_benefit",
            title="Cost and benefit of moves",
            about="What each candidate would have cost (0–10 points) and gained (points); made and refused.",
            absent="No candidate for a move has been weighed yet.",
        ),
        Metric(
            name="throughput",
            title="Runs by hardware class",
            about="Runs of task bodies that ended.",
            absent="No run has ended yet.",
        ),
        Metric(
            name="energy",
            title="Energy by hardware class",
            about="Estimated from the power that workers report; emulated power where the class says so.",
            absent="No run ended on a worker that reports its power.",
        ),
    )
}


def metric(name: str) -> Metric:
    """The metric of this name. Raises `BalancerError` with the nearest name and the list of all."""
    wanted = name.strip().lower().replace("-", "_")
    if wanted in METRICS:
        return METRICS[wanted]
    near = difflib.get_close_matches(wanted, METRICS, n=1, cutoff=0.5)
    hint = f", did you mean '{near[0]}'?" if near else "."
    raise BalancerError(f"unknown metric '{name}'{hint} There are: {', '.join(METRICS)}")


def build(name: str, ask: Ask, span: Window, *, interactive: bool = False) -> Picture | None:
    """The picture of a metric; `None` where the ledger has nothing for it.

    Raises `MissingExtraError` without Altair, `LedgerError` when the ledger cannot be read.
    """
    try:
        module = importlib.import_module(f"{__name__}.{metric(name).name}")
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != "altair":
            raise
        raise MissingExtraError(
            f"pictures need altair, which is not installed: pip install 'celery-balancer[report]' ({error})"
        ) from error
    picture: Picture | None = module.build(ask, span, interactive)
    return picture
