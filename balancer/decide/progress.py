"""What running tasks tell of pairs that have hardly run: their pace so far, before the first of them ends.

From a cold start the slowest pairs end last, so waiting for ends would teach the worst news last. Used by
`priced` before it prices; nothing of it is remembered, as the ends of the same runs will be. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Final

from balancer.decide.class_speed import class_speeds
from balancer.decide.estimate import LONGEST_S, SHORTEST_S, Estimate, Estimates, speed_of
from balancer.decide.situation import Situation
from balancer.decide.slots import expected_s
from balancer.model import HeldTask, TaskProfile, Worker

#: Finished runs from which on a pair is left alone.
RUNS_KNOWN: Final = 3

#: Least progress (share of the task) that tells a pace.
LEAST_SHARE: Final = 0.01

#: A task that runs longer than was guessed, and tells nothing, is guessed to be so far along.
HALF_DONE: Final = 0.5

Pair = tuple[str, str]


def with_progress(situation: Situation) -> Situation:
    """The situation with estimates for young pairs that also count the tasks that run now, one run each."""
    paces: dict[Pair, list[float]] = {}
    for pair, rate in _paces(situation):
        paces.setdefault(pair, []).append(math.log(rate))
    if not paces:
        return situation
    pairs = dict(situation.estimates.pairs)
    for pair, logs in paces.items():
        known = pairs.get(pair)
        runs = len(logs) + (known.count if known else 0)
        total = sum(logs) + (known.count * math.log(known.seconds) if known else 0.0)
        pairs[pair] = Estimate(seconds=math.exp(total / runs), count=runs)
    return replace(situation, estimates=_refitted(situation.estimates, pairs))


def _refitted(estimates: Estimates, pairs: Mapping[Pair, Estimate]) -> Estimates:
    by_class, typical_s = class_speeds({pair: (e.seconds, e.count) for pair, e in pairs.items()})
    return replace(estimates, pairs=MappingProxyType(dict(pairs)), class_speed=MappingProxyType(by_class),
                   typical_s=typical_s)


def _paces(situation: Situation) -> Iterator[tuple[Pair, float]]:
    """Seconds for size 1 on a typical worker that running tasks of young pairs point to."""
    profiles = {lane.profile.name: lane.profile for lane in situation.fleet.lanes}
    for worker in situation.fleet.workers:
        for held in worker.running:
            pair = held.profile, worker.hardware.hardware_class
            known, profile = situation.estimates.pairs.get(pair), profiles.get(held.profile)
            young = known is None or known.count < RUNS_KNOWN
            if young and profile is not None and 0 < held.size < math.inf:
                whole_s = _told_s(held)
                if whole_s is None and known is None:
                    whole_s = _outlasted_s(held, worker, profile, situation)
                if whole_s is not None:
                    rate = whole_s / held.size * speed_of(situation.estimates, worker)
                    yield pair, min(LONGEST_S, max(SHORTEST_S, rate))


def _told_s(held: HeldTask) -> float | None:
    """Seconds of a whole run at the pace between start and last checkpoint; `None` where it is not told."""
    before = held.share_before if held.share_before is not None else (None if held.epoch else 0.0)
    if before is None or held.share_done is None or held.started_at is None or held.checkpointed_at is None:
        return None
    own, took = held.share_done - before, held.checkpointed_at - held.started_at
    return took / own if own >= LEAST_SHARE and took > 0 else None


def _outlasted_s(held: HeldTask, worker: Worker, profile: TaskProfile, situation: Situation) -> float | None:
    """Seconds of a whole run when the task has outlasted what was guessed; `None` while it has not."""
    if held.started_at is None or held.epoch:
        return None
    ran = situation.fleet.at - held.started_at
    return ran / HALF_DONE if ran > expected_s(situation, worker, held, profile) else None
