"""The hardware profiles, moved from the seed's table towards what workers really do.

Part of learning, after `estimate`: a kind's performance weight is its speed relative to a CPU, so it
can be observed where both ran the same profile. The efficiencies stay the table's: runs say nothing of them.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

from balancer.decide.estimate import Estimates
from balancer.model import HARDWARE_PROFILES, Hardware, HardwareProfile, as_kind

#: Weight of the table's value, in runs: a dozen runs on each side outweigh it.
TABLE_RUNS: Final = 10.0

#: Most runs of one profile that count, so that one profile alone does not speak for a kind.
PROFILE_RUNS: Final = 20


def observe_profiles(profiles: Mapping[str, HardwareProfile], estimates: Estimates,
                     hardware_by_class: Mapping[str, Hardware]) -> Mapping[str, HardwareProfile]:
    """`profiles` by kind with the performance weights that the estimates speak for.

    The weight is the geometric mean of the observed ratios p[y, cpu] / p[y, kind] and the *table's* value,
    which counts as ten runs; so calling it again with the same estimates changes nothing. A kind that
    shared no profile with a CPU keeps its weight. `observed_runs` counts the kind's runs.
    """
    kind_of = {name: hardware.kind for name, hardware in hardware_by_class.items()}
    by_profile: dict[str, dict[str, list[tuple[float, int]]]] = {}
    runs: dict[str, int] = {}
    for (name, hardware_class), estimate in estimates.pairs.items():
        kind = kind_of.get(hardware_class) or as_kind(hardware_class.partition("-")[0])
        if kind is None:
            continue
        runs[kind] = runs.get(kind, 0) + estimate.count
        ran = by_profile.setdefault(name, {}).setdefault(kind, [])
        ran.append((math.log(estimate.seconds), estimate.count))
    observed = dict(profiles)
    for place, profile in profiles.items():
        observed[place] = dataclasses.replace(
            profile, observed_runs=runs.get(profile.kind, profile.observed_runs),
            performance_weight=_weight(profile, by_profile.values()),
        )
    return MappingProxyType(observed)


def _weight(profile: HardwareProfile, by_profile: Iterable[Mapping[str, list[tuple[float, int]]]]) -> float:
    """The performance weight of one kind; what it was when nothing ran on both it and a CPU."""
    if profile.kind == "cpu":
        return profile.performance_weight
    known = HARDWARE_PROFILES.get(profile.kind, profile)
    total, weights = TABLE_RUNS * math.log(known.performance_weight), TABLE_RUNS
    for kinds in by_profile:
        here, there = kinds.get(profile.kind), kinds.get("cpu")
        if here and there:
            (fast, n), (slow, m) = _mean(here), _mean(there)
            weight = float(min(n, m, PROFILE_RUNS))
            total, weights = total + weight * (slow - fast), weights + weight
    return math.exp(total / weights) if weights > TABLE_RUNS else profile.performance_weight


def _mean(estimates: list[tuple[float, int]]) -> tuple[float, int]:
    """Mean log seconds of a kind's classes, by their runs, and the runs."""
    runs = sum(n for _, n in estimates)
    return sum(n * value for value, n in estimates) / runs, runs
