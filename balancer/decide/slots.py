"""When a slot comes free: seconds that one held task still needs, and when slots have taken in more work.

`durations` says the same of all running tasks at once. Read by `capacity`, `progress`, `stranded`, and by
`rescue` and `benefit` for single tasks; pure.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from balancer.decide.estimate import seconds, speed_of
from balancer.decide.situation import Situation
from balancer.model import HeldTask, TaskProfile, Worker

#: A task past its expected end is taken to need this share of the time it is late by.
OVERDUE: Final = 0.5

#: Share of a task whose progress counts as much as what its profile is known to take.
PROGRESS_HALF: Final = 0.1


def one_s(situation: Situation, profile: TaskProfile, worker: Worker) -> float:
    """Seconds of a task of size 1 on a typical worker of this one's class."""
    return seconds(situation.estimates, profile, worker.hardware, situation.settings, situation.profiles)


def expected_s(situation: Situation, worker: Worker, held: HeldTask, profile: TaskProfile | None) -> float:
    """Seconds of a whole run of `held` on `worker` by the estimates, at this worker's speed."""
    size = held.size if 0 < held.size < math.inf else 1.0
    known = profile or TaskProfile(name=held.profile, task="")
    return one_s(situation, known, worker) * size / speed_of(situation.estimates, worker, known)


def paced_s(held: HeldTask, expected: float) -> float:
    """Seconds of a whole run where the task runs: what was `expected` and, the further its checkpoints tell
    it has come, the pace that they show."""
    before = held.share_before if held.share_before is not None else (None if held.epoch else 0.0)
    if held.share_done is None or before is None or held.started_at is None or held.checkpointed_at is None:
        return expected
    own, took = held.share_done - before, held.checkpointed_at - held.started_at
    if own <= 0 or took <= 0:
        return expected
    trust = own / (own + PROGRESS_HALF)
    return math.exp((1 - trust) * math.log(expected) + trust * math.log(took / own))


def left_s(held: HeldTask, at: float, expected: float) -> float:
    """Seconds from `at` until a task is done where it is, when a whole run is `expected` to take so long
    there; one that overruns still needs some."""
    whole = paced_s(held, expected)
    if held.started_at is None:
        return whole
    since, left = held.started_at, 1.0 - (held.share_before or 0.0)
    if held.share_done is not None and held.checkpointed_at is not None:
        since, left = held.checkpointed_at, 1.0 - held.share_done
    elapsed = max(0.0, at - since)
    return max(left * whole - elapsed, OVERDUE * (elapsed - left * whole))


def whole_s(situation: Situation, worker: Worker, held: HeldTask, profile: TaskProfile | None) -> float:
    """Seconds of a whole run of `held` on `worker`, by the estimates and by the pace that it shows."""
    return paced_s(held, expected_s(situation, worker, held, profile))


def remaining_s(situation: Situation, worker: Worker, held: HeldTask, profile: TaskProfile | None) -> float:
    """Seconds until a task is done on the worker that holds it."""
    return left_s(held, situation.fleet.at, expected_s(situation, worker, held, profile))


def level(free_in: NDArray[np.float64], work: NDArray[np.float64]) -> NDArray[np.float64]:
    """When slots that come free at `free_in` (m,), sorted, have taken in `work` (k,) slot-seconds: (k,) s.

    Water-filling: the t with Σ_i max(0, t − free_in_i) = work; inf where there is no slot.
    """
    if free_in.size == 0:
        return np.full(work.shape, np.inf)
    held = np.cumsum(free_in)
    filled = np.arange(1, free_in.size) * free_in[1:] - held[:-1]
    used = np.searchsorted(filled, work, side="right")
    reached: NDArray[np.float64] = (work + held[used]) / (used + 1)
    return reached
