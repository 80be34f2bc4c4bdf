"""Queued work in class and direct queues that would be done sooner elsewhere: `priced` sends it on.

To an idle worker where one fits, else back to its lane, where the next slot that is worth it takes it. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from balancer.decide.capacity import direct_queues, work_elsewhere
from balancer.decide.columns import sorts_of
from balancer.decide.cost import handover_cost_s
from balancer.decide.durations import seen_of
from balancer.decide.estimate import speed_of
from balancer.decide.plan import move_id
from balancer.decide.rescue import COSTS_GAINED, POINTS, SHARE_GAINED
from balancer.decide.rooms import Rooms
from balancer.decide.situation import Situation
from balancer.decide.slots import one_s, remaining_s
from balancer.model import Fleet, Lane, Move, Order, QueuedTask, Rejected, Score, TaskProfile, Worker
from balancer.model.table import WorkerTable
from balancer.routing import (
    absent_reason,
    class_queue,
    direct_queue,
    is_routed_queue,
    strike_reason,
    unfit_reason,
)

#: Seconds assumed until a message is done that lies where no healthy worker takes it.
HOPELESS_S: Final = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stranded:
    """A message in a class or direct queue, and in how many seconds it would be done there."""

    task: QueuedTask
    lane: Lane
    done_s: float

    @property
    def back(self) -> str:
        """The queue it was published to."""
        return self.task.home or self.lane.queue


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A class or direct queue: the healthy workers that serve it, and its messages that were read."""

    servers: list[Worker]
    tasks: list[QueuedTask]


def stranded_moves(situation: Situation, made: Iterable[Order], idle: dict[str, int],
                   rooms: Rooms) -> tuple[list[Move], list[Rejected]]:
    """Moves of stranded messages, and why the others stay. Slots it gives away leave `idle`, and the memory
    that goes with them `rooms`."""
    places = _places(situation)
    if not places:
        return [], []
    soonest = {offer.queue: offer for order in made for offer in order.offers}
    lanes = {lane.profile.name: lane for lane in reversed(situation.fleet.lanes)}
    under_way = {move.task_id for move in situation.in_flight}
    moves: list[Move] = []
    rejected: list[Rejected] = []
    for place in places:
        ahead_s = _held_s(place.servers, situation)
        for task in place.tasks:
            lane = lanes.get(task.profile)
            if lane is None or task.task_id in under_way:
                continue
            own_s = min((_run_s(task, lane.profile, w, situation) for w in place.servers), default=HOPELESS_S)
            here = Stranded(task=task, lane=lane, done_s=ahead_s + own_s)
            target, there_s = _best(here, idle, rooms, situation)
            offer = soonest.get(lane.queue)
            if target is None and offer is not None and offer.soonest_s is not None:
                there_s = offer.soonest_s * task.size / max(lane.mean_size, 1e-9)
            move = _move(here, target, there_s, situation)
            if (why := _refusal(here, move)) is None:
                moves.append(move)
                if target is not None:
                    idle[target.name] -= 1
                    rooms.take(target, task.task_id, lane.profile.needs)
            else:
                ahead_s += own_s / max(1, sum(w.slots for w in place.servers))
                rejected.append(_rejected(here, move, why))
    return moves, rejected


def unserved(fleet: Fleet) -> list[str]:
    """Class and direct queues that hold messages, or may, though no worker of the fleet serves them."""
    held = {queue for queue, waiting in fleet.queues.items() if waiting and is_routed_queue(queue)}
    held |= {direct_queue(name) for name in fleet.silent}
    if not held:
        return []
    roster = WorkerTable.of(fleet.workers).roster
    return sorted(held.difference(direct_queues(roster), map(class_queue, sorts_of(roster).classes)))


