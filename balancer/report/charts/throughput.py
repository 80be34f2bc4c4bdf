"""Runs that ended, by hardware class."""

from __future__ import annotations

from balancer.report.charts import Picture
from balancer.report.charts.class_bars import class_bars
from balancer.report.charts.parts import class_colour
from balancer.report.questions import Ask, Window, answer


def build(ask: Ask, span: Window, interactive: bool) -> Picture | None:
    """Bars of runs, stacked by class."""
    rows = answer(ask, "throughput", span, buckets=60)
    if not rows:
        return None
    colour = class_colour(ask, span)
    return class_bars("throughput", rows, span, interactive, column="runs", label="runs", colour=colour)
