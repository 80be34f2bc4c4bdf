"""Warm devices count as slower, so that cooler ones take the work before heat slows anything. Pure.

Within the last degrees before `HOT_CELSIUS`, from which on a device takes nothing. Relative to the coolest
device of the class: at low load that one is asked first, under load all are needed and all work. Read by
`capacity` (nobody waits for a warm device) and by `order` (the guard of a warm one).
"""

from __future__ import annotations

from typing import Final

import numpy as np

from balancer.decide.columns import TEMPERATURE, Columns, Floats
from balancer.routing import HOT_CELSIUS
from balancer.settings import Settings

#: From so many degrees below the limit on warmth counts: devices throttle from about there on.
WARMING_CELSIUS: Final = 15.0

#: The least share of its speed that a warm device counts with.
LEAST: Final = 0.05


def eagerness(seen: Columns, settings: Settings) -> Floats:
    """The share (W,) of its speed that each worker counts with: 1 for cool ones and those without a reading,
    falling in proportion to the degrees that are left, over that of the coolest healthy one of its class."""
    celsius = seen.runs.workers.numbers.readings[:, TEMPERATURE]
    warm = celsius > HOT_CELSIUS - WARMING_CELSIUS
    if not settings.enable_resource_efficiency or not warm.any():
        return np.ones(celsius.size)
    left = np.where(warm, np.maximum(LEAST, (HOT_CELSIUS - celsius) / WARMING_CELSIUS), 1.0)
    coolest = np.zeros(len(seen.classes))
    np.maximum.at(coolest, seen.place[seen.ok], left[seen.ok])
    coolest[coolest <= 0] = 1.0
    share: Floats = np.minimum(1.0, left / coolest[seen.place])
    return share
