"""What was foreseen against what came, and how accurate that was."""

from __future__ import annotations

from datetime import UTC, datetime

import altair as alt

from balancer.report.charts import Picture
from balancer.report.charts.parts import (
    amount,
    beneath,
    data,
    ratio_scale,
    share,
    time_axis,
    title,
    when,
    zoomed,
)
from balancer.report.palette import BLUE, GREEN, ORANGE, WIDTH
from balancer.report.questions import Ask, Rows, Window, answer
from balancer.report.words import count

_KINDS = ["foreseen", "came"]
_LEGEND = alt.Legend(title=None, orient="top", symbolType="stroke", symbolSize=500)


def build(ask: Ask, span: Window, interactive: bool) -> Picture | None:
    """Above the forecast with its interval and the truth, below the accuracy (1 − |error|)."""
    rows = answer(ask, "prediction_accuracy", span, buckets=120)
    if not any(row["accuracy"] is not None for row in rows):
        rows = answer(ask, "prediction_accuracy_of_ticks", span, buckets=120) or rows
    if not rows:
        return None
    lines: Rows = [
        {**row, "kind": kind, "load": row[column]}
        for row in rows
        for kind, column in zip(_KINDS, ("value", "truth"), strict=True)
        if row[column] is not None
    ]
    last = max(span.until, *(row["start"] / 1000 for row in rows))
    reach = Window(since=span.since, until=last, tick_s=span.tick_s)
    datasets = {"forecasts": rows, "loads": lines}
    judged = [row for row in rows if row["accuracy"] is not None]
    if not judged:
        loads = _loads(reach, interactive, labels=True)
        chart = alt.layer(loads, _said(), title=title("prediction_accuracy"))
        return Picture(chart=zoomed(chart, interactive), datasets={**datasets, "said": [_wait(rows, span)]})
    charts = [_loads(reach, interactive, labels=False), _accuracy(reach, interactive)]
    chart = beneath(charts, interactive, title("prediction_accuracy", _sentence(judged)))
    return Picture(chart=chart, datasets=datasets)


def _said() -> alt.Chart:
    """Words in the plot, in place of an accuracy that nobody knows yet."""
    words = alt.Chart(data("said")).mark_text(align="left", x=12, y=60, fontSize=13, lineBreak="\n")
    return words.encode(text="said:N")


def _wait(rows: Rows, span: Window) -> dict[str, str]:
    ends = datetime.fromtimestamp(span.until, UTC).strftime("%H:%M:%S")
    said = ("No forecast has been judged yet.", f"The first is due at {rows[0]['due']} UTC;",
            f"the ledger goes to {ends}.")
    return {"said": "\n".join(said)}


def _sentence(judged: Rows) -> str:
    total = sum(row["forecasts"] for row in judged)
    accuracy = sum(row["accuracy"] * row["forecasts"] for row in judged) / total
    inside = [row for row in judged if row["inside"] is not None]
    text = f"Mean accuracy {accuracy:.1%} over {count(total, 'forecast')} of the system's load that came due"
    if not inside:
        return text + "."
    hit = sum(row["inside"] * row["forecasts"] for row in inside) / sum(row["forecasts"] for row in inside)
    return f"{text}; {hit:.0%} of the time the load was inside the shaded interval."


def _tooltip() -> list[alt.Tooltip]:
    return [
        when("due (UTC)"),
        share("value", "foreseen"),
        share("low", "interval from"),
        share("high", "interval to"),
        share("truth", "came"),
        share("accuracy", "accuracy"),
        share("confidence", "confidence"),
        alt.Tooltip("method:N", title="method"),
        amount("forecasts", "forecasts"),
    ]


def _loads(span: Window, interactive: bool, *, labels: bool) -> alt.LayerChart:
    x = time_axis(span, labels=labels, zoom=interactive)
    scale = ratio_scale(clamp=True)
    y = alt.Y("load:Q", title="system load", scale=scale, axis=alt.Axis(format=".0%"))
    band = (
        alt.Chart(data("forecasts"))
        .mark_area(opacity=0.2, color=ORANGE, clip=interactive)
        .encode(x=x, y=alt.Y("low:Q", title="system load", scale=scale), y2="high:Q")
    )
    lines = (
        alt.Chart(data("loads"))
        .mark_line(strokeWidth=2, clip=interactive, point=alt.OverlayMarkDef(size=18))
        .encode(
            x=x,
            y=y,
            color=alt.Color(
                "kind:N",
                scale=alt.Scale(domain=_KINDS, range=[ORANGE, BLUE]),
                legend=_LEGEND,
            ),
            strokeDash=alt.StrokeDash(
                "kind:N", scale=alt.Scale(domain=_KINDS, range=[[5, 3], [1, 0]]), legend=_LEGEND
            ),
            tooltip=_tooltip(),
        )
    )
    return alt.layer(band, lines).properties(width=WIDTH - 90, height=200)


def _accuracy(span: Window, interactive: bool) -> alt.Chart:
    return (
        alt.Chart(data("forecasts"))
        .mark_line(
            color=GREEN, strokeWidth=1.5, clip=interactive, point=alt.OverlayMarkDef(color=GREEN, size=18)
        )
        .encode(
            x=time_axis(span, zoom=interactive),
            y=alt.Y(
                "accuracy:Q", title="accuracy", scale=ratio_scale(), axis=alt.Axis(format=".0%")
            ),
            tooltip=_tooltip(),
        )
        .transform_filter("isValid(datum.accuracy)")
        .properties(width=WIDTH - 90, height=110)
    )
