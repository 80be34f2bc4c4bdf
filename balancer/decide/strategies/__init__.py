"""The policies behind `balancer.decide.situation.Strategy`, by the name the operator gives.

Chosen once at start by `balancer.wiring`, which also resolves import paths (module:Class) of other people's.
"""

from __future__ import annotations

import difflib
from typing import Final

from balancer.decide.situation import Strategy
from balancer.errors import SettingError

#: The names `by_name` knows.
NAMES: Final = ("static", "fixed", "adaptive", "priced")


def by_name(name: str) -> Strategy:
    """The strategy of this name. Raises `SettingError` with the option, the value and the nearest name."""
    if name == "static":
        from balancer.decide.strategies.static import Static

        return Static()
    if name == "priced":
        from balancer.decide.strategies.priced import Priced

        return Priced()
    if name == "fixed":
        from balancer.decide.strategies.fixed import Fixed

        return Fixed()
    if name == "adaptive":
        from balancer.decide.strategies.adaptive import Adaptive

        return Adaptive()
    near = difflib.get_close_matches(name, NAMES, n=1)
    meant = f", did you mean {near[0]!r}?" if near else ""
    raise SettingError(
        f"option 'balancer_strategy': {name!r} is none of {', '.join(NAMES)} "
        f"and no import path (module:Class){meant}"
    )
