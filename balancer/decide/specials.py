"""The workers that are better or worse at single lanes than their speed, of those that are there.

What `aptitude` keeps by profile as orders tell it, and as a factor for each running task. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from balancer.decide.aptitude import Factors
from balancer.decide.columns import Columns, Floats, Places, profiles_of
from balancer.decide.estimate import Estimates
from balancer.decide.kept import kept
from balancer.model import Fleet, TaskProfile
from balancer.model.table import Roster

ByLane = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Specials:
    """`by_class`: the factors on each worker's speed by lane; the same as columns (N,), sorted by `key`, the
    place of the worker times the number of lanes plus the row of the lane."""

    by_class: Mapping[str, ByLane]
    key: Places
    factor: Floats


#: Nobody is special.
NONE = Specials(by_class={}, key=np.zeros(0, dtype=np.intp), factor=np.zeros(0))


def specials(seen: Columns, estimates: Estimates, fleet: Fleet) -> Specials:
    """Those of this fleet."""
    if not estimates.special:
        return NONE
    queues = tuple([lane.queue for lane in fleet.lanes])
    return _specials(estimates.special, estimates.worker_class, seen.runs.workers.roster, profiles_of(fleet),
                     queues)


@kept
def _specials(special: Factors, known: Mapping[str, str], roster: Roster,
              profiles: tuple[TaskProfile, ...], queues: tuple[str, ...]) -> Specials:
    """The same; it changes only as workers, lanes or what is known of them do."""
    rows: dict[str, list[int]] = {}
    for row, profile in enumerate(profiles):
        rows.setdefault(profile.learned_as, []).append(row)
    found: dict[str, dict[str, dict[str, float]]] = {}
    keys: list[int] = []
    told: list[float] = []
    classes, places, count = roster.class_names, roster.places, len(queues)
    for name, factors in special.items():
        place = places.get(name)
        if place is None or classes[place] != known.get(name):
            continue
        mine = [(row, factor) for profile, factor in factors.items() for row in rows.get(profile, ())]
        if mine:
            found.setdefault(classes[place], {})[name] = {queues[row]: factor for row, factor in mine}
            keys += [place * count + row for row, _ in mine]
            told += [factor for _, factor in mine]
    key = np.array(keys, dtype=np.intp)
    order = np.argsort(key)
    return Specials(by_class=found, key=key[order], factor=np.array(told, dtype=np.float64)[order])


def of_runs(seen: Columns, estimates: Estimates, fleet: Fleet) -> Floats | float:
    """The factor of each running task's worker at its lane (R,); 1 where nobody is special."""
    runs, told = seen.runs, specials(seen, estimates, fleet)
    if not told.key.size or not runs.lane.size:
        return 1.0
    key = np.where(runs.lane >= 0, runs.worker * len(fleet.lanes) + runs.lane, -1)
    place = np.minimum(np.searchsorted(told.key, key), told.key.size - 1)
    factor: Floats = np.where(told.key[place] == key, told.factor[place], 1.0)
    return factor
