"""The hardware profiles, moved from the seed's table towards what workers really do.

Part of learning, after `estimate`: a kind's performance weight is its speed relative to a CPU, so it
can be observed where both ran the same profile. The efficiencies stay the table's: runs say nothing of them.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import numpy as np

from balancer.decide.estimate import Estimates
from balancer.decide.ran import Floats, Places, Ran, ran
from balancer.model import HARDWARE_PROFILES, KINDS, Hardware, HardwareProfile, as_kind

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
    known = ran(estimates.pairs)
    if not known.count.size:
        return profiles
    kinds = [hardware_by_class[name].kind if name in hardware_by_class else as_kind(name.partition("-")[0])
             for name in known.classes]
    of_class = np.array([-1 if kind is None else KINDS.index(kind) for kind in kinds], dtype=np.intp)
    seen = _seen(known, of_class[known.place])
    observed = dict(profiles)
    for place, profile in profiles.items():
        column = KINDS.index(profile.kind)
        runs = int(seen.runs[:, column].sum())
        observed[place] = dataclasses.replace(
            profile, observed_runs=runs or profile.observed_runs,
            performance_weight=_weight(profile, seen, column))
    return MappingProxyType(observed)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """By profile and kind, (profiles, kinds): the runs, and the mean log seconds by those; 0 without any."""

    runs: Floats
    logs: Floats


def _seen(known: Ran, kind: Places) -> _Seen:
    """`kind` (N,) is the place of each pair's among `KINDS`, −1 for none."""
    there, shape = kind >= 0, (len(known.profiles), len(KINDS))
    cell, count = known.profile[there] * shape[1] + kind[there], known.count[there]
    size = shape[0] * shape[1]
    runs: Floats = np.bincount(cell, count, minlength=size).astype(np.float64).reshape(shape)
    logs = np.bincount(cell, count * np.log(known.seconds[there]), minlength=size).reshape(shape)
    return _Seen(runs=runs, logs=logs / np.maximum(runs, 1.0))


def _weight(profile: HardwareProfile, seen: _Seen, column: int) -> float:
    """The performance weight of the kind in `column`; what it was when nothing ran on both it and a CPU."""
    if profile.kind == "cpu":
        return profile.performance_weight
    here, there = seen.runs[:, column], seen.runs[:, KINDS.index("cpu")]
    weight = np.minimum(np.minimum(here, there), PROFILE_RUNS)
    gain = float(weight @ (seen.logs[:, KINDS.index("cpu")] - seen.logs[:, column]))
    weights = TABLE_RUNS + float(weight.sum())
    if weights <= TABLE_RUNS:
        return profile.performance_weight
    known = HARDWARE_PROFILES.get(profile.kind, profile)
    return math.exp((TABLE_RUNS * math.log(known.performance_weight) + gain) / weights)
