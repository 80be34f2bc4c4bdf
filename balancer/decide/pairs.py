"""Every pair of a profile and a hardware class at once: what ran, and seconds for those that did not.

The same numbers as `estimate.seconds` says of one pair. Made once a turn from the estimates and carried by
the `Situation`; `durations` and `progress` read it. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from balancer.decide.class_speed import table_speed
from balancer.decide.estimate import (
    DEFAULT_S,
    LONGEST_S,
    MEAN_RUNS,
    PREFERENCE_STEP,
    SHORTEST_S,
    Estimate,
    Estimates,
    row_seconds,
)
from balancer.model import Hardware, HardwareProfile, Lane, Needs
from balancer.routing import preference
from balancer.settings import Settings

Floats = NDArray[np.float64]
Places = NDArray[np.intp]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pairs:
    """What ran: of each pair (N,) the place of its profile among `profiles` and of its class among `classes`,
    its seconds and runs. The first `classes` are those of the fleet; `lane` (L,) is the place of each lane's
    profile."""

    profiles: Sequence[str]
    classes: Sequence[str]
    lane: Places
    profile: Places
    place: Places
    seconds: Floats
    count: Floats

    def by_lane(self, values: Floats, absent: float) -> Floats:
        """`values` (lanes, classes), `absent` for what never ran."""
        table = np.full((len(self.profiles), len(self.classes)), absent)
        table[self.profile, self.place] = values
        return table[self.lane]


def pairs_of(known: Mapping[tuple[str, str], Estimate], lanes: Sequence[Lane],
             classes: Sequence[str]) -> Pairs:
    """The estimates of pairs as columns; pairs of profiles that have no lane come last."""
    row: dict[str, int] = {}
    lane = [row.setdefault(each.profile.name, len(row)) for each in lanes]
    column = {name: i for i, name in enumerate(classes)}
    profile = [row.setdefault(name, len(row)) for name, _ in known]
    place = [column.setdefault(name, len(column)) for _, name in known]
    return Pairs(
        profiles=tuple(row), classes=tuple(column), lane=np.array(lane, dtype=np.intp),
        profile=np.array(profile, dtype=np.intp), place=np.array(place, dtype=np.intp),
        seconds=np.array([e.seconds for e in known.values()], dtype=np.float64),
        count=np.array([e.count for e in known.values()], dtype=np.float64),
    )


def seconds_by_class(pairs: Pairs, estimates: Estimates, lanes: Sequence[Lane], hardware: Sequence[Hardware],
                     settings: Settings, profiles: Mapping[str, HardwareProfile]) -> Floats:
    """`estimate.seconds` of each lane's profile on each of `hardware`, one of each class of the fleet:
    (lanes, classes)."""
    ran = pairs.by_lane(pairs.seconds, np.nan)
    answer = ran[:, :len(hardware)]
    if np.isnan(answer).any():
        typical = _elsewhere(pairs, estimates, ran)
        answer = np.where(np.isnan(answer), _guesses(estimates, lanes, hardware, typical, profiles), answer)
    answer = np.clip(answer, SHORTEST_S, LONGEST_S)
    for row, lane in enumerate(lanes):
        if lane.profile.expected_s or lane.profile.name in settings.hints:
            answer[row] = row_seconds(estimates, lane.profile, hardware, settings, profiles)
    return answer


def _elsewhere(pairs: Pairs, estimates: Estimates, ran: Floats) -> Floats:
    """Seconds of each lane's profile at speed 1 from its runs on any class; else of any task (lanes,)."""
    speed = np.array([estimates.class_speed.get(name, np.nan) for name in pairs.classes], dtype=np.float64)
    with np.errstate(all="ignore"):
        logs = np.log(ran * speed)
        weight = np.where(np.isfinite(logs), np.minimum(pairs.by_lane(pairs.count, 0.0), MEAN_RUNS), 0.0)
        total = weight.sum(axis=1)
        mean = np.exp(np.where(weight > 0, weight * logs, 0.0).sum(axis=1) / total)
    return np.where(total > 0, mean, estimates.typical_s or DEFAULT_S)


def _guesses(estimates: Estimates, lanes: Sequence[Lane], hardware: Sequence[Hardware], typical: Floats,
             profiles: Mapping[str, HardwareProfile]) -> Floats:
    """What a pair that never ran is guessed to take (lanes, classes)."""
    names = [one.hardware_class for one in hardware]
    speed = np.array([estimates.class_speed.get(name) or table_speed(name, profiles) for name in names],
                     dtype=np.float64)
    steps: dict[Needs, list[float]] = {}
    for lane in lanes:
        needs = lane.profile.needs
        if needs not in steps:
            steps[needs] = [PREFERENCE_STEP ** preference(one, needs) for one in hardware]
    step = np.array([steps[lane.profile.needs] for lane in lanes], dtype=np.float64)
    return typical[:, None] / speed * step.reshape(len(lanes), len(hardware))
