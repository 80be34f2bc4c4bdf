"""How moves ended: their success rate over the counts behind it."""

from __future__ import annotations

import altair as alt

from balancer.report.charts import Picture
from balancer.report.charts.parts import (
    amount,
    beneath,
    data,
    ratio_scale,
    share,
    stacked,
    time_axis,
    title,
    when,
    whole_axis,
)
from balancer.report.palette import GREEN, OUTCOMES, WIDTH
from balancer.report.questions import Ask, Rows, Window, answer
from balancer.report.words import count, in_number

#: Bars wide enough to be read one by one.
_BUCKETS = 48


def build(ask: Ask, span: Window, interactive: bool) -> Picture | None:
    """Above the share of ended moves that were completed, below the moves by how they ended."""
    rows = answer(ask, "migration_success_rate", span, buckets=_BUCKETS)
    rows = rows or answer(ask, "migration_success_rate_of_ticks", span, buckets=_BUCKETS)
    if not rows:
        return None
    width_ms = 1000 * span.bucket_s(_BUCKETS)
    places = list(OUTCOMES)
    rows = [
        {
            **row,
            "stop": row["start"] + 0.9 * width_ms,
            "middle": row["start"] + 0.45 * width_ms,
            "place": places.index(row["outcome"]) if row["outcome"] in OUTCOMES else len(places),
        }
        for row in rows
    ]
    rows = stacked(rows, "moves", "place")
    charts = [_rates(span, interactive), _counts(span, rows, interactive)]
    overall = _overall(rows)
    chart = beneath(charts, interactive, title("migration_success_rate", overall))
    return Picture(chart=chart.resolve_scale(x="shared"), datasets={"moves": rows, "rates": _by_bucket(rows)})


def _by_bucket(rows: Rows) -> Rows:
    """Completed and ended moves of each bucket in which any ended."""
    buckets: Rows = []
    for start in sorted({row["start"] for row in rows}):
        ended = [row for row in rows if row["start"] == start and row["outcome"] != "under way"]
        if ended:
            total = sum(row["moves"] for row in ended)
            completed = sum(row["moves"] for row in ended if row["outcome"] == "completed")
            first = {"middle": ended[0]["middle"], "when": ended[0]["when"]}
            buckets.append({**first, "completed": completed, "ended": total, "rate": completed / total})
    return buckets


def _overall(rows: Rows) -> str:
    ended = sum(row["moves"] for row in rows if row["outcome"] != "under way")
    completed = sum(row["moves"] for row in rows if row["outcome"] == "completed")
    if not ended:
        return "No move has ended yet."
    was = in_number(ended, "was", "were")
    return f"{completed:,} of {count(ended, 'move')} that ended {was} completed: {completed / ended:.0%}."


def _rates(span: Window, interactive: bool) -> alt.Chart:
    return (
        alt.Chart(data("rates"))
        .mark_line(
            color=GREEN, strokeWidth=1.5, clip=interactive, point=alt.OverlayMarkDef(color=GREEN, size=40)
        )
        .encode(
            x=time_axis(span, "middle", labels=False, zoom=interactive),
            y=alt.Y("rate:Q", title="completed", scale=ratio_scale(), axis=alt.Axis(format=".0%")),
            tooltip=[
                when(),
                share("rate", "success rate"),
                amount("completed", "completed"),
                amount("ended", "ended"),
            ],
        )
        .properties(width=WIDTH - 90, height=130)
    )


def _counts(span: Window, rows: Rows, interactive: bool) -> alt.Chart:
    present = [outcome for outcome in OUTCOMES if any(row["outcome"] == outcome for row in rows)]
    colours = [OUTCOMES[outcome] for outcome in present]
    return (
        alt.Chart(data("moves"))
        .mark_rect(clip=interactive)
        .encode(
            x=time_axis(span, zoom=interactive),
            x2="stop:T",
            y=alt.Y("from:Q", title="moves", axis=whole_axis(rows)),
            y2="to:Q",
            color=alt.Color(
                "outcome:N",
                scale=alt.Scale(domain=present, range=colours),
                legend=alt.Legend(title=None, orient="top"),
            ),
            tooltip=[
                when(),
                alt.Tooltip("outcome:N", title="ended as"),
                amount("moves", "moves"),
                amount("tasks", "tasks"),
                amount("proactive", "foreseen"),
                amount("seconds", "mean time (s)"),
            ],
        )
        .properties(width=WIDTH - 90, height=150)
    )
