"""Pieces that several pictures share: the time axis in UTC, titles, zooming, a class's colour."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

import altair as alt

from balancer.report.charts import METRICS
from balancer.report.palette import CATEGORIES
from balancer.report.questions import DAY_S, Ask, Rows, Window, answer

#: Bars no higher than this get a tick for each whole number.
FEW: Final = 5

#: Pixels within a plot's edges that are kept for marks at the ends of its scales.
EDGE: Final = 5


def data(name: str) -> Any:
    """Rows that the picture carries under this name."""
    return alt.NamedData(name=name)


def time_axis(span: Window, field: str = "start", *, labels: bool = True, zoom: bool = False) -> Any:
    """The x of a time: UTC, with seconds, hours or days as the span needs.

    The domain is the whole span, so that pictures beside each other line up.
    """
    form = "%H:%M:%S" if span.span_s < 1200 else "%H:%M" if span.span_s < 1.5 * DAY_S else "%d %b"
    if 1.5 * DAY_S <= span.span_s < 4 * DAY_S:
        form = "%d %b %H:%M"
    stop = max(span.until, span.since + 1)
    domain = [round(1000 * span.since), round(1000 * stop)]
    return alt.X(
        f"{field}:T",
        scale=alt.Scale(
            type="utc", domainMin=domain[0], domainMax=domain[1], nice=False, padding=EDGE, clamp=not zoom
        ),
        axis=alt.Axis(
            format=form, labels=labels, tickCount=8, labelOverlap=True, labelFlush=True,
            title=f"time (UTC), {_dates(span)}" if labels else None,
        ),
    )  # fmt: skip


def title(name: str, sentence: str = "") -> Any:
    """The metric's title over the sentence that says how to read the picture."""
    return alt.TitleParams(METRICS[name].title, subtitle=sentence or METRICS[name].about)


def zoomed(chart: Any, interactive: bool) -> Any:
    """The chart, with a horizontal zoom and pan when `interactive`."""
    return chart.add_params(_zoom()) if interactive else chart


def beneath(charts: Sequence[Any], interactive: bool, heading: Any) -> Any:
    """The charts one beneath the other; `interactive` zooms and pans them together."""
    if not interactive:
        return alt.vconcat(*charts, title=heading)
    zoom = _zoom()
    with warnings.catch_warnings():
        # Altair warns that it makes one parameter of those with one name: here that is the purpose.
        warnings.filterwarnings("ignore", message="Automatically deduplicated", category=UserWarning)
        return alt.vconcat(*(chart.add_params(zoom) for chart in charts), title=heading)


def _zoom() -> Any:
    return alt.selection_interval(bind="scales", encodings=["x"], name="zoom")


def stacked(rows: Rows, column: str, order: str) -> Rows:
    """The rows with `from` and `to`: `column` laid upon those before it in the same bucket, by `order`."""
    tops: dict[Any, float] = {}
    laid = []
    for row in sorted(rows, key=lambda row: (row["start"], row[order])):
        bottom = tops.get(row["start"], 0.0)
        tops[row["start"]] = bottom + row[column]
        laid.append({**row, "from": bottom, "to": tops[row["start"]]})
    return laid


def whole_axis(bars: Rows) -> Any:
    """The axis of stacked bars, without ticks between whole numbers where the bars are low."""
    top = max((row["to"] for row in bars), default=0.0)
    ticks = {"tickCount": max(1, round(top))} if top <= FEW else {}
    return alt.Axis(format=",~f", **ticks)


def energy_axis() -> Any:
    """The axis of an energy in joules, each label with its unit: "500 J", "10 kJ"."""
    return alt.Axis(labelExpr="replace(format(datum.value, '~s'), /([a-z]?)$/i, ' $1J')")


def class_colour(ask: Ask, span: Window, drawn: Rows) -> Any:
    """Colour by the column `class`, the same for a class in every picture of a ledger.

    The legend names the classes of the rows that are drawn.
    """
    classes = [row["class"] for row in answer(ask, "classes", span)]
    colours = [CATEGORIES[place % len(CATEGORIES)] for place in range(len(classes))]
    there = {row["class"] for row in drawn}
    shown = [name for name in classes if name in there]
    legend = alt.Legend(title="hardware class", orient="top", columns=4, values=shown)
    return alt.Color("class:N", scale=alt.Scale(domain=classes, range=colours), legend=legend)


def when(label: str = "from (UTC)") -> Any:
    """The tooltip line of a time bucket's start."""
    return alt.Tooltip("when:N", title=label)


def ratio_scale(*, clamp: bool = False) -> Any:
    """The scale of a 0–1 ratio with room for the marks at its ends, which a zoomed picture cuts off."""
    return alt.Scale(domain=[0, 1], padding=EDGE, nice=False, clamp=clamp)


def share(field: str, label: str) -> Any:
    """A tooltip line of a 0–1 ratio in percent."""
    return alt.Tooltip(f"{field}:Q", title=label, format=".0%")


def amount(field: str, label: str, form: str = ",.3~r") -> Any:
    """A tooltip line of a number."""
    return alt.Tooltip(f"{field}:Q", title=label, format=form)


def _dates(span: Window) -> str:
    first, last = (datetime.fromtimestamp(at, UTC).strftime("%d %b %Y") for at in (span.since, span.until))
    return first if first == last else f"{first} to {last}"
