"""Energy of the runs that ended, by hardware class."""

from __future__ import annotations

from balancer.report.charts import Picture
from balancer.report.charts.class_bars import bars_of, class_bars
from balancer.report.charts.parts import class_colour, energy_axis
from balancer.report.questions import Ask, Window, answer


def build(ask: Ask, span: Window, interactive: bool) -> Picture | None:
    """Bars of joules, stacked by class; runs without a power reading are not in it."""
    rows = [row for row in answer(ask, "throughput", span, buckets=60) if row["joules"] is not None]
    if not rows:
        return None
    bars, colour = bars_of(rows, "joules"), class_colour(ask, span, rows)
    return class_bars("energy", bars, span, interactive, label="energy", axis=energy_axis(), colour=colour)
