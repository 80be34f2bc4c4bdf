"""Watts of hardware classes, and how much later a frugal one may be done with a task for the joules it saves.

Power is learned from what workers report: least squares of watts against slots in use, old reports fading.
Where nothing is told, the table of hardware profiles says how kinds compare. Called by `learn` after each
look and by `order` at each pricing; shown by `status`. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray

from balancer.model import HARDWARE_PROFILES, ClassPower, Fleet, HardwareProfile, Kind, as_kind
from balancer.model.table import READING_FIELDS, WorkerTable
from balancer.settings import Settings

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]

#: The column of the power in a fleet's readings.
POWER: Final = READING_FIELDS.index("power_w")

#: A report of power weighs half after so long (s): work changes, rooms warm, devices age.
HALF_LIFE_S: Final = 3600.0

#: Reports from which on a class's power is believed.
REPORTS: Final = 10.0

#: So many standard errors away from nothing, else what a slot adds is not told apart from chance.
SURE: Final = 3.0

#: Least variance of the slots in use that says anything of what one adds.
LEAST_VARIANCE: Final = 1e-6

#: A task waits for frugal hardware for so many of its own runs at most, however great the slack.
RUNS_WAITED: Final = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """Reports of one class's workers, faded to `at`: how many (`weight`), means of slots in use and of watts,
    their variances and covariance."""

    at: float
    weight: float
    busy: float
    watts: float
    busy_var: float
    watts_var: float
    cov: float

    @property
    def slot_w(self) -> float | None:
        """Watts that a slot in use adds; `None` while reports do not tell it apart from chance."""
        if self.weight < REPORTS or self.busy_var < LEAST_VARIANCE or self.cov <= 0:
            return None
        slope = self.cov / self.busy_var
        rest = max(0.0, self.watts_var - slope * self.cov)
        error = math.sqrt(rest / (self.busy_var * self.weight))
        return slope if slope > SURE * error else None

    @property
    def idle_w(self) -> float | None:
        """Watts of a worker that runs nothing; `None` while a slot's are not known."""
        slot = self.slot_w
        return None if slot is None else max(0.0, self.watts - slot * self.busy)


def learn_power(draws: Mapping[str, Draw], fleet: Fleet) -> Mapping[str, Draw]:
    """`draws` by hardware class after this look at the fleet."""
    workers = WorkerTable.of(fleet.workers)
    roster, numbers = workers.roster, workers.numbers
    told = np.flatnonzero(np.isfinite(numbers.readings[:, POWER]))
    if not told.size:
        return draws
    names = sorted({hardware.hardware_class for hardware in roster.unlike})
    column = {name: i for i, name in enumerate(names)}
    device = np.array([column[hardware.hardware_class] for hardware in roster.unlike], dtype=np.intp)
    place, watts = device[roster.which[told]], numbers.readings[told, POWER]
    busy = np.maximum(numbers.busy, workers.holdings.ran)[told]
    count = np.bincount(place)
    sums = np.array([np.bincount(place, values)
                     for values in (busy, watts, busy * busy, watts * watts, busy * watts)])
    found = dict(draws)
    for h in np.flatnonzero(count).tolist():
        n, name = float(count[h]), names[h]
        b, w, bb, ww, bw = (sums[:, h] / n).tolist()
        new = Draw(at=fleet.at, weight=n, busy=b, watts=w, busy_var=max(0.0, bb - b * b),
                   watts_var=max(0.0, ww - w * w), cov=bw - b * w)
        found[name] = _pooled(found[name], new) if name in found else new
    return MappingProxyType(found)


def _pooled(old: Draw, new: Draw) -> Draw:
    """Both together, the old one faded; pooled variances by Chan, Golub and LeVeque (1983)."""
    kept = old.weight * 0.5 ** (max(0.0, new.at - old.at) / HALF_LIFE_S)
    total = kept + new.weight
    a, b = kept / total, new.weight / total
    busy, watts = new.busy - old.busy, new.watts - old.watts
    return Draw(
        at=new.at, weight=total, busy=old.busy + b * busy, watts=old.watts + b * watts,
        busy_var=a * old.busy_var + b * new.busy_var + a * b * busy * busy,
        watts_var=a * old.watts_var + b * new.watts_var + a * b * watts * watts,
        cov=a * old.cov + b * new.cov + a * b * busy * watts,
    )


