"""Waiting tasks so long that, begun last, they alone would keep the fleet from being done: they go first.

Each goes to the queue of the class that would have done it first, once a slot there is about to come free;
which worker takes it stays open. Longest processing time first (Graham 1969), for the last of a batch only:
as long as more work waits than such a task takes, nothing is done here. Used by `priced`; pure.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from types import MappingProxyType
from typing import Final

import numpy as np

from balancer.decide.capacity import class_slots, rates_of
from balancer.decide.columns import Columns
from balancer.decide.cost import handover_cost_s
from balancer.decide.durations import Durations, durations
from balancer.decide.plan import move_id
from balancer.decide.rescue import COSTS_GAINED, POINTS
from balancer.decide.situation import Situation
from balancer.model import Lane, Move, Needs, Order, QueuedTask, Score
from balancer.model.offers import Offers
from balancer.routing import can_run, class_queue, is_class_queue

#: A task is long when it takes this many times what waiting tasks take on average: one that is like the
#: others gains nothing. With 1.5 a third more is lost at the end of a batch of short tasks.
LONG: Final = 1.1

#: A task is begun early when it takes all but this share of the time until all else is done: that time is a
#: fluid's, which cuts tasks at will, and what truly happens ends later.
EARLY: Final = 0.15

#: No task is taken to be larger than this many times its lane's mean: where more waits, none is looked for.
LARGEST: Final = 10.0

_SIZE: Final = attrgetter("size")

#: Tasks that are looked at in one turn, the longest.
CONSIDERED: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Long:
    """A waiting task, the row of its lane, its seconds where it runs fastest, and seconds until all that
    waits and runs is done."""

    task: QueuedTask
    row: int
    run_s: float
    drain_s: float


def long_tasks(situation: Situation, made: Sequence[Order]) -> list[Long]:
    """The waiting tasks that would be the last to end unless they begin now, the longest first, by the orders
    `made`; few, and none where hardware makes no difference, or tasks may wait for frugal hardware."""
    settings = situation.settings
    offers = [Offers.of(order.offers) for order in made]
    longest_s = max((float(o.best_seconds.max(initial=0.0)) for o in offers), default=0.0)
    drain_s = made[0].backlog_s + made[0].committed_s if made else 0.0
    choosy = settings.enable_hardware_specific_strategies and not settings.energy_slack
    if not choosy or drain_s > LARGEST * longest_s or not made:
        return []
    sizes = {lane.queue: _mean_size(lane) for lane in situation.fleet.lanes}
    early_s = (1 - EARLY) * drain_s - settings.price_interval
    queued = situation.fleet.queued
    if any(largest * longest_s < early_s for largest in _largest(queued, sizes)):
        return []  # none can be the last to end
    best: dict[str, float] = {}
    for each in offers:
        for queue, seconds in zip(each.queues, each.seconds.tolist(), strict=True):
            best[queue] = min(seconds, best.get(queue, math.inf))
    lanes = {lane.queue: (row, lane) for row, lane in enumerate(situation.fleet.lanes)
             if lane.waiting > 0 and lane.queue in best}
    if not lanes:
        return []
    mean_s = sum(lane.waiting * best[queue] for queue, (_, lane) in lanes.items()) / sum(
        lane.waiting for _, lane in lanes.values())
    least_s = max(LONG * mean_s, early_s)
    rate = {queue: best[queue] / sizes[queue] for queue in lanes}
    known = {move.task_id for move in situation.in_flight} | situation.history.tasks.keys()
    found = [
        Long(task=task, row=lanes[task.queue][0], run_s=rate[task.queue] * task.size, drain_s=drain_s)
        for task in situation.fleet.queued
        if least_s <= rate.get(task.queue, 0.0) * task.size < math.inf and task.task_id not in known
    ]
    return heapq.nlargest(CONSIDERED, found, key=lambda each: (each.run_s, each.task.task_id))


def _largest(queued: Sequence[QueuedTask], sizes: Mapping[str, float]) -> Iterator[float]:
    """How many times its lane's mean the largest of these tasks is: at most, which is told at once, then
    truly."""
    yield max(map(_SIZE, queued), default=0.0) / min(sizes.values(), default=math.inf)
    yield max((task.size / sizes.get(task.queue, math.inf) for task in queued), default=0.0)


def _mean_size(lane: Lane) -> float:
    return lane.mean_size if 0 < lane.mean_size < math.inf else 1.0


def ahead_moves(situation: Situation, long: Sequence[Long]) -> list[Move]:
    """Moves of those that a slot is about to be free for, to the queue of its class; the others wait for the
    next turn."""
    if not long:
        return []
    known = durations(situation)
    free, able = _free_in(situation, known), dict[Needs, list[bool]]()
    moves = []
    for each in long:
        needs = situation.fleet.lanes[each.row].profile.needs
        if needs not in able:
            able[needs] = _all_can(known.seen, needs)
        rates = known.one[each.row].tolist()
        ends = [slots[0] + rate * each.task.size if can and slots else math.inf
                for slots, can, rate in zip(free, able[needs], rates, strict=True)]
        place = min(range(len(ends)), key=ends.__getitem__, default=None)
        if place is None or ends[place] == math.inf:
            continue
        begins_s = heapq.heapreplace(free[place], ends[place])
        move = _move(situation, each, known.seen.classes[place], begins_s)
        gain_s, cost_s = move.score.benefit_s or 0.0, move.score.cost_s or 0.0
        if begins_s <= situation.settings.price_interval and gain_s > COSTS_GAINED * cost_s:
            moves.append(move)
    return moves


def _free_in(situation: Situation, known: Durations) -> list[list[float]]:
    """By class, seconds until its next slots come free, as heaps, once what lies in its queue has begun."""
    ahead: dict[str, list[QueuedTask]] = {}
    for task in situation.fleet.queued:
        if is_class_queue(task.queue):
            ahead.setdefault(task.queue, []).append(task)
    heaps = []
    for place, slots in enumerate(class_slots(situation, known)):
        before, rates = ahead.get(class_queue(known.seen.classes[place]), []), rates_of(situation)
        heap = slots.free_in[:CONSIDERED + len(before)].tolist()
        first = situation.fleet.workers[int(known.seen.members(place)[0])] if before else None
        for task in before:
            if heap and first is not None:
                heapq.heapreplace(heap, heap[0] + rates.run_s(task, first))
        heaps.append(heap)
    return heaps


def _all_can(seen: Columns, needs: Needs) -> list[bool]:
    """By class, whether every worker could take such a task from the queue of the class, at any moment."""
    shares = needs.gpu_memory_bytes is not None or needs.memory_bytes is not None
    return [
        all(can_run(kind, needs) for kind in kinds)
        and not (shares and float(np.max(seen.slots[seen.members(place)], initial=0.0)) > 1.0)
        for place, kinds in enumerate(seen.kinds)
    ]


def _move(situation: Situation, each: Long, hardware_class: str, begins_s: float) -> Move:
    """The move and its score: what it gains is not to wait for all else, at most."""
    task, at, queue = each.task, situation.fleet.at, class_queue(hardware_class)
    cost_s, gain_s = handover_cost_s(task.profile, situation), max(0.0, each.drain_s - begins_s)
    scale = POINTS / max(each.drain_s + each.run_s, cost_s, 1e-9)
    parts = {"run_s": each.run_s, "drain_s": each.drain_s, "begins_s": begins_s, "handover_s": cost_s}
    return Move(
        move_id=move_id(task.task_id, at), task_id=task.task_id, profile=task.profile, kind="queued",
        source=task.queue, target=queue, target_queue=queue, at=at,
        reason=f"takes {each.run_s:.1f} s, and all else is done in {each.drain_s:.1f} s: it goes first",
        score=Score(cost=min(POINTS, cost_s * scale), benefit=gain_s * scale, cost_s=cost_s,
                    benefit_s=gain_s, parts=MappingProxyType(parts)),
    )
