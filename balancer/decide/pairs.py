"""Every pair of a profile and a hardware class at once: what ran, and seconds for those that did not.

The same numbers as `estimate.seconds` says of one pair. Made once a turn from the estimates and carried by
the `Situation`; `durations` and `progress` read it. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

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
from balancer.decide.kept import kept
from balancer.decide.ran import ran
from balancer.model import Hardware, HardwareProfile, Needs, TaskProfile
from balancer.routing import preference
from balancer.settings import Settings

Floats = NDArray[np.float64]
Places = NDArray[np.intp]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pairs:
    """What ran: of each pair (N,) the place of its profile among `profiles` and of its class among `classes`,
    its seconds and runs. The first `classes` are those of the fleet, the first `profiles` those of its lanes:
    `lane` (L,) is the place of each lane's, `at` (those profiles, classes) each pair's place, −1 for none."""

    profiles: Sequence[str]
    classes: Sequence[str]
    lane: Places
    at: Places
    profile: Places
    place: Places
    seconds: Floats
    count: Floats

    def by_lane(self, values: Floats, absent: float) -> Floats:
        """`values` (lanes, classes), `absent` for what never ran."""
        table: Floats = np.append(values, absent)[self.at]
        return table[self.lane]

    def but(self, profile: Places, place: Places, seconds: Floats, count: Floats) -> Pairs:
        """The same with these numbers for these pairs (M,), each of a lane's profile and each once."""
        found, at = self.at[profile, place], self.at.copy()
        new = found < 0
        at[profile[new], place[new]] = np.arange(self.seconds.size, self.seconds.size + new.sum())
        all_seconds, counts = np.append(self.seconds, seconds[new]), np.append(self.count, count[new])
        all_seconds[found[~new]], counts[found[~new]] = seconds[~new], count[~new]
        return replace(
            self, at=at, seconds=all_seconds, count=counts, profile=np.append(self.profile, profile[new]),
            place=np.append(self.place, place[new]))


@kept
def pairs_of(known: Mapping[tuple[str, str], Estimate], profiles: tuple[TaskProfile, ...],
             classes: tuple[str, ...]) -> Pairs:
    """The estimates of pairs as columns, for lanes of these `profiles` and a fleet of these `classes`."""
    row: dict[str, int] = {}
    lane = [row.setdefault(each.learned_as, len(row)) for each in profiles]
    with_lane, column, columns = len(row), {name: i for i, name in enumerate(classes)}, ran(known)
    profile, place = _renumbered(columns.profiles, row), _renumbered(columns.classes, column)
    profile, place = profile[columns.profile], place[columns.place]
    at = np.full((with_lane, len(column)), -1, dtype=np.intp)
    theirs = np.flatnonzero(profile < with_lane)
    at[profile[theirs], place[theirs]] = theirs
    return Pairs(
        profiles=tuple(row), classes=tuple(column), lane=np.array(lane, dtype=np.intp), at=at,
        profile=profile, place=place, seconds=columns.seconds, count=columns.count)


def _renumbered(names: Sequence[str], places: dict[str, int]) -> Places:
    """Where each name is in `places`; new ones get the next."""
    return np.array([places.setdefault(name, len(places)) for name in names], dtype=np.intp)


def seconds_by_class(pairs: Pairs, estimates: Estimates, profiles: tuple[TaskProfile, ...],
                     hardware: tuple[Hardware, ...], settings: Settings,
                     kinds: Mapping[str, HardwareProfile]) -> Floats:
    """`estimate.seconds` of each lane's profile on each of `hardware`, one of each class of the fleet, by the
    hardware profiles `kinds`: (lanes, classes)."""
    ran = pairs.by_lane(pairs.seconds, np.nan)
    answer = ran[:, :len(hardware)]
    if np.isnan(answer).any():
        typical = _elsewhere(pairs, estimates, ran)
        guess = typical[:, None] / _speeds(estimates, hardware, kinds) * _steps(profiles, hardware)
        answer = np.where(np.isnan(answer), guess, answer)
    answer = np.clip(answer, SHORTEST_S, LONGEST_S)
    for row in _hinted(profiles, settings):
        answer[row] = row_seconds(estimates, profiles[row], hardware, settings, kinds)
    return answer


@kept
def _hinted(profiles: tuple[TaskProfile, ...], settings: Settings) -> list[int]:
    """The lanes whose durations somebody has given a hint of."""
    return [row for row, profile in enumerate(profiles)
            if profile.expected_s or profile.name in settings.hints]


def _elsewhere(pairs: Pairs, estimates: Estimates, ran: Floats) -> Floats:
    """Seconds of each lane's profile at speed 1 from its runs on any class; else of any task (lanes,)."""
    speed = np.array([estimates.class_speed.get(name, np.nan) for name in pairs.classes], dtype=np.float64)
    with np.errstate(all="ignore"):
        logs = np.log(ran * speed)
        weight = np.where(np.isfinite(logs), np.minimum(pairs.by_lane(pairs.count, 0.0), MEAN_RUNS), 0.0)
        total = weight.sum(axis=1)
        mean = np.exp(np.where(weight > 0, weight * logs, 0.0).sum(axis=1) / total)
    return np.where(total > 0, mean, estimates.typical_s or DEFAULT_S)


def _speeds(estimates: Estimates, hardware: Sequence[Hardware],
            kinds: Mapping[str, HardwareProfile]) -> Floats:
    """How fast each class is, a CPU about 1 (classes,)."""
    names = [one.hardware_class for one in hardware]
    return np.array([estimates.class_speed.get(name) or table_speed(name, kinds) for name in names],
                    dtype=np.float64)


@kept
def _steps(profiles: tuple[TaskProfile, ...], hardware: tuple[Hardware, ...]) -> Floats:
    """By what factor a pair that never ran is guessed longer for the author's preference (lanes, classes)."""
    steps: dict[Needs, list[float]] = {}
    for profile in profiles:
        needs = profile.needs
        if needs not in steps:
            steps[needs] = [PREFERENCE_STEP ** preference(one, needs) for one in hardware]
    step = np.array([steps[profile.needs] for profile in profiles], dtype=np.float64)
    return step.reshape(len(profiles), len(hardware))
