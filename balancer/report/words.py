"""Numbers as a person says them."""

from __future__ import annotations

import math


def count(number: float | None, noun: str, plural: str | None = None) -> str:
    """ "1 move", "2 moves", "1,200 moves", "no moves"."""
    amount = int(number or 0)
    return f"{amount or 'no':{',' if amount else ''}} {in_number(amount, noun, plural)}"


def in_number(number: float, noun: str, plural: str | None = None) -> str:
    """The noun or verb that goes with this number: "task" with 1, else "tasks"."""
    return noun if number == 1 else plural or noun + "s"


def percent(ratio: float | None, places: int = 0) -> str:
    """A 0–1 ratio in percent; "unknown" when there is none."""
    return "unknown" if ratio is None else f"{100 * ratio:.{places}f} %"


def seconds(duration: float | None) -> str:
    """A duration in the unit that suits it."""
    if duration is None:
        return "unknown"
    for limit, unit, size in ((1, "ms", 0.001), (120, "s", 1), (7200, "min", 60), (172_800, "h", 3600)):
        if abs(duration) < limit:
            return f"{figure(duration / size)} {unit}"
    return f"{figure(duration / 86_400)} days"


def joules(energy: float | None) -> str:
    """An energy in J, kJ, MJ or kWh."""
    if energy is None:
        return "unknown"
    for limit, unit, size in ((1e3, "J", 1), (1e6, "kJ", 1e3), (3.6e6, "MJ", 1e6)):
        if abs(energy) < limit:
            return f"{figure(energy / size)} {unit}"
    return f"{figure(energy / 3.6e6)} kWh"


def figure(number: float) -> str:
    """Three figures that count, without an exponent."""
    if not number or not math.isfinite(number):
        return "0"
    places = max(0, 2 - math.floor(math.log10(abs(number))))
    text = f"{number:,.{min(places, 3)}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
