"""The load between its two thresholds, over time."""

from __future__ import annotations

import altair as alt

from balancer.report.charts import Picture
from balancer.report.charts.parts import amount, data, ratio_scale, share, time_axis, title, when, zoomed
from balancer.report.palette import BLUE, GREEN, ORANGE, WIDTH
from balancer.report.questions import Ask, Rows, Window, answer

_LINES = {"high threshold": "high", "system load": "load", "low threshold": "low"}
_COLOURS = [ORANGE, BLUE, GREEN]
_DASHES = [[6, 3], [1, 0], [2, 2]]
_LEGEND = alt.Legend(title=None, orient="top", symbolType="stroke", symbolSize=500)


def build(ask: Ask, span: Window, interactive: bool) -> Picture | None:
    """Three lines, told apart by colour and by dash; the band is the range of the load in a bucket."""
    rows = answer(ask, "thresholds", span)
    if not rows:
        return None
    lines: Rows = [
        {**row, "line": name, "value": row[column]} for row in rows for name, column in _LINES.items()
    ]
    band = (
        alt.Chart(data("ticks"))
        .mark_area(opacity=0.18, color=BLUE, clip=interactive)
        .encode(
            x=time_axis(span, zoom=interactive),
            y=alt.Y("least:Q", title="utilization", scale=ratio_scale()),
            y2="greatest:Q",
        )
    )
    drawn = zoomed(_drawn(span, interactive, dots=len(rows) < 40), interactive)
    chart = alt.layer(band, drawn, title=title("thresholds")).properties(width=WIDTH - 90, height=260)
    return Picture(chart=chart, datasets={"ticks": rows, "lines": lines})


def _drawn(span: Window, interactive: bool, *, dots: bool) -> alt.Chart:
    scale = alt.Scale(domain=list(_LINES), range=_COLOURS)
    dashes = alt.Scale(domain=list(_LINES), range=_DASHES)
    point = alt.OverlayMarkDef(size=14) if dots else False
    return (
        alt.Chart(data("lines"))
        .mark_line(strokeWidth=2, clip=interactive, point=point)
        .encode(
            x=time_axis(span, zoom=interactive),
            y=alt.Y(
                "value:Q", title="utilization", scale=ratio_scale(), axis=alt.Axis(format=".0%")
            ),
            color=alt.Color("line:N", scale=scale, legend=_LEGEND),
            strokeDash=alt.StrokeDash("line:N", scale=dashes, legend=_LEGEND),
            tooltip=[
                when(),
                alt.Tooltip("line:N", title="line"),
                share("value", "value"),
                share("load", "system load"),
                share("high", "high threshold"),
                share("low", "low threshold"),
                share("imbalance", "imbalance (max − min)"),
                amount("ticks", "ticks"),
            ],
        )
    )