def _places(situation: Situation) -> list[Place]:
    """The class and direct queues with messages that were read, and the healthy workers that serve each.

    Queues that nobody serves are not among them: those go back whole (`unserved`).
    """
    waiting = {queue: tasks for queue, tasks in work_elsewhere(situation.fleet).items()
               if is_routed_queue(queue)}
    if not waiting:
        return []
    seen, workers = seen_of(situation), situation.fleet.workers
    direct = sorted((place, queue) for queue, place in direct_queues(seen.runs.workers.roster).items()
                    if queue in waiting)
    servers = {queue: [workers[place]] if seen.ok[place] else [] for place, queue in direct}
    for place, name in enumerate(seen.classes):
        if (queue := class_queue(name)) in waiting:
            servers[queue] = [workers[i] for i in seen.members(place).tolist() if seen.ok[i]]
    return [Place(servers=able, tasks=waiting[queue]) for queue, able in servers.items()]


def _held_s(servers: list[Worker], situation: Situation) -> float:
    """Mean seconds until the servers' slots have done what they hold."""
    work = 0.0
    for worker in servers:
        for held in (*worker.running, *worker.reserved):
            lane = situation.fleet.lane_of(held.profile)
            work += remaining_s(situation, worker, held, lane.profile if lane else None)
    idle = any(w.idle_slots > 0 for w in servers)
    return 0.0 if idle or not servers else work / sum(max(1, w.slots) for w in servers)


def _run_s(task: QueuedTask, profile: TaskProfile, worker: Worker, situation: Situation) -> float:
    return one_s(situation, profile, worker) * task.size / speed_of(situation.estimates, worker, profile)


def _best(here: Stranded, idle: dict[str, int], rooms: Rooms,
          situation: Situation) -> tuple[Worker | None, float]:
    """The idle worker that would do it soonest, and in how many seconds (inf without one)."""
    needs, profile = here.lane.profile.needs, here.lane.profile
    fitting = [
        w for name, free in idle.items()
        if free > 0 and (w := situation.fleet.worker(name)) is not None
        and absent_reason(here.task.home, w.queues) is None
        and unfit_reason(w.hardware, needs, worker=w.name) is None
        and strike_reason(w.reading, needs) is None and rooms.holds(w, needs)
    ]
    best = min(fitting, key=lambda w: (_run_s(here.task, profile, w, situation), w.name), default=None)
    return best, math.inf if best is None else _run_s(here.task, profile, best, situation)


def _move(here: Stranded, target: Worker | None, there_s: float, situation: Situation) -> Move:
    """The move, with its score; `there_s` is inf when nobody else could do it."""
    at, task = situation.fleet.at, here.task
    cost_s = handover_cost_s(task.profile, situation)
    gain_s = here.done_s - there_s if math.isfinite(there_s) else 0.0
    scale = POINTS / max(here.done_s, cost_s)
    parts = {"here_s": here.done_s, "handover_s": cost_s}
    if math.isfinite(there_s):
        parts["there_s"] = there_s
    return Move(
        move_id=move_id(task.task_id, at), task_id=task.task_id, profile=task.profile, kind="queued",
        source=task.queue, target=here.back if target is None else target.name, at=at,
        target_queue=here.back if target is None else direct_queue(target.name),
        reason=f"would be done in {here.done_s:.1f} s where it waits, in {there_s:.1f} s elsewhere",
        score=Score(cost=min(POINTS, cost_s * scale), benefit=max(0.0, gain_s * scale), cost_s=cost_s,
                    benefit_s=gain_s, parts=MappingProxyType(parts)),
    )


def _refusal(here: Stranded, move: Move) -> tuple[str, str] | None:
    """Why the message stays where it is."""
    cost_s = move.score.cost_s or 0.0
    net_s = (move.score.benefit_s or 0.0) - cost_s
    least_s = max(COSTS_GAINED * cost_s, SHARE_GAINED * here.done_s)
    if net_s > least_s:
        return None
    return "gain too small", f"gains {net_s:.1f} s of {here.done_s:.1f} s; at least {least_s:.1f} s"


def _rejected(here: Stranded, move: Move, refusal: tuple[str, str]) -> Rejected:
    reason, detail = refusal
    return Rejected(task_id=here.task.task_id, profile=here.task.profile, kind="queued", source=move.source,
                    target=move.target, reason=reason, detail=detail, score=move.score)
