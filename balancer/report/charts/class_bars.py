"""Bars over time, stacked by hardware class: what `throughput` and `energy` have in common."""

from __future__ import annotations

from typing import Any

import altair as alt

from balancer.report.charts import Picture
from balancer.report.charts.parts import amount, data, stacked, time_axis, title, when, zoomed
from balancer.report.palette import WIDTH
from balancer.report.questions import Rows, Window


def bars_of(rows: Rows, column: str) -> Rows:
    """Bars of `column` of the rows of `sql/throughput.sql`, with a gap between two buckets."""
    return [
        {**row, "stop": row["start"] + 0.9 * (row["stop"] - row["start"])}
        for row in stacked(rows, column, "class")
    ]


def class_bars(
    metric: str, bars: Rows, span: Window, interactive: bool, *, label: str, axis: Any, colour: Any
) -> Picture:
    """The picture of `bars`."""
    chart = (
        alt.Chart(data("runs"), title=title(metric))
        .mark_rect(clip=interactive)
        .encode(
            x=time_axis(span, zoom=interactive),
            x2="stop:T",
            y=alt.Y("from:Q", title=label, axis=axis),
            y2="to:Q",
            color=colour,
            tooltip=[
                when(),
                alt.Tooltip("class:N", title="hardware class"),
                amount("runs", "runs", ",d"),
                amount("succeeded", "of them successful", ",d"),
                amount("seconds", "mean time (s)"),
                amount("joules", "energy (J)", ",.0f"),
            ],
        )
        .properties(width=WIDTH - 90, height=200)
    )
    return Picture(chart=zoomed(chart, interactive), datasets={"runs": bars})
