"""Workers by time, coloured by load."""

from __future__ import annotations

import altair as alt

from balancer.report.charts import Picture
from balancer.report.charts.parts import amount, data, share, time_axis, title, when, zoomed
from balancer.report.palette import WIDTH
from balancer.report.questions import Ask, Window, answer

#: Height of a row (px): comfortable for a dozen workers, still legible for four dozen.
_ROOMY, _TIGHT = 22, 14


def build(ask: Ask, span: Window, interactive: bool) -> Picture | None:
    """The heatmap; a gap is a worker that did not report."""
    rows = answer(ask, "system_load", span, buckets=120)
    if not rows:
        return None
    lines = len({row["row"] for row in rows})
    single = all(row["workers"] == 1 for row in rows)
    sentence = (
        "" if single else "The mean load of each hardware class: there are too many workers for a row each."
    )
    chart = (
        alt.Chart(data("load"), title=title("system_load", sentence))
        .mark_rect(clip=interactive, x2Offset=0.6)
        .encode(
            x=time_axis(span, zoom=interactive),
            x2="stop:T",
            y=alt.Y("row:N", title=None, sort=None, axis=alt.Axis(grid=False, ticks=False, domain=False)),
            color=alt.Color(
                "load:Q",
                scale=alt.Scale(scheme="cividis", domain=[0, 1]),
                legend=alt.Legend(
                    title="load", format=".0%", orient="right", gradientLength=140, tickCount=3
                ),
            ),
            tooltip=[
                alt.Tooltip("row:N", title="who"),
                when(),
                share("load", "mean load"),
                share("peak", "greatest load"),
                amount("workers", "workers"),
                amount("power_w", "mean power (W)"),
            ],
        )
        .properties(width=WIDTH - 300, height=alt.Step(_ROOMY if lines <= 24 else _TIGHT))
    )
    return Picture(chart=zoomed(chart, interactive), datasets={"load": rows})
