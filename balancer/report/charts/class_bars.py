"""Bars over time, stacked by hardware class: what `throughput` and `energy` have in common."""

from __future__ import annotations

from typing import Any

import altair as alt

from balancer.report.charts import Picture
from balancer.report.charts.parts import amount, data, stacked, time_axis, title, when, whole_axis, zoomed
from balancer.report.palette import WIDTH
from balancer.report.questions import Rows, Window


def class_bars(
    metric: str, rows: Rows, span: Window, interactive: bool, *, column: str, label: str, colour: Any
) -> Picture:
    """The picture of `column` of the rows of `sql/throughput.sql`."""
    bars = [
        {**row, "stop": row["start"] + 0.9 * (row["stop"] - row["start"])}
        for row in stacked(rows, column, "class")
    ]
    chart = (
        alt.Chart(data("runs"), title=title(metric))
        .mark_rect(clip=interactive)
        .encode(
            x=time_axis(span, zoom=interactive),
            x2="stop:T",
            y=alt.Y("from:Q", title=label, axis=whole_axis(bars)),
            y2="to:Q",
            color=colour,
            tooltip=[
                when(),
                alt.Tooltip("class:N", title="hardware class"),
                amount("runs", "runs", ",d"),
                amount("succeeded", "of them successful", ",d"),
                amount("seconds", "mean time (s)"),
                amount("joules", "energy (J)", ",.3~s"),
            ],
        )
        .properties(width=WIDTH - 90, height=200)
    )
    return Picture(chart=zoomed(chart, interactive), datasets={"runs": bars})
