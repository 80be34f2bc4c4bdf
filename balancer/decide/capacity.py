"""What each hardware class has to give: its slots, the work they are committed to, when they come free.

From a snapshot of the fleet and the durations; read by `order` for prices and the guard. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Final

import numpy as np

from balancer.decide.columns import Columns, Flags, Floats, Places
from balancer.decide.durations import Durations
from balancer.decide.estimate import DEFAULT_S, Estimates, seconds
from balancer.decide.heat import Warming, eagerness
from balancer.decide.kept import kept
from balancer.decide.occupancy import occupancy
from balancer.decide.rest import Need, willingness
from balancer.decide.situation import Situation
from balancer.model import Fleet, HardwareProfile, HeldTask, QueuedTask, TaskProfile, Worker
from balancer.model.table import Roster
from balancer.routing import class_queue, direct_queue, is_direct_queue
from balancer.settings import Settings

#: A slot that runs something is not idle, however soon it is done (s).
LEAST_S: Final = 0.01

_QUEUE: Final = attrgetter("queue")

#: A worker slower than this (relative to its class) is never what others wait for.
SLOW: Final = 0.8


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassSlots:
    """One class: `capacity` in slots of a typical worker, `committed_s` in their seconds, `free_in`, seconds
    until each slot of its workers that are not slow, warm or hot is free, soonest first (0 = idle now), and
    the speed of the `fastest` that is there, at most 1."""

    capacity: float
    committed_s: float
    free_in: Floats
    fastest: float


def class_slots(situation: Situation, known: Durations) -> tuple[ClassSlots, ...]:
    """What each class has to give, in the order of `known.seen.classes`. Workers that are not "ok" give
    nothing, and nobody waits for them."""
    return _class_slots(known, situation.fleet, situation.estimates, situation.settings, situation.profiles,
                        situation.needs, situation.warming)


@kept
def _class_slots(known: Durations, fleet: Fleet, estimates: Estimates, settings: Settings, kinds: Kinds,
                 needs: Mapping[str, Need], warming: Warming) -> tuple[ClassSlots, ...]:
    seen, waiting = known.seen, work_elsewhere(fleet)
    rates = [Rates(fleet, estimates, settings, kinds) for _ in seen.classes]
    free, worker = _free_in(fleet, known, waiting, rates)
    place, speed = seen.place[worker], seen.speed
    count = len(seen.classes)
    capacity = np.bincount(seen.place[seen.ok], (seen.slots * speed)[seen.ok], minlength=count)
    committed = np.bincount(place, free * speed[worker], minlength=count)
    eager = speed * eagerness(seen, warming, settings) * willingness(seen, needs, fleet.at, settings)
    quick = (eager[worker] >= SLOW) & ~seen.hot[worker]
    fastest = _fastest(seen, eager)
    times, answer = _by_class(free[quick], place[quick], count), []
    for h, name in enumerate(seen.classes):
        shared = waiting.get(class_queue(name), [])
        work = float(committed[h])
        if shared:
            first = fleet.workers[int(seen.members(h)[0])]
            work += sum(rates[h].run_s(task, first) for task in shared)
        answer.append(ClassSlots(capacity=float(capacity[h]), committed_s=work,
                                 free_in=np.sort(times[h]), fastest=fastest[h]))
    return tuple(answer)


def _fastest(seen: Columns, speed: Floats) -> list[float]:
    """By class, the largest `speed` of a healthy worker, at most 1; 1 where there is none."""
    found = np.zeros(len(seen.classes))
    np.maximum.at(found, seen.place[seen.ok], np.minimum(1.0, speed[seen.ok]))
    fastest: list[float] = np.where(found > 0, found, 1.0).tolist()
    return fastest


def _by_class(times: Floats, place: Places, count: int) -> list[Floats]:
    """The `times` of each of `count` classes. Places of two bytes are sorted by their digits, many times as
    fast."""
    times = times[np.argsort(place.astype(np.uint16) if count < 1 << 16 else place, kind="stable")]
    ends = np.cumsum(np.bincount(place, minlength=count)).tolist()
    return [times[begin:end] for begin, end in zip([0, *ends], ends, strict=False)]


Kinds = Mapping[str, HardwareProfile]
Waiting = Mapping[str, list[QueuedTask]]


@kept
def work_elsewhere(fleet: Fleet) -> Waiting:
    """The messages read in class and direct queues, by queue."""
    found: dict[str, list[QueuedTask]] = {}
    elsewhere = set(map(_QUEUE, fleet.queued)) - {lane.queue for lane in fleet.lanes}
    for task in fleet.queued if elsewhere else ():
        if task.queue in elsewhere:
            found.setdefault(task.queue, []).append(task)
    return found


def _free_in(fleet: Fleet, known: Durations, waiting: Waiting,
             rates: Sequence[Rates]) -> tuple[Floats, Places]:
    """Seconds until each slot of the healthy workers is free, and the worker that each belongs to; `rates` by
    class."""
    seen, runs = known.seen, known.seen.runs
    simple = seen.ok & seen.plain & ~_awaited(seen.runs.workers.roster, waiting)
    theirs = simple[runs.worker]
    each = _taken(fleet, seen)
    busy = np.repeat(np.maximum(LEAST_S, known.left[theirs]), each[theirs])
    owner = np.repeat(runs.worker[theirs], each[theirs])
    used = np.maximum(seen.busy, np.bincount(runs.worker, each, minlength=seen.busy.size))
    spare = np.where(simple, seen.slots - np.minimum(seen.slots, used), 0.0).astype(np.intp)
    idle = np.repeat(np.arange(spare.size), spare)
    times, owners = [busy, np.zeros(idle.size)], [owner, idle]
    others = np.flatnonzero(seen.ok & ~simple)
    bounds = [np.searchsorted(runs.worker, others, side=side).tolist() for side in ("left", "right")]
    for i, begin, end in zip(others.tolist(), *bounds, strict=True):
        worker, speed = fleet.workers[i], float(seen.speed[i])
        mine = slice(begin, end)
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
    each = np.where(runs.lane >= 0, table.ravel()[runs.pair], 1)
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


@kept
def direct_queues(roster: Roster) -> Mapping[str, int]:
    """Whose direct queue is whose, by place; a roster lasts for many turns."""
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

    def __init__(self, fleet: Fleet, estimates: Estimates, settings: Settings, kinds: Kinds) -> None:
        self.typical_s = estimates.typical_s or DEFAULT_S
        self._by = fleet, estimates, settings, kinds
        self._seconds: dict[str, float] = {}

    def run_s(self, task: HeldTask | QueuedTask, worker: Worker) -> float:
        """Seconds of the whole task on a typical worker of this one's class."""
        if task.profile not in self._seconds:
            fleet, estimates, settings, kinds = self._by
            lane = fleet.lane_of(task.profile)
            profile = lane.profile if lane else TaskProfile(name=task.profile, task="")
            self._seconds[task.profile] = seconds(estimates, profile, worker.hardware, settings, kinds)
        return self._seconds[task.profile] * (task.size if 0 < task.size < math.inf else 1.0)


def rates_of(situation: Situation) -> Rates:
    """The rates of one class, by the situation's estimates."""
    return Rates(situation.fleet, situation.estimates, situation.settings, situation.profiles)
