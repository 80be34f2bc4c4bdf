"""What each hardware class has to give: its slots, the work they are committed to, when they come free.

From a snapshot of the fleet and the estimates; read by `order` for prices and the guard, and by `rescue`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from balancer.decide.estimate import DEFAULT_S, seconds, speed_of
from balancer.decide.situation import Situation
from balancer.model import Fleet, HeldTask, Needs, QueuedTask, TaskProfile, Worker
from balancer.routing import class_queue, direct_queue, strike_reason

#: A task past its expected end is taken to need this share of the time it is late by.
OVERDUE: Final = 0.5

#: A slot that runs something is not idle, however soon it is done (s).
LEAST_S: Final = 0.01

#: A worker slower than this (relative to its class) is never what others wait for.
SLOW: Final = 0.8

#: Share of a task whose progress counts as much as what its profile is known to take.
PROGRESS_HALF: Final = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassSlots:
    """One class: `capacity` in slots of a typical worker, `committed_s` in their seconds, and `free_in`,
    seconds until each slot of its workers that are not slow or hot is free, soonest first (0 = idle now)."""

    capacity: float
    committed_s: float
    free_in: NDArray[np.float64]


def workers_by_class(fleet: Fleet) -> dict[str, list[Worker]]:
    """The workers of each class, classes in order of name; also those that take nothing new."""
    found: dict[str, list[Worker]] = {}
    for worker in fleet.workers:
        found.setdefault(worker.hardware.hardware_class, []).append(worker)
    return dict(sorted(found.items()))


def class_slots(situation: Situation, classes: Mapping[str, list[Worker]]) -> dict[str, ClassSlots]:
    """What each class has to give. Workers that are not "ok" give nothing, and nobody waits for them."""
    waiting = _direct_work(situation.fleet)
    answer = {}
    for name, workers in classes.items():
        capacity, committed, free = 0.0, 0.0, []
        rates = Rates(situation)
        for worker in (w for w in workers if w.health == "ok"):
            speed = speed_of(situation.estimates, worker)
            ahead = waiting.get(direct_queue(worker.name), []) if waiting else []
            times = _free_in(worker, ahead, rates, speed)
            capacity += worker.slots * speed
            committed += sum(times) * speed
            hot = strike_reason(worker.reading, Needs()) is not None
            free += times if speed >= SLOW and not hot else []
        shared = waiting.get(class_queue(name), [])
        if workers and shared:
            committed += sum(rates.run_s(task, workers[0]) for task in shared)
        answer[name] = ClassSlots(capacity=capacity, committed_s=committed, free_in=np.sort(np.array(free)))
    return answer


def _direct_work(fleet: Fleet) -> dict[str, list[QueuedTask]]:
    """The messages read in class and direct queues, by queue."""
    found: dict[str, list[QueuedTask]] = {}
    lanes = {lane.queue for lane in fleet.lanes}
    for task in fleet.queued:
        if task.queue not in lanes:
            found.setdefault(task.queue, []).append(task)
    return found


class Rates:
    """Seconds of whole tasks on typical workers of one class, each profile asked for once."""

    __slots__ = ("_profiles", "_seconds", "situation")

    def __init__(self, situation: Situation) -> None:
        self.situation = situation
        self._profiles = {lane.profile.name: lane.profile for lane in situation.fleet.lanes}
        self._seconds: dict[str, float] = {}

    def run_s(self, task: HeldTask | QueuedTask, worker: Worker) -> float:
        """Seconds of `task` on a worker like this one; a profile that no lane knows counts as any task."""
        if task.profile not in self._seconds:
            profile = self._profiles.get(task.profile) or TaskProfile(name=task.profile, task="")
            self._seconds[task.profile] = one_s(self.situation, profile, worker)
        return self._seconds[task.profile] * (task.size if 0 < task.size < math.inf else 1.0)


def one_s(situation: Situation, profile: TaskProfile, worker: Worker) -> float:
    """Seconds of a task of size 1 on a typical worker of this one's class."""
    return seconds(situation.estimates, profile, worker.hardware, situation.settings, situation.profiles)


def _free_in(worker: Worker, ahead: list[QueuedTask], rates: Rates, speed: float) -> list[float]:
    """Seconds until each slot of a worker has done what it holds and what lies in its direct queue."""
    at = rates.situation.fleet.at
    times = [max(LEAST_S, left_s(held, at, rates.run_s(held, worker) / speed)) for held in worker.running]
    unknown = min(worker.slots, worker.busy) - len(times)
    if unknown > 0:
        typical = sum(times) / len(times) if times else (rates.situation.estimates.typical_s or DEFAULT_S) / 2
        times += [typical] * unknown
    times = sorted(times + [0.0] * (worker.slots - len(times)))[: max(1, worker.slots)]
    queued: tuple[HeldTask | QueuedTask, ...] = (*worker.reserved, *ahead)
    for task in queued:
        times[0] += rates.run_s(task, worker) / speed
        times.sort()
    return times


def expected_s(situation: Situation, worker: Worker, held: HeldTask, profile: TaskProfile | None) -> float:
    """Seconds of a whole run of `held` on `worker` by the estimates, at this worker's speed."""
    size = held.size if 0 < held.size < math.inf else 1.0
    known = profile or TaskProfile(name=held.profile, task="")
    return one_s(situation, known, worker) * size / speed_of(situation.estimates, worker)


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
