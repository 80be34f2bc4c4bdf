"""Candidates for moves by what they would cost and gain."""

from __future__ import annotations

from typing import Any

import altair as alt

from balancer.report.charts import Picture
from balancer.report.charts.parts import amount, data, title
from balancer.report.palette import GREEN, GREY, ORANGE, WIDTH
from balancer.report.questions import Ask, Rows, Window, answer
from balancer.report.words import count

#: Where benefits go beyond this, the axis is a symmetric logarithm.
_LINEAR_LIMIT = 40.0

#: Pixels within the plot's edges for the largest mark, which a zoomed picture would cut off.
_EDGE = 16


def build(ask: Ask, span: Window, interactive: bool) -> Picture | None:
    """Made and refused candidates; the area of a mark is how many. Above the line the benefit is greater."""
    rows = answer(ask, "cost_benefit", span)
    if not rows:
        return None
    most = max(1.0, *(max(row["cost"], row["benefit"]) for row in rows))
    kind = "linear" if most <= _LINEAR_LIMIT else "symlog"
    costs = max(10.0, *(row["cost"] for row in rows))
    line = [{"cost": 0.0, "benefit": 0.0}, {"cost": costs, "benefit": costs}]
    points = _points(rows, costs, kind, interactive)
    even = (
        alt.Chart(data("even")).mark_line(strokeDash=[4, 4], color=GREY, clip=interactive)
        .encode(x="cost:Q", y="benefit:Q")
    )  # fmt: skip
    chart = alt.layer(even, points, title=title("cost_benefit", _sentence(rows)))
    chart = chart.properties(width=WIDTH - 240, height=360)
    return Picture(
        chart=chart.interactive() if interactive else chart, datasets={"candidates": rows, "even": line}
    )


def _sentence(rows: Rows) -> str:
    made, refused = (sum(r["candidates"] for r in rows if r["outcome"] == o) for o in ("made", "refused"))
    return (
        f"{count(made, 'move')} made, {refused:,} refused. "
        "Above the dashed line the benefit is greater than the cost."
    )


def _points(rows: Rows, costs: float, kind: str, interactive: bool) -> alt.Chart:
    return (
        alt.Chart(data("candidates"))
        .mark_point(filled=True, opacity=0.7, clip=interactive)
        .encode(
            x=alt.X(
                "cost:Q",
                title="cost (points, 0–10)",
                scale=alt.Scale(domain=[0, costs], padding=_EDGE, nice=False),
                axis=alt.Axis(grid=True, tickCount=10, format="~r"),
            ),
            y=alt.Y(
                "benefit:Q",
                title="benefit (points, 0 and more)",
                scale=alt.Scale(type=kind, padding=_EDGE, nice=False),
                axis=alt.Axis(tickCount=8, format="~s"),
            ),
            **_marks(max(row["candidates"] for row in rows)),
            tooltip=_tooltip(),
        )
    )


def _marks(most: int) -> dict[str, Any]:
    """Colour and shape for what became of a candidate, size for how many, `most` in one place."""
    outcomes = ["made", "refused"]
    return {
        "color": alt.Color(
            "outcome:N",
            scale=alt.Scale(domain=outcomes, range=[GREEN, ORANGE]),
            legend=alt.Legend(title=None),
        ),
        "shape": alt.Shape(
            "outcome:N",
            scale=alt.Scale(domain=outcomes, range=["circle", "diamond"]),
            legend=alt.Legend(title=None),
        ),
        "size": alt.Size(
            "candidates:Q",
            scale=alt.Scale(domain=[1, max(2, most)], range=[40, 600]),
            legend=alt.Legend(
                title="candidates",
                values=sorted({1, (1 + most) // 2, most}),
                symbolFillColor=GREY,
                format="~s",
            ),
        ),
    }


def _tooltip() -> list[alt.Tooltip]:
    return [
        alt.Tooltip("outcome:N", title="outcome"),
        amount("cost", "cost (points)"),
        amount("benefit", "benefit (points)"),
        amount("candidates", "candidates", ",d"),
        alt.Tooltip("reason:N", title="most often because"),
        alt.Tooltip("profile:N", title="most often of"),
        amount("cost_s", "mean cost (s)"),
        amount("benefit_s", "mean benefit (s)"),
    ]
