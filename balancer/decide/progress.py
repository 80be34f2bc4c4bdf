"""What running tasks tell of pairs that have hardly run: their pace so far, before the first of them ends.

From a cold start the slowest pairs end last, so waiting for ends would teach the worst news last. Used by
`priced` before it prices; nothing of it is remembered, as the ends of the same runs will be. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

import numpy as np

from balancer.decide.class_speed import fitted
from balancer.decide.columns import Columns, Floats, Places, Runs
from balancer.decide.durations import expected_at, pairs_in, seen_of
from balancer.decide.estimate import LONGEST_S, SHORTEST_S, Estimate, Estimates
from balancer.decide.kept import kept
from balancer.decide.later import Later
from balancer.decide.pairs import Pairs
from balancer.decide.situation import Situation
from balancer.decide.thawed import thawed
from balancer.model import Fleet, HardwareProfile
from balancer.settings import Settings

#: Finished runs from which on a pair is left alone.
RUNS_KNOWN: Final = 3

#: Least progress (share of the task) that tells a pace.
LEAST_SHARE: Final = 0.01

#: A task that runs longer than was guessed, and tells nothing, is guessed to be so far along.
HALF_DONE: Final = 0.5


def with_progress(situation: Situation) -> Situation:
    """The situation with estimates for young pairs that also count the tasks that run now, one run each."""
    seen = seen_of(situation)
    known = pairs_in(situation, seen)
    found = _progressed(seen, known, situation.fleet, situation.estimates, situation.settings,
                        situation.profiles)
    estimates, pairs = (situation.estimates, known) if found is None else found
    return replace(situation, columns=seen, estimates=estimates, pairs=pairs)


@kept
def _progressed(seen: Columns, known: Pairs, fleet: Fleet, estimates: Estimates, settings: Settings,
                kinds: Mapping[str, HardwareProfile]) -> tuple[Estimates, Pairs] | None:
    """The estimates and the `known` pairs with what runs; `None` where it tells nothing."""
    found = _paces(seen, known, fleet, estimates, settings, kinds)
    if not found.runs.size:
        return None
    at = known.at[found.profile, found.place]
    old = np.append(known.count, 0.0)[at]
    runs = found.runs + old
    seconds = np.exp((found.logs + old * np.log(np.append(known.seconds, 1.0)[at])) / runs)
    known = known.but(found.profile, found.place, seconds, runs)

    def all_pairs() -> Mapping[tuple[str, str], Estimate]:
        young = {
            (known.profiles[profile], known.classes[place]): Estimate(seconds=each, count=int(count))
            for profile, place, each, count in zip(
                found.profile.tolist(), found.place.tolist(), seconds.tolist(), runs.tolist(), strict=True)}
        return thawed(estimates.pairs) | young

    by_class, typical_s = fitted(known.profile, known.place, known.classes, known.seconds, known.count,
                                 near=estimates.class_speed)
    return replace(estimates, pairs=Later(all_pairs), typical_s=typical_s,
                   class_speed=MappingProxyType(by_class)), known


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Paces:
    """What running tasks of young pairs (M,) point to: the places of profile and class as in `Pairs`,
    Σ log(seconds of size 1 on a typical worker), and so many `runs`."""

    profile: Places
    place: Places
    logs: Floats
    runs: Floats


def _paces(seen: Columns, pairs: Pairs, fleet: Fleet, estimates: Estimates, settings: Settings,
           kinds: Mapping[str, HardwareProfile]) -> Paces:
    """What tells something of pairs that have run less than `RUNS_KNOWN` times."""
    runs = seen.runs
    known = runs.of_table(pairs.by_lane(pairs.count, 0.0))
    young = np.flatnonzero((known < RUNS_KNOWN) & (runs.lane >= 0))
    young = young[(runs.size[young] > 0) & np.isfinite(runs.size[young])]
    whole = np.full(0, np.nan)
    if young.size:
        expected = expected_at(young, seen, pairs, fleet, estimates, settings, kinds)
        whole = _told_or_outlasted(runs, young, expected, known[young], fleet.at)
    telling = young[np.isfinite(whole)]
    rate = whole[np.isfinite(whole)] / runs.size[telling] * seen.speed[runs.worker[telling]]
    width = len(pairs.classes)
    pair = pairs.lane[runs.lane[telling]] * width + runs.place[telling]
    tasks = np.bincount(pair)
    logs = np.bincount(pair, np.log(np.clip(rate, SHORTEST_S, LONGEST_S))).astype(np.float64)
    some = np.flatnonzero(tasks)
    return Paces(profile=some // width, place=some % width, logs=logs[some],
                 runs=tasks[some].astype(np.float64))


def _told_or_outlasted(runs: Runs, rows: Places, expected: Floats, known: Floats, at: float) -> Floats:
    """Seconds of each whole run at `rows`: at the pace between its start and its last checkpoint; without
    one, and where nothing is known of the pair, from having outlasted what was guessed; NaN where neither
    tells."""
    started = runs.started[rows]
    own, took = runs.done[rows] - runs.before[rows], runs.checkpointed[rows] - started
    ran = at - started
    with np.errstate(all="ignore"):
        told = np.where((own >= LEAST_SHARE) & (took > 0), took / own, np.nan)
        outlasted = runs.first[rows] & (known == 0) & (ran > expected)
    return np.where(np.isnan(told) & outlasted, ran / HALF_DONE, told)
