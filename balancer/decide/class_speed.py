"""How fast classes of hardware are over all profiles: what a pair that never ran is guessed from.

The model is log p[profile, class] = a[profile] − log speed[class], fitted to the pairs that ran by
alternating weighted means, with the kinds' performance weights as the prior of the speeds (shrinkage).
Called by `estimate` after each batch of runs and by `hardware`; pure.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

import numpy as np

from balancer.model import HARDWARE_PROFILES, HardwareProfile, as_kind

#: Weight of a kind's performance weight, in runs: models of one kind differ more than kinds do.
PRIOR_RUNS: Final = 1.0

#: Most runs of one pair that count: beyond, they no longer make it surer how the *class* compares.
PAIR_RUNS: Final = 12

#: Rounds of the alternation; the fit is far better than the model after ten.
ROUNDS: Final = 20


def table_speed(hardware_class: str, profiles: Mapping[str, HardwareProfile]) -> float:
    """The performance weight of the class's kind; 1 when the kind is not known."""
    kind = as_kind(hardware_class.partition("-")[0])
    profile = None if kind is None else profiles.get(kind, HARDWARE_PROFILES[kind])
    return profile.performance_weight if profile is not None and profile.performance_weight > 0 else 1.0


def class_speeds(
    pairs: Mapping[tuple[str, str], tuple[float, int]],
) -> tuple[dict[str, float], float | None]:
    """Speeds by class (a CPU about 1) and the typical seconds of a profile at speed 1.

    `pairs` are (seconds, runs) by (profile, class). Without pairs there is nothing: ({}, None).
    """
    if not pairs:
        return {}, None
    names, classes = sorted({y for y, _ in pairs}), sorted({h for _, h in pairs})
    place = {name: i for i, name in enumerate(names)}
    column = {name: i for i, name in enumerate(classes)}
    y = np.array([place[name] for name, _ in pairs])
    h = np.array([column[name] for _, name in pairs])
    logs = np.array([math.log(s) for s, _ in pairs.values()])
    weight = np.array([float(min(max(n, 1), PAIR_RUNS)) for _, n in pairs.values()])
    prior = np.log([table_speed(name, HARDWARE_PROFILES) for name in classes])
    speed = prior
    for _ in range(ROUNDS):
        level = np.bincount(y, weight * (logs + speed[h])) / np.bincount(y, weight)
        pull = np.bincount(h, weight * (level[y] - logs)) + PRIOR_RUNS * prior
        speed = pull / (np.bincount(h, weight) + PRIOR_RUNS)
    return {name: math.exp(speed[i]) for i, name in enumerate(classes)}, math.exp(float(level.mean()))
