"""How fast classes of hardware are over all profiles: what a pair that never ran is guessed from.

The model is log p[profile, class] = a[profile] − log speed[class], fitted to the pairs that ran by
alternating weighted means, with the kinds' performance weights as the prior of the speeds (shrinkage).
Called by `estimate` after each batch of runs and by `hardware`; pure.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from balancer.decide.kept import kept
from balancer.decide.ran import ran
from balancer.model import HARDWARE_PROFILES, HardwareProfile, as_kind

#: Weight of a kind's performance weight, in runs: models of one kind differ more than kinds do.
PRIOR_RUNS: Final = 1.0

#: Most runs of one pair that count: beyond, they no longer make it surer how the *class* compares.
PAIR_RUNS: Final = 12

if TYPE_CHECKING:
    from balancer.decide.estimate import Estimate

Floats = NDArray[np.float64]
Places = NDArray[np.intp]

#: Rounds of the alternation at most, and the change of log(speed) at which it ends: the fit is then far
#: better than the model.
ROUNDS: Final = 20
SETTLED: Final = 1e-6


def table_speed(hardware_class: str, profiles: Mapping[str, HardwareProfile]) -> float:
    """The performance weight of the class's kind; 1 when the kind is not known."""
    kind = as_kind(hardware_class.partition("-")[0])
    profile = None if kind is None else profiles.get(kind, HARDWARE_PROFILES[kind])
    return profile.performance_weight if profile is not None and profile.performance_weight > 0 else 1.0


def class_speeds(pairs: Mapping[tuple[str, str], Estimate]) -> tuple[dict[str, float], float | None]:
    """Speeds by class (a CPU about 1) and the typical seconds of a profile at speed 1.

    Without pairs there is nothing: ({}, None).
    """
    known = ran(pairs)
    return fitted(known.profile, known.place, known.classes, known.seconds, known.count)


@kept
def _prior(classes: tuple[str, ...]) -> Floats:
    """The logarithm of each class's speed by the table of hardware profiles."""
    speeds: Floats = np.log([table_speed(name, HARDWARE_PROFILES) for name in classes])
    return speeds


def _logs(speeds: Mapping[str, float], classes: Sequence[str], unknown: Floats) -> Floats:
    """The logarithm of each class's speed (classes,), `unknown` (classes,) where it is not told."""
    told = [math.log(speeds[name]) if name in speeds else math.nan for name in classes]
    return np.where(np.isnan(told), unknown, told)


def fitted(profile: Places, place: Places, classes: Sequence[str], seconds: Floats, runs: Floats,
           near: Mapping[str, float] | None = None) -> tuple[dict[str, float], float | None]:
    """The same of pairs (N,) in columns: the place of each one's profile, and that of its class among
    `classes`. Classes without a pair are left out. From speeds that are `near` it takes fewer rounds."""
    if not seconds.size:
        return {}, None
    count, logs, weight = len(classes), np.log(seconds), np.clip(runs, 1, PAIR_RUNS)
    prior = _prior(tuple(classes))
    of_profile = np.bincount(profile, weight)
    ran = of_profile > 0
    of_profile = np.where(ran, of_profile, 1.0)
    of_class = np.bincount(place, weight, minlength=count)
    speed = prior if not near else _logs(near, classes, prior)
    for _ in range(ROUNDS):
        level = np.bincount(profile, weight * (logs + speed[place])) / of_profile
        pull = np.bincount(place, weight * (level[profile] - logs), minlength=count) + PRIOR_RUNS * prior
        before, speed = speed, pull / (of_class + PRIOR_RUNS)
        if np.abs(speed - before).max() < SETTLED:
            break
    by_class = {classes[i]: math.exp(speed[i]) for i in np.flatnonzero(of_class > 0).tolist()}
    return by_class, math.exp(float(level[ran].mean()))
