"""What nobody knows of pairs that never ran: how wrong the guess may be, and whose turn it is to learn.

A first run of each pair is worth its price while much work waits, a second one before the first tells
anything is not; and a guess must not give the last tasks to hardware that may be many times slower. Used by
`order`. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import numpy as np

from balancer.decide.columns import Columns, Flags, Floats
from balancer.decide.durations import Durations, pairs_in
from balancer.decide.estimate import hinted_s
from balancer.decide.kept import kept
from balancer.decide.situation import Situation

#: The guard takes a pair that never ran for this many times slower than guessed: guesses from other pairs
#: err by about e^0.5 (the deviation of Gavel's measured pairs from class speeds).
UNSEEN: Final = 1.65

#: A class has a lane tried that it never ran if it were, so many times better than guessed, among its best.
UNTRIED: Final = 1.3

#: To all but the worker that has the first run such a lane counts as so much worse: that run will tell.
UNDER_WAY: Final = 0.6


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Doubts:
    """Of pairs (lanes, classes): factors, 1 where one ran or is hinted, by which it may take `longer` than
    guessed, and for its `turn` among the lanes of its class; `fresh`, what never ran and does not run."""

    longer: Floats
    turn: Floats
    fresh: Flags


def doubts(situation: Situation, seen: Columns) -> Doubts:
    """What is not known of each lane on each class. Runs that tell a pace count as if they had ended."""
    known = pairs_in(situation, seen)
    width = len(seen.classes)
    unknown = (known.by_lane(known.count, 0.0)[:, :width] == 0) & ~_hinted(situation, seen)
    fresh = unknown & ~_running(seen, unknown.shape)
    return Doubts(longer=np.where(unknown, UNSEEN, 1.0), turn=np.where(unknown, UNDER_WAY, 1.0), fresh=fresh)


def dealt(known: Durations, place: int, queues: Sequence[str]) -> Mapping[str, str]:
    """Who of the class at this `place` has the first run of which of these lanes (best first): by worker.
    One each, beginning with whoever is free soonest, and no more lanes than workers: what a whole class took
    up at once would teach it no more, and with many lanes most of its work would be tries."""
    if not queues:
        return MappingProxyType({})
    seen, free = known.seen, _free_in(known)
    mine = seen.members(place)
    mine = mine[seen.ok[mine] & ~seen.hot[mine]]
    names, turns = seen.runs.workers.roster.names, mine[np.argsort(free[mine], kind="stable")].tolist()
    return MappingProxyType({names[i]: queue for i, queue in zip(turns, queues, strict=False)})


@kept
def _free_in(known: Durations) -> Floats:
    """Seconds until each worker (W,) has a slot free."""
    seen = known.seen
    soonest = np.full(seen.slots.size, np.inf)
    np.minimum.at(soonest, seen.runs.worker, known.left)
    return np.where(seen.busy < seen.slots, 0.0, soonest)


def _hinted(situation: Situation, seen: Columns) -> Flags:
    """The pairs of which an author or an operator told the seconds."""
    lanes, hints = situation.fleet.lanes, situation.settings.hints
    told = np.zeros((len(lanes), len(seen.classes)), dtype=np.bool_)
    for row, lane in enumerate(lanes):
        if lane.profile.expected_s or lane.profile.name in hints:
            told[row] = [hinted_s(lane.profile, name, situation.settings) is not None
                         for name in seen.classes]
    return told


def _running(seen: Columns, shape: tuple[int, int]) -> Flags:
    """Whether any worker of a class runs a task of a lane (lanes, classes)."""
    runs, running = seen.runs, np.zeros(shape, dtype=np.bool_)
    mine = runs.lane >= 0
    running.reshape(-1)[runs.pair[mine]] = True
    return running
