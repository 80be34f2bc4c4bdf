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
    found: dict[str, list[Worker]] = {name: [] for name in fleet.classes}
    for worker in fleet.workers:
        found[worker.hardware.hardware_class].append(worker)
    return found


def class_slots(situation: Situation, classes: Mapping[str, list[Worker]]) -> dict[str, ClassSlots]:
    """What each class has to give. Workers that are not "ok" give nothing, and nobody waits for them."""
    profiles = {lane.profile.name: lane.profile for lane in situation.fleet.lanes}
    waiting = _direct_work(situation.fleet)
    answer = {}
    for name, workers in classes.items():
        capacity, committed, free = 0.0, 0.0, []
        for worker in (w for w in workers if w.health == "ok"):
            speed = speed_of(situation.estimates, worker)
            ahead = waiting.get(direct_queue(worker.name), [])
            times = _free_in(worker, ahead, profiles, situation, speed)
            capacity += worker.slots * speed
            committed += sum(times) * speed
            hot = strike_reason(worker.reading, Needs()) is not None
            free += times if speed >= SLOW and not hot else []
        shared = waiting.get(class_queue(name), [])
        if workers and shared:
            committed += sum(_run_s(task, workers[0], profiles, situation) for task in shared)
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


def _free_in(worker: Worker, ahead: list[QueuedTask], profiles: Mapping[str, TaskProfile],
             situation: Situation, speed: float) -> list[float]:
    """Seconds until each slot of a worker has done what it holds and what lies in its direct queue."""
    left = (remaining_s(situation, worker, held, profiles.get(held.profile)) for held in worker.running)
    times = [max(LEAST_S, seconds_) for seconds_ in left]
    unknown = min(worker.slots, worker.busy) - len(times)
    if unknown > 0:
        typical = sum(times) / len(times) if times else (situation.estimates.typical_s or DEFAULT_S) / 2
        times += [typical] * unknown
    times = sorted(times + [0.0] * (worker.slots - len(times)))[: max(1, worker.slots)]
    queued: tuple[HeldTask | QueuedTask, ...] = (*worker.reserved, *ahead)
    for task in queued:
        times[0] += _run_s(task, worker, profiles, situation) / speed
        times.sort()
    return times


def _run_s(task: HeldTask | QueuedTask, worker: Worker, profiles: Mapping[str, TaskProfile],
           situation: Situation) -> float:
    """Seconds of a whole task on a typical worker of this one's class."""
    profile = profiles.get(task.profile) or TaskProfile(name=task.profile, task="")
    one = seconds(situation.estimates, profile, worker.hardware, situation.settings, situation.profiles)
    return one * (task.size if 0 < task.size < math.inf else 1.0)


def whole_s(situation: Situation, worker: Worker, held: HeldTask, profile: TaskProfile | None) -> float:
    """Seconds of a whole run of `held` on `worker`: what its profile takes at this worker's speed, and, once
    it tells its progress, more and more at the pace that it shows."""
    profiles = {held.profile: profile} if profile is not None else {}
    expected = _run_s(held, worker, profiles, situation) / speed_of(situation.estimates, worker)
    before = held.share_before if held.share_before is not None else (None if held.epoch else 0.0)
    if held.share_done is None or before is None or held.started_at is None or held.checkpointed_at is None:
        return expected
    own, took = held.share_done - before, held.checkpointed_at - held.started_at
    if own <= 0 or took <= 0:
        return expected
    trust = own / (own + PROGRESS_HALF)
    return math.exp((1 - trust) * math.log(expected) + trust * math.log(took / own))


def remaining_s(situation: Situation, worker: Worker, held: HeldTask, profile: TaskProfile | None) -> float:
    """Seconds until a running task is done where it is; a task that overruns still needs some."""
    whole = whole_s(situation, worker, held, profile)
    if held.started_at is None:
        return whole
    since, left = held.started_at, 1.0 - (held.share_before or 0.0)
    if held.share_done is not None and held.checkpointed_at is not None:
        since, left = held.checkpointed_at, 1.0 - held.share_done
    elapsed = max(0.0, situation.fleet.at - since)
    return max(left * whole - elapsed, OVERDUE * (elapsed - left * whole))


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
