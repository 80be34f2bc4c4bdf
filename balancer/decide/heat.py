"""Warm devices count as slower, so that cooler ones take the work before heat slows anything. Pure.

Within the last degrees before `HOT_CELSIUS`, from which on a device takes nothing; what is surely on its way
there counts as warm already. Relative to the coolest device of the class: at low load that one is asked
first, under load all are needed and all work. `learn` keeps the temperatures of the last looks; read by
`capacity` (nobody waits for a warm device) and by `order` (the guard of a warm one).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np

from balancer.decide.columns import TEMPERATURE, Columns, Floats
from balancer.decide.forecasters import line
from balancer.decide.kept import kept
from balancer.model import Fleet
from balancer.model.table import WorkerTable
from balancer.routing import HOT_CELSIUS
from balancer.settings import Settings

#: From so many degrees below the limit on warmth counts: devices throttle from about there on.
WARMING_CELSIUS: Final = 15.0

#: The least share of its speed that a warm device counts with.
LEAST: Final = 0.05

#: A cooler device is not near its limit by the time that is foreseen (°C): none warms by 2 °C a second.
WATCHED_CELSIUS: Final = HOT_CELSIUS - 3 * WARMING_CELSIUS

#: Looks that a trend is taken from, no older than so long (s), and how far ahead it is believed (s): about as
#: far as looks of a second each lie back. A device warms and cools within minutes, and its trend bends.
LOOKS: Final = 12
OLDEST_S: Final = 60.0
AHEAD_S: Final = 15.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Warming:
    """The temperatures `celsius` (looks, names) at the last looks, `times` (s, ascending); none while no
    device is near its limit. A few looks tell it anew, so that it outlives no process."""

    times: tuple[float, ...] = ()
    names: tuple[str, ...] = ()
    celsius: Floats = field(default_factory=lambda: np.empty((0, 0)))


#: What is known where nothing is near its limit.
COOL: Final = Warming()


def learn_warming(past: Warming, fleet: Fleet, settings: Settings) -> Warming:
    """The temperatures of the last looks after this one."""
    workers = WorkerTable.of(fleet.workers)
    names, now = workers.roster.names, workers.numbers.readings[:, TEMPERATURE]
    if not settings.enable_resource_efficiency or not (now > WATCHED_CELSIUS).any():
        return COOL
    places = [i for i, at in enumerate(past.times) if fleet.at - OLDEST_S <= at < fleet.at][1 - LOOKS:]
    before = past.celsius[places]
    if places and names != past.names:
        known = {name: i for i, name in enumerate(past.names)}
        rows = np.array([known.get(name, -1) for name in names], dtype=np.intp)
        before = np.where(rows >= 0, before[:, rows], np.nan)
    times = (*(past.times[i] for i in places), fleet.at)
    return Warming(times=times, names=names, celsius=np.vstack([before, now]) if places else now[None].copy())


@kept
def foreseen(workers: WorkerTable, warming: Warming) -> Floats:
    """How warm each worker's device (W,) is or, where that is more, surely will be in `AHEAD_S`: the lower
    end of the 80 % interval of the line through the last looks (`forecasters`). NaN without a reading."""
    now = workers.numbers.readings[:, TEMPERATURE]
    near = np.flatnonzero(now > WATCHED_CELSIUS)
    if not near.size or warming.names != workers.roster.names:
        return now
    trend = line(np.array(warming.times), warming.celsius[:, near], AHEAD_S)
    celsius = now.copy()
    celsius[near] = np.fmax(now[near], trend.value - trend.half)
    return celsius


@kept
def eagerness(seen: Columns, warming: Warming, settings: Settings) -> Floats:
    """The share (W,) of its speed that each worker counts with: 1 for cool ones and those without a reading,
    falling in proportion to the degrees that are left, over that of the coolest healthy one of its class."""
    celsius = foreseen(seen.runs.workers, warming)
    warm = celsius > HOT_CELSIUS - WARMING_CELSIUS
    if not settings.enable_resource_efficiency or not warm.any():
        return np.ones(celsius.size)
    left = np.where(warm, np.maximum(LEAST, (HOT_CELSIUS - celsius) / WARMING_CELSIUS), 1.0)
    cool, hottest = seen.ok & ~warm, np.flatnonzero(seen.ok & warm)
    coolest = np.bincount(seen.place[cool], minlength=len(seen.classes)).clip(max=1).astype(np.float64)
    np.maximum.at(coolest, seen.place[hottest], left[hottest])
    coolest[coolest <= 0] = 1.0
    share: Floats = np.minimum(1.0, left / coolest[seen.place])
    return share
