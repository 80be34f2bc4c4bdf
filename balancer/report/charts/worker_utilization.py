"""The distribution of load, a line a worker."""

from __future__ import annotations

import altair as alt

from balancer.report.charts import Picture
from balancer.report.charts.parts import amount, class_colour, data, ratio_scale, share, title
from balancer.report.palette import WIDTH
from balancer.report.questions import Ask, Window, answer


def build(ask: Ask, span: Window, interactive: bool) -> Picture | None:
    """Thin line: 5 % to 95 % of the time; thick: the middle half; tick: the median; dot: the mean."""
    rows = answer(ask, "worker_utilization", span)
    if not rows:
        return None
    y = alt.Y("row:N", title=None, sort=None, axis=alt.Axis(grid=False, ticks=False, domain=False))
    axis = alt.Axis(format=".0%", grid=True, tickCount=10)
    base = alt.Chart(data("quantiles")).encode(
        y=y,
        color=class_colour(ask, span, rows),
        tooltip=[
            alt.Tooltip("row:N", title="who"),
            alt.Tooltip("class:N", title="hardware class"),
            share("mean", "mean"),
            share("p05", "5 % of the time below"),
            share("p25", "25 % below"),
            share("p50", "median"),
            share("p75", "75 % below"),
            share("p95", "95 % below"),
            amount("samples", "samples", ",d"),
        ],
    )
    x = alt.X("p05:Q", title="load", scale=ratio_scale(), axis=axis)
    layers = alt.layer(
        base.mark_rule(strokeWidth=1.5).encode(x=x, x2="p95:Q"),
        base.mark_bar(height=9, opacity=0.75, cornerRadius=2).encode(
            x=alt.X("p25:Q", title="load"), x2="p75:Q"
        ),
        base.mark_tick(thickness=2.5, size=15).encode(x=alt.X("p50:Q", title="load")),
        base.mark_point(filled=True, size=34, stroke="white", strokeWidth=1, opacity=1).encode(
            x=alt.X("mean:Q", title="load")
        ),
        title=title(
            "worker_utilization",
            "Thin: 5 to 95 % of the time. Thick: the middle half. Tick: median. Dot: mean.",
        ),
    )
    chart = layers.properties(width=WIDTH - 200, height=alt.Step(22 if len(rows) <= 24 else 14))
    return Picture(
        chart=chart.interactive(bind_y=False) if interactive else chart, datasets={"quantiles": rows}
    )
