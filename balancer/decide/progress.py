"""What running tasks tell of pairs that have hardly run: their pace so far, before the first of them ends.

From a cold start the slowest pairs end last, so waiting for ends would teach the worst news last. Used by
`priced` before it prices; nothing of it is remembered, as the ends of the same runs will be. Pure.
"""

from __future__ import annotations

import math
from dataclasses import replace
from types import MappingProxyType
from typing import Final

import numpy as np

from balancer.decide.class_speed import fitted
from balancer.decide.columns import Columns, Floats
from balancer.decide.durations import durations, pairs_in, seen_of
from balancer.decide.estimate import LONGEST_S, SHORTEST_S, Estimate
from balancer.decide.pairs import Pairs, pairs_of
from balancer.decide.situation import Situation

#: Finished runs from which on a pair is left alone.
RUNS_KNOWN: Final = 3

#: Least progress (share of the task) that tells a pace.
LEAST_SHARE: Final = 0.01

#: A task that runs longer than was guessed, and tells nothing, is guessed to be so far along.
HALF_DONE: Final = 0.5

Pair = tuple[str, str]


def with_progress(situation: Situation) -> Situation:
    """The situation with estimates for young pairs that also count the tasks that run now, one run each."""
    seen = seen_of(situation)
    known = pairs_in(situation, seen)
    situation = replace(situation, columns=seen, pairs=known)
    paces = _paces(situation, seen, known)
    if not paces:
        return situation
    estimates = dict(situation.estimates.pairs)
    for pair, (logs, runs) in paces.items():
        old = estimates.get(pair)
        runs += old.count if old else 0
        total = logs + (old.count * math.log(old.seconds) if old else 0.0)
        estimates[pair] = Estimate(seconds=math.exp(total / runs), count=runs)
    known = pairs_of(estimates, situation.fleet.lanes, seen.classes)
    by_class, typical_s = fitted(known.profile, known.place, known.classes, known.seconds, known.count)
    fresh = replace(situation.estimates, pairs=MappingProxyType(estimates), typical_s=typical_s,
                    class_speed=MappingProxyType(by_class))
    return replace(situation, estimates=fresh, pairs=known)


def _paces(situation: Situation, seen: Columns, pairs: Pairs) -> dict[Pair, tuple[float, int]]:
    """What running tasks of young pairs point to: Σ log(seconds of size 1 on a typical worker), and tasks."""
    runs, counts = seen.runs, pairs.by_lane(pairs.count, 0.0)
    place = seen.place[runs.worker]
    known = counts[runs.lane, place] if counts.size else np.full(place.size, RUNS_KNOWN)
    young = (runs.lane >= 0) & (known < RUNS_KNOWN) & (runs.size > 0) & np.isfinite(runs.size)
    if not young.any():
        return {}
    whole = _told_or_outlasted(situation, known)
    telling = young & np.isfinite(whole)
    rate = whole[telling] / runs.size[telling] * seen.speed[runs.worker[telling]]
    pair = runs.lane[telling] * len(seen.classes) + place[telling]
    logs = np.bincount(pair, np.log(np.clip(rate, SHORTEST_S, LONGEST_S)))
    tasks = np.bincount(pair)
    lanes, width = situation.fleet.lanes, len(seen.classes)
    return {
        (lanes[i // width].profile.name, seen.classes[i % width]): (float(logs[i]), int(tasks[i]))
        for i in np.flatnonzero(tasks).tolist()
    }


def _told_or_outlasted(situation: Situation, known: Floats) -> Floats:
    """Seconds of each whole run (R,): at the pace between its start and its last checkpoint; without one, and
    where nothing is known of the pair, from having outlasted what was guessed; NaN where neither tells."""
    guess = durations(situation)
    runs = guess.seen.runs
    own, took = runs.done - runs.before, runs.checkpointed - runs.started
    ran = situation.fleet.at - runs.started
    with np.errstate(all="ignore"):
        told = np.where((own >= LEAST_SHARE) & (took > 0), took / own, np.nan)
        outlasted = runs.first & (known == 0) & (ran > guess.expected)
    return np.where(np.isnan(told) & outlasted, ran / HALF_DONE, told)
