"""What each hardware class has to give: its slots, the work they are committed to, when they come free.

From a snapshot of the fleet and the durations; read by `order` for prices and the guard. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np

from balancer.decide.columns import Columns, Flags, Floats, Places
from balancer.decide.durations import Durations
from balancer.decide.estimate import DEFAULT_S
from balancer.decide.heat import eagerness
from balancer.decide.occupancy import occupancy
from balancer.decide.rest import willingness
from balancer.decide.situation import Situation
from balancer.decide.slots import one_s
from balancer.model import Fleet, HeldTask, QueuedTask, TaskProfile, Worker
from balancer.model.table import Roster
from balancer.routing import class_queue, direct_queue, is_direct_queue

#: A slot that runs something is not idle, however soon it is done (s).
LEAST_S: Final = 0.01

#: A worker slower than this (relative to its class) is never what others wait for.
SLOW: Final = 0.8


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassSlots:
    """One class: `capacity` in slots of a typical worker, `committed_s` in their seconds, and `free_in`,
    seconds until each slot of its workers that are not slow, warm or hot is free, soonest first (0 = idle
    now)."""

    capacity: float
    committed_s: float
    free_in: Floats


def class_slots(situation: Situation, known: Durations) -> list[ClassSlots]:
    """What each class has to give, in the order of `known.seen.classes`. Workers that are not "ok" give
    nothing, and nobody waits for them."""
    seen, waiting = known.seen, _direct_work(situation.fleet)
    free, worker = _free_in(situation, known, waiting)
    place, speed = seen.place[worker], seen.speed
    count = len(seen.classes)
    capacity = np.bincount(seen.place[seen.ok], (seen.slots * speed)[seen.ok], minlength=count)
    committed = np.bincount(place, free * speed[worker], minlength=count)
    eager = speed * eagerness(seen, situation.warming, situation.settings)
    eager = eager * willingness(seen, situation.needs, situation.fleet.at, situation.settings)
    quick = (eager[worker] >= SLOW) & ~seen.hot[worker]
    times, answer = _by_class(free[quick], place[quick], count), []
    for h, name in enumerate(seen.classes):
        shared = waiting.get(class_queue(name), [])
        work = float(committed[h])
        if shared:
            first = situation.fleet.workers[int(seen.members(h)[0])]
            rates = Rates(situation)
            work += sum(rates.run_s(task, first) for task in shared)
        answer.append(ClassSlots(capacity=float(capacity[h]), committed_s=work,
                                 free_in=np.sort(times[h])))
    return answer


def _by_class(times: Floats, place: Places, count: int) -> list[Floats]:
    """The `times` of each of `count` classes. Places of two bytes are sorted by their digits, many times as
    fast."""
    order = np.argsort(place.astype(np.uint16) if count < 1 << 16 else place, kind="stable")
    return np.split(times[order], np.cumsum(np.bincount(place, minlength=count))[:-1])


Waiting = Mapping[str, list[QueuedTask]]


def _direct_work(fleet: Fleet) -> Waiting:
    """The messages read in class and direct queues, by queue."""
    found: dict[str, list[QueuedTask]] = {}
    lanes = {lane.queue for lane in fleet.lanes}
    for task in fleet.queued:
        if task.queue not in lanes:
            found.setdefault(task.queue, []).append(task)
    return found


def _free_in(situation: Situation, known: Durations, waiting: Waiting) -> tuple[Floats, Places]:
    """Seconds until each slot of the healthy workers is free, and the worker that each belongs to."""
    seen, runs = known.seen, known.seen.runs
    simple = seen.ok & seen.plain & ~_awaited(seen.runs.workers.roster, waiting)
    theirs = simple[runs.worker]
    each = _taken(situation.fleet, seen)
    busy = np.repeat(np.maximum(LEAST_S, known.left[theirs]), each[theirs])
    owner = np.repeat(runs.worker[theirs], each[theirs])
    used = np.maximum(seen.busy, np.bincount(runs.worker, each, minlength=seen.busy.size))
    spare = np.where(simple, seen.slots - np.minimum(seen.slots, used), 0.0).astype(np.intp)
    idle = np.repeat(np.arange(spare.size), spare)
    times, owners = [busy, np.zeros(idle.size)], [owner, idle]
    first = np.searchsorted(runs.worker, np.arange(spare.size + 1))
    rates = [Rates(situation) for _ in seen.classes]
    for i in np.flatnonzero(seen.ok & ~simple).tolist():
        worker, speed = situation.fleet.workers[i], float(seen.speed[i])
        mine = slice(first[i], first[i + 1])
        left = np.repeat(known.left[mine], each[mine]).tolist()
        ahead = waiting.get(direct_queue(worker.name), [])
        found = _worker_free_in(worker, left, ahead, rates[seen.place[i]], speed)
        times.append(np.array(found))
        owners.append(np.full(len(found), i))
    return np.concatenate(times), np.concatenate(owners)


def _taken(fleet: Fleet, seen: Columns) -> Places:
    """Slots that each running task takes up (R,); 1 where its lane is not known, and on workers that run more
    than their device should hold."""
    runs = seen.runs
    if not len(fleet.lanes):
        return np.ones(runs.lane.size, dtype=np.intp)
    table = np.rint(occupancy(fleet, seen)).astype(np.intp)
    each = np.where(runs.lane >= 0, table[runs.lane, seen.place[runs.worker]], 1)
    total = np.bincount(runs.worker, each, minlength=seen.slots.size)
    return np.where((total > seen.slots)[runs.worker], 1, each)


def _awaited(roster: Roster, waiting: Waiting) -> Flags:
    """The workers in whose direct queues something lies."""
    awaited = np.zeros(len(roster.names), dtype=np.bool_)
    queues = [queue for queue in waiting if is_direct_queue(queue)]
    if queues:
        places = direct_queues(roster)
        awaited[[places[queue] for queue in queues if queue in places]] = True
    return awaited


@lru_cache(maxsize=2)
def direct_queues(roster: Roster) -> Mapping[str, int]:
    """Whose direct queue is whose, by place. Kept, as a roster lasts for many turns."""
    return {direct_queue(name): place for place, name in enumerate(roster.names)}


def _worker_free_in(worker: Worker, left: list[float], ahead: list[QueuedTask], rates: Rates,
                    speed: float) -> list[float]:
    """Seconds until each slot of a worker has done what it holds (what runs needs `left` more) and what lies
    in its direct queue."""
    times = [max(LEAST_S, seconds) for seconds in left]
    unknown = min(worker.slots, worker.busy) - len(times)
    if unknown > 0:
        typical = sum(times) / len(times) if times else rates.typical_s / 2
        times += [typical] * unknown
    times = sorted(times + [0.0] * (worker.slots - len(times)))[: max(1, worker.slots)]
    queued: tuple[HeldTask | QueuedTask, ...] = (*worker.reserved, *ahead)
    for task in queued if times else ():
        times[0] += rates.run_s(task, worker) / speed
        times.sort()
    return times


class Rates:
    """Seconds of whole tasks on typical workers of one class, each profile asked for once."""

    def __init__(self, situation: Situation) -> None:
        self.typical_s = situation.estimates.typical_s or DEFAULT_S
        self._situation = situation
        self._seconds: dict[str, float] = {}

    def run_s(self, task: HeldTask | QueuedTask, worker: Worker) -> float:
        """Seconds of the whole task on a typical worker of this one's class."""
        if task.profile not in self._seconds:
            lane = self._situation.fleet.lane_of(task.profile)
            profile = lane.profile if lane else TaskProfile(name=task.profile, task="")
            self._seconds[task.profile] = one_s(self._situation, profile, worker)
        return self._seconds[task.profile] * (task.size if 0 < task.size < math.inf else 1.0)
