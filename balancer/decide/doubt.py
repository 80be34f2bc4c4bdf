"""What nobody knows of pairs that never ran: how wrong the guess may be, and whose turn it is to learn.

A first run of each pair is worth its price while much work waits, a second one before the first tells
anything is not; and a guess must not give the last tasks to hardware that may be many times slower. Used by
`order`. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from balancer.decide.columns import Columns, Flags, Floats
from balancer.decide.durations import pairs_in
from balancer.decide.estimate import hinted_s
from balancer.decide.situation import Situation

#: The guard takes a pair that never ran for this many times slower than guessed: guesses from other pairs
#: err by about e^0.5 (the deviation of Gavel's measured pairs from class speeds).
UNSEEN: Final = 1.65

#: A lane that its class never ran, and does not run, counts as this many times better than guessed, at most
#: as good as its best: more than a tie, so that a first run comes soon.
UNTRIED: Final = 1.3

#: One that it runs for the first time right now counts as so much worse: that run will tell.
UNDER_WAY: Final = 0.6


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Doubts:
    """Factors (lanes, classes), 1 where a pair ran or is hinted: `longer` than guessed it may take, and the
    `turn` that it has among the lanes of its class."""

    longer: Floats
    turn: Floats


def doubts(situation: Situation, seen: Columns) -> Doubts:
    """What is not known of each lane on each class. Runs that tell a pace count as if they had ended."""
    known = pairs_in(situation, seen)
    width = len(seen.classes)
    unknown = (known.by_lane(known.count, 0.0)[:, :width] == 0) & ~_hinted(situation, seen)
    now = _running(seen, unknown.shape)
    turn = np.where(unknown, np.where(now, UNDER_WAY, UNTRIED), 1.0)
    return Doubts(longer=np.where(unknown, UNSEEN, 1.0), turn=turn)


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
    running[runs.lane[mine], seen.place[runs.worker[mine]]] = True
    return running
