"""What moving a task costs: points on the seed's scale of 0–10, and seconds; part of step 6.

The points of the four factors the seed names add up to at most 10. The seconds are the time the task makes
no progress because of the move, and once more as much for the most urgent: a second's standstill of a task
of priority 0 counts as two, of priority 9 or none as one. `benefit` is the other pan of the scales.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from balancer.decide.candidates import Candidate
from balancer.decide.situation import Situation
from balancer.model import HeldTask

#: Most points of each factor; together the seed's 10.
RUNNING_POINTS: Final = 4.0
STATE_POINTS: Final = 3.0
PRIORITY_POINTS: Final = 2.0
HISTORY_POINTS: Final = 1.0

#: Where a factor costs half of its points: seconds of work at risk, of transfer, of past hand-overs.
HALF_RUNNING_S: Final = 60.0
HALF_TRANSFER_S: Final = 1.0
HALF_HANDOVER_S: Final = 5.0

#: The least urgent priority on Redis; 0 is the most urgent.
LEAST_URGENT: Final = 9


@dataclass(frozen=True, slots=True, kw_only=True)
class Weighed:
    """One pan of the scales: points and seconds in all, and both by factor; names of seconds end in `_s`."""

    points: float
    seconds: float
    parts: Mapping[str, float]


def analyze(candidate: Candidate, situation: Situation) -> Weighed:
    """The cost of moving `candidate` away, whatever the target: 0–10 points, and seconds."""
    at_risk_s = work_at_risk_s(candidate.held, situation.fleet.at)
    carried = candidate.held.state_bytes or 0 if candidate.held else 0
    transfer_s = carried / situation.history.bandwidth_bytes_per_s
    handover_s = handover_cost_s(candidate.profile.name, situation)
    priority = candidate.priority
    urgency = 0.0 if priority is None else 1.0 - min(LEAST_URGENT, max(0, priority)) / LEAST_URGENT
    parts = {
        "running_time": RUNNING_POINTS * _saturating(at_risk_s, HALF_RUNNING_S),
        "state_size": STATE_POINTS * _saturating(transfer_s, HALF_TRANSFER_S),
        "priority": PRIORITY_POINTS * urgency,
        "history": HISTORY_POINTS * _saturating(handover_s, HALF_HANDOVER_S),
    }
    stands_s = at_risk_s + transfer_s + handover_s
    seconds = {"repeated_s": at_risk_s, "transfer_s": transfer_s, "handover_s": handover_s,
               "priority_s": urgency * stands_s}
    return Weighed(
        points=min(10.0, sum(parts.values())),
        seconds=sum(seconds.values()),
        parts=MappingProxyType({**parts, **seconds}),
    )


def work_at_risk_s(held: HeldTask | None, at: float) -> float:
    """Seconds of work that a move now would repeat: since the last checkpoint, else since the start."""
    if held is None or held.started_at is None:
        return 0.0
    return max(0.0, at - max(held.started_at, held.checkpointed_at or held.started_at))


def handover_cost_s(profile: str, situation: Situation) -> float:
    """Seconds a hand-over of this profile took so far, or the assumed `handover_cost`."""
    past = situation.history.profiles.get(profile)
    return situation.settings.handover_cost if past is None or past.cost_s is None else past.cost_s


def _saturating(value: float, half: float) -> float:
    """0 at 0, one half at `half`, towards 1 beyond: no factor grows past its points."""
    return value / (value + half)
