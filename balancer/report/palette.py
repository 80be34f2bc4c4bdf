"""Colours and the look of the pictures, on white and on black.

The hues are those of Okabe and Ito (2008), told apart with any colour vision, moved to a
lightness that both backgrounds carry.
"""

from __future__ import annotations

from typing import Any, Final

BLUE: Final = "#3b82c4"
ORANGE: Final = "#e08a00"
GREEN: Final = "#009e73"
RED: Final = "#d55e00"
PURPLE: Final = "#b66da0"
SKY: Final = "#56b4e9"
YELLOW: Final = "#c2b020"
GREY: Final = "#8c8c8c"

#: For hardware classes, in the order they appear.
CATEGORIES: Final = (BLUE, ORANGE, GREEN, PURPLE, SKY, RED, YELLOW, GREY)

#: How a move ended, good first.
OUTCOMES: Final = {
    "completed": GREEN,
    "under way": SKY,
    "refused": ORANGE,
    "stale": RED,
    "cancelled": PURPLE,
    "not completed": ORANGE,
}

#: Width of every picture (px); a page scrolls where it is wider than the screen.
WIDTH: Final = 900

FONT: Final = "system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif"


def config(*, dark: bool, background: str | None = None) -> dict[str, Any]:
    """A Vega-Lite config for a dark or a light page; transparent unless a background is given."""
    ink, quiet, line = ("#e8e8e8", "#b5b5b5", "#3d3d3d") if dark else ("#1f1f1f", "#555555", "#e2e2e2")
    return {
        "background": background or "transparent",
        "font": FONT,
        "padding": 8,
        "title": {
            "color": ink,
            "subtitleColor": quiet,
            "fontSize": 15,
            "subtitleFontSize": 12,
            "anchor": "start",
            "offset": 10,
            "subtitlePadding": 4,
        },
        "axis": {
            "labelColor": quiet,
            "titleColor": quiet,
            "gridColor": line,
            "domainColor": line,
            "tickColor": line,
            "labelFontSize": 11,
            "titleFontSize": 11,
            "titleFontWeight": "normal",
            "labelLimit": 260,
        },
        "axisX": {"grid": False},
        "legend": {
            "labelColor": quiet,
            "titleColor": quiet,
            "labelFontSize": 11,
            "titleFontSize": 11,
            "titleFontWeight": "normal",
            "labelLimit": 260,
        },
        "text": {"color": quiet},
        "view": {"stroke": None},
        "range": {"category": list(CATEGORIES)},
        "concat": {"spacing": 14},
    }
