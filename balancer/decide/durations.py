"""How long everything takes, as arrays: every lane on every class, and what runs where it runs.

The same numbers as `estimate.seconds` and `slots.left_s`, which say them of one task; made once a turn from
the fleet's columns and the estimates, read by `order`, `slots`, `progress`, `rescue` and `strategies`. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from balancer.decide.columns import Columns, Floats, Places, Runs, columns, profiles_of
from balancer.decide.estimate import Estimates, seconds
from balancer.decide.kept import kept
from balancer.decide.pairs import Pairs, pairs_of, seconds_by_class
from balancer.decide.situation import Situation
from balancer.decide.slots import OVERDUE, PROGRESS_HALF
from balancer.decide.specials import of_runs
from balancer.model import Fleet, HardwareProfile, TaskProfile
from balancer.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Durations:
    """`one` (lanes, classes): seconds of size 1 on a typical worker. Of what runs (R,): `expected` seconds of
    the whole run where it is, `whole` the same by the pace that it shows, and `left`, seconds until it is
    done."""

    seen: Columns
    one: Floats
    expected: Floats
    whole: Floats
    left: Floats


def durations(situation: Situation) -> Durations:
    """All of it, by the situation's estimates."""
    seen = seen_of(situation)
    return durations_by(seen, pairs_in(situation, seen), situation.fleet, situation.estimates,
                      situation.settings, situation.profiles)


@kept
def durations_by(seen: Columns, pairs: Pairs, fleet: Fleet, estimates: Estimates, settings: Settings,
                 kinds: Mapping[str, HardwareProfile]) -> Durations:
    """The same of what a situation holds, by the hardware profiles `kinds`."""
    one, expected = expected_by(seen, pairs, fleet, estimates, settings, kinds)
    with np.errstate(all="ignore"):
        whole = _paced(seen.runs, expected)
        left = _left(seen.runs, fleet.at, whole)
    return Durations(seen=seen, one=one, expected=expected, whole=whole, left=left)


@kept
def expected_by(seen: Columns, pairs: Pairs, fleet: Fleet, estimates: Estimates, settings: Settings,
                kinds: Mapping[str, HardwareProfile]) -> tuple[Floats, Floats]:
    """`one` and `expected` of the same."""
    hardware = tuple(each[0] for each in seen.kinds)
    one = seconds_by_class(pairs, estimates, profiles_of(fleet), hardware, settings, kinds)
    runs, rate = seen.runs, _rates(seen, one, estimates, settings, kinds)
    sized = np.where((runs.size > 0) & np.isfinite(runs.size), runs.size, 1.0)
    with np.errstate(all="ignore"):
        return one, rate * sized / (seen.speed[runs.worker] * of_runs(seen, estimates, fleet))


def expected_at(rows: Places, seen: Columns, pairs: Pairs, fleet: Fleet, estimates: Estimates,
                settings: Settings, kinds: Mapping[str, HardwareProfile]) -> Floats:
    """`expected` of the runs at `rows` alone, whose lanes and sizes are known."""
    hardware = tuple(each[0] for each in seen.kinds)
    one = seconds_by_class(pairs, estimates, profiles_of(fleet), hardware, settings, kinds)
    runs, worker = seen.runs, seen.runs.worker[rows]
    factor = np.broadcast_to(of_runs(seen, estimates, fleet), runs.lane.shape)[rows]
    rate = one.ravel()[runs.pair[rows]]
    with np.errstate(all="ignore"):
        expected: Floats = rate * runs.size[rows] / (seen.speed[worker] * factor)
    return expected


def seen_of(situation: Situation) -> Columns:
    """The fleet's columns, made here where the situation does not carry them."""
    return situation.columns or columns(situation.fleet, situation.estimates)


def pairs_in(situation: Situation, seen: Columns) -> Pairs:
    """The pairs that ran, made here where the situation does not carry them."""
    return situation.pairs or pairs_of(situation.estimates.pairs, profiles_of(situation.fleet), seen.classes)


def per_class(situation: Situation, seen: Columns) -> Floats:
    """Seconds of size 1 of each lane's profile on a typical worker of each class, able or not:
    (lanes, classes)."""
    return seconds_by_class(
        pairs_in(situation, seen), situation.estimates, profiles_of(situation.fleet),
        tuple(kinds[0] for kinds in seen.kinds), situation.settings, situation.profiles)


def per_lane(situation: Situation, seen: Columns, one: Floats) -> Floats:
    """p (lanes, classes): seconds of a task of the lane's mean size; inf where no worker of the class can
    ever run it."""
    mean = np.array([lane.mean_size for lane in situation.fleet.lanes], dtype=np.float64)
    sized = np.where((mean > 0) & np.isfinite(mean), mean, 1.0)
    return np.where(seen.able, one * sized[:, None], np.inf)


def _rates(seen: Columns, one: Floats, estimates: Estimates, settings: Settings,
           kinds: Mapping[str, HardwareProfile]) -> Floats:
    """Seconds of size 1 of each running task's profile on its worker's class (R,)."""
    runs, rate = seen.runs, seen.runs.of_table(one)
    unknown: dict[tuple[str, int], float] = {}
    for i in np.flatnonzero(runs.lane < 0).tolist():
        pair = runs.tasks[i].profile, int(runs.place[i])
        if pair not in unknown:
            unknown[pair] = seconds(estimates, TaskProfile(name=pair[0], task=""), seen.kinds[pair[1]][0],
                                    settings, kinds)
        rate[i] = unknown[pair]
    return rate


def _paced(runs: Runs, expected: Floats) -> Floats:
    """`slots.paced_s` of every running task."""
    own, took = runs.done - runs.before, runs.checkpointed - runs.started
    told = np.flatnonzero((own > 0) & (took > 0))
    if not told.size:
        return expected
    own, took = own[told], took[told]
    trust, paced = own / (own + PROGRESS_HALF), expected.copy()
    paced[told] = np.exp((1 - trust) * np.log(expected[told]) + trust * np.log(took / own))
    return paced


def _left(runs: Runs, at: float, whole: Floats) -> Floats:
    """`slots.left_s` of every running task, whose whole run takes `whole` seconds."""
    told = np.isfinite(runs.done) & np.isfinite(runs.checkpointed)
    before = np.where(np.isfinite(runs.before), runs.before, 0.0)
    due = np.where(told, 1.0 - runs.done, 1.0 - before) * whole
    elapsed = np.maximum(0.0, at - np.where(told, runs.checkpointed, runs.started))
    left = np.maximum(due - elapsed, OVERDUE * (elapsed - due))
    return np.where(np.isfinite(runs.started), left, whole)
