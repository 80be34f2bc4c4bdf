"""Runs that ended, by hardware class."""

from __future__ import annotations

from balancer.report.charts import Picture
from balancer.report.charts.class_bars import bars_of, class_bars
from balancer.report.charts.parts import class_colour, whole_axis
from balancer.report.questions import Ask, Window, answer


def build(ask: Ask, span: Window, interactive: bool) -> Picture | None:
    """Bars of runs, stacked by class."""
    rows = answer(ask, "throughput", span, buckets=60)
    if not rows:
        return None
    bars, colour = bars_of(rows, "runs"), class_colour(ask, span, rows)
    axis = whole_axis(bars)
    return class_bars("throughput", bars, span, interactive, label="runs", axis=axis, colour=colour)