def class_power(draws: Mapping[str, Draw], fleet: Fleet) -> Mapping[str, ClassPower]:
    """What is known of the power of the classes that are there, and where from."""
    found: dict[str, ClassPower] = {}
    for hardware in WorkerTable.of(fleet.workers).roster.unlike:
        draw = draws.get(hardware.hardware_class)
        if draw is None or draw.slot_w is None:
            found.setdefault(hardware.hardware_class, ClassPower(source="table"))
        elif hardware.hardware_class not in found or hardware.emulated:
            found[hardware.hardware_class] = ClassPower(
                source="emulated" if hardware.emulated else "measured", slot_w=draw.slot_w,
                idle_w=draw.idle_w)
    return MappingProxyType(found)


def joules_saved(draws: Mapping[str, Draw], here: str, there: str, speedup: float) -> float | None:
    """The share of its joules (−1 to 1) that work saves on class `there`, where it is `speedup` times as fast
    as on class `here`; `None` where the power of either is not told."""
    watts = [draws[name].slot_w if name in draws else None for name in (here, there)]
    if watts[0] is None or watts[1] is None or not speedup > 0:
        return None
    before, after = watts[0], watts[1] / speedup
    return (before - after) / max(before, after)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Power:
    """What a slot in use draws above idle, by class (H,): `slot_w` in watts where it was told (`told`); else
    the table's, scaled to those that were, which compares `kinds` and says nothing within one."""

    slot_w: Array
    told: Flags
    kinds: Sequence[Kind | None]

    def comparable(self, rows: NDArray[np.intp]) -> Flags:
        """Whether each class's watts may be held against those of class `rows` (Y,): (Y, H)."""
        number = np.array([self.kinds.index(kind) for kind in self.kinds], dtype=np.intp)
        flags: Flags = (self.told & self.told[rows][:, None]) | (number != number[rows][:, None])
        return flags


def power_of(classes: Sequence[str], draws: Mapping[str, Draw],
             profiles: Mapping[str, HardwareProfile]) -> Power:
    """The power of these classes: learned, else by the table of `profiles`."""
    kinds = [as_kind(name.partition("-")[0]) for name in classes]
    table = np.array([table_watts(kind, profiles) for kind in kinds], dtype=np.float64)
    learned = [draws[name].slot_w if name in draws else None for name in classes]
    slot_w = np.array([np.nan if watts is None else watts for watts in learned], dtype=np.float64)
    told = np.isfinite(slot_w)
    scale = float(np.exp(np.log(slot_w[told] / table[told]).mean())) if told.any() else 1.0
    return Power(slot_w=np.where(told, slot_w, scale * table), told=told, kinds=kinds)


def table_watts(kind: Kind | None, profiles: Mapping[str, HardwareProfile]) -> float:
    """Relative watts of a kind by the table: its speed over its efficiency, as efficiency is work a joule."""
    profile = None if kind is None else profiles.get(kind, HARDWARE_PROFILES[kind])
    if profile is None or profile.energy_efficiency <= 0 or profile.performance_weight <= 0:
        return 1.0
    return profile.performance_weight / profile.energy_efficiency


def lateness(power: Power, seconds: Array, taken: Array, done: Array, slack_s: float) -> Array:
    """How much later (lanes, classes; s) each class may be done with a task than the class that is `done`
    soonest: the share of the joules that it saves, of `slack_s` or of `RUNS_WAITED` of the fastest runs.

    `seconds` p (inf: cannot run) and the slots `taken` meanwhile make the joules p·taken·watts. A class that
    saves nothing, or of whose power nothing is known, may not be later at all.
    """
    if slack_s <= 0 or not done.size:
        return np.zeros(done.shape)
    able = np.isfinite(seconds)
    joules = np.where(able, seconds, 0.0) * taken * power.slot_w
    first = done.argmin(axis=1)
    most = joules[np.arange(first.size), first][:, None]
    saved = np.where(able & (most > 0) & power.comparable(first), most - joules, 0.0)
    runs = np.where(able, seconds, np.inf).min(axis=1, initial=np.inf)
    allowed = np.minimum(slack_s, RUNS_WAITED * np.where(np.isfinite(runs), runs, 0.0))
    late: Array = np.maximum(0.0, saved) / np.where(most > 0, most, 1.0) * allowed[:, None]
    return late


def slack_s(settings: Settings, drain_s: float) -> float:
    """Seconds that tasks may wait for frugal hardware now: none where energy does not count, and the less the
    longer the fleet needs to drain what waits (`drain_s`), as then it needs every slot."""
    return max(0.0, settings.energy_slack - drain_s) if settings.enable_resource_efficiency else 0.0
