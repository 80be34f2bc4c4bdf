"""Moves of running tasks that `priced` suggests: onto slots that have nothing else to do (a rescue).

Everything in seconds, on both scales (`Score`). Asked at every turn; the limits are `plan`'s. Pure.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import numpy as np

from balancer.decide.cost import handover_cost_s
from balancer.decide.durations import Durations, durations
from balancer.decide.estimate import Estimates, speed_of
from balancer.decide.history import rest_s
from balancer.decide.plan import move_id, world_changed
from balancer.decide.rooms import Rooms
from balancer.decide.situation import Situation
from balancer.decide.slots import expected_s
from balancer.decide.way_out import way_out
from balancer.model import HeldTask, Move, Rejected, Score, TaskProfile, Worker
from balancer.routing import absent_reason, direct_queue, strike_reason, unfit_reason

#: A rescue must gain this many hand-overs, and this share of what remains: estimates err by as much.
COSTS_GAINED: Final = 3.0
SHARE_GAINED: Final = 0.25

#: A task is left alone for this share of its run after it began, but no longer than the cooldown.
YOUNG_SHARE: Final = 0.1

#: Tasks looked at, those that remain longest (they decide when the fleet is done), and idle workers a class.
CONSIDERED: Final = 200
TARGETS: Final = 4

#: Points on the seed's scale that the longest remaining time among the candidates is worth.
POINTS: Final = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rescue:
    """A running task where it is: seconds that remain, seconds of work that no checkpoint has saved, seconds
    of a whole run there, and how much longer than expected (a factor) that is."""

    task: HeldTask
    profile: TaskProfile
    source: Worker
    remaining_s: float
    unsaved_s: float
    whole_s: float
    excess: float


def running_moves(situation: Situation, idle: Mapping[str, int],
                  rooms: Rooms) -> tuple[list[Move], list[Rejected]]:
    """Rescues by net gain, largest first, each slot of `idle` (by worker) given once, and the memory of
    `rooms`; why other tasks stay.

    Without an idle slot there is no candidate. A task counts once, with its best target's reason.
    """
    if not any(idle.values()):
        return [], []
    running = _running(situation)
    scale_s = max((r.remaining_s for r in running), default=0.0) or 1.0
    targets = _targets(situation, idle)
    options: list[tuple[Rescue, Worker, Score]] = []
    rejected: dict[str, Rejected] = {}
    for r in running:
        if (why := _stays(r, situation)) is not None:
            rejected[r.task.task_id] = _rejected(r, "", None, why)
            continue
        fitting = [w for w in targets if w.name != r.source.name and _fits(r, w)]
        options += [(r, w, _score(r, w, situation, scale_s)) for w in fitting]
        if not fitting:
            why = "no idle slot fits", "no idle worker can run it"
            rejected[r.task.task_id] = _rejected(r, "", None, why)
    options.sort(key=lambda o: (-_net_s(o[2]), o[0].task.task_id, o[1].name))
    moves: dict[str, Move] = {}
    left = dict(idle)
    for r, target, score in options:
        task_id = r.task.task_id
        if task_id in moves:
            continue
        move = _move(r, target, score, situation)
        free = left[target.name] > 0 and rooms.holds(target, r.profile.needs)
        if (refusal := _refusal(r, target, move, situation, free=free)) is None:
            moves[task_id] = move
            left[target.name] -= 1
            rooms.take(target, task_id, r.profile.needs)
        else:
            rejected.setdefault(task_id, _rejected(r, target.name, score, refusal))
    return list(moves.values()), [no for task_id, no in rejected.items() if task_id not in moves]


def _running(situation: Situation) -> list[Rescue]:
    """The running tasks of known profiles that remain longest, at most `CONSIDERED`."""
    known = durations(situation)
    runs = known.seen.runs
    may = np.flatnonzero((runs.lane >= 0) & np.isfinite(runs.started))
    if may.size > CONSIDERED:
        # All that remain as long as the last one of them: ties are told apart by their ids.
        least = np.partition(known.left[may], -CONSIDERED)[-CONSIDERED]
        may = may[known.left[may] >= least]
    found = (_rescue(situation, known, i) for i in may.tolist())
    return heapq.nlargest(CONSIDERED, found, key=lambda r: (r.remaining_s, r.task.task_id))


def _rescue(situation: Situation, known: Durations, i: int) -> Rescue:
    """Running task `i` of the columns."""
    runs, at = known.seen.runs, situation.fleet.at
    held, started = runs.tasks[i], float(runs.started[i])
    saved = started if held.checkpointed_at is None else held.checkpointed_at
    remaining, ran = float(known.left[i]), 0.0 if held.share_before else max(0.0, at - started)
    whole = max(float(known.whole[i]), ran + remaining)
    return Rescue(
        task=held, profile=situation.fleet.lanes[runs.lane[i]].profile, remaining_s=remaining, whole_s=whole,
        source=situation.fleet.workers[runs.worker[i]], unsaved_s=max(0.0, at - saved),
        excess=whole / float(known.expected[i]),
    )


def _targets(situation: Situation, idle: Mapping[str, int]) -> list[Worker]:
    """Workers with an idle slot, the fastest few of each class; a specialist counts as what it is best at."""
    by_class: dict[str, list[Worker]] = {}
    for name, free in idle.items():
        if free > 0 and (worker := situation.fleet.worker(name)) is not None:
            by_class.setdefault(worker.hardware.hardware_class, []).append(worker)
    return [
        w for workers in by_class.values()
        for w in sorted(workers, key=lambda w: (-_fastest(situation.estimates, w), w.name))[:TARGETS]
    ]


def _fastest(estimates: Estimates, worker: Worker) -> float:
    """Its speed at what it is best at."""
    return speed_of(estimates, worker) * max((1.0, *estimates.special.get(worker.name, {}).values()))


def _fits(r: Rescue, target: Worker) -> bool:
    needs = r.profile.needs
    return (absent_reason(r.task.home, target.queues) is None
            and unfit_reason(target.hardware, needs, worker=target.name) is None
            and strike_reason(target.reading, needs) is None)


Refusal = tuple[str, str]


def _stays(r: Rescue, situation: Situation) -> Refusal | None:
    """Why a task may not leave at all, wherever to."""
    at, cooldown_s = situation.fleet.at, situation.settings.move_cooldown
    if any(move.task_id == r.task.task_id for move in situation.in_flight):
        return "in flight", "the task is already being moved"
    if way_out(r.task, r.profile, r.source, situation.settings.preempt) is None:
        return "not migratable", "the task does not checkpoint and cannot be interrupted there"
    ran_s, young_s = at - (r.task.started_at or at), min(cooldown_s, YOUNG_SHARE * r.whole_s)
    if ran_s < young_s:
        return "young", f"runs for {ran_s:.1f} s; is left alone for {young_s:.1f} s"
    past = situation.history.tasks.get(r.task.task_id)
    if past is not None and at - past.last_at < rest_s(past.count, cooldown_s):
        return "cooldown", f"move {past.count} was {at - past.last_at:.0f} s ago"
    return None


def _score(r: Rescue, target: Worker, situation: Situation, scale_s: float) -> Score:
    """Gain and cost of one rescue. Gain: what remains here less what would remain there, where the work
    since the last checkpoint is done again. Of a run longer than expected, half (as a factor) is put down
    to the task and half to the worker. Cost: the hand-over and the state's way over the network.
    Points: `POINTS` is the longest remaining time, so that points rank as seconds do."""
    there_s = expected_s(situation, target, r.task, r.profile) * math.sqrt(r.excess)
    share = min(1.0, (r.remaining_s + r.unsaved_s) / r.whole_s)
    gain_s = r.remaining_s - share * there_s
    handover_s = handover_cost_s(r.profile.name, situation)
    resume_s = (r.task.state_bytes or 0) / situation.history.bandwidth_bytes_per_s
    cost_s = handover_s + resume_s
    parts = {"remaining_s": r.remaining_s, "there_s": share * there_s, "repeated_s": r.unsaved_s,
             "handover_s": handover_s, "resume_s": resume_s}
    return Score(
        cost=min(POINTS, POINTS * cost_s / scale_s), benefit=max(0.0, POINTS * gain_s / scale_s),
        cost_s=cost_s, benefit_s=gain_s, parts=MappingProxyType(parts),
    )


def _net_s(score: Score) -> float:
    return (score.benefit_s or 0.0) - (score.cost_s or 0.0)


def _refusal(r: Rescue, target: Worker, move: Move, situation: Situation, *, free: bool) -> Refusal | None:
    """Why this task does not go to this target."""
    past = situation.history.tasks.get(r.task.task_id)
    if past is not None and past.left == target.name and not world_changed(
        past, source=r.source, target=target
    ):
        return "moved back", f"the task left {move.target}, and nothing has changed since"
    net_s, cost_s = _net_s(move.score), move.score.cost_s or 0.0
    least_s = max(COSTS_GAINED * cost_s, SHARE_GAINED * r.remaining_s)
    if net_s <= least_s:
        return "gain too small", f"gains {net_s:.1f} s of {r.remaining_s:.1f} s; at least {least_s:.1f} s"
    if not free:
        return "slot taken", f"a task that gains more goes to {move.target}"
    return None


def _move(r: Rescue, target: Worker, score: Score, situation: Situation) -> Move:
    at = situation.fleet.at
    reason = f"{r.remaining_s:.1f} s remain here, {score.parts['there_s']:.1f} s on an idle slot"
    return Move(
        move_id=move_id(r.task.task_id, at), task_id=r.task.task_id, profile=r.profile.name, kind="running",
        source=r.source.name, target=target.name, target_queue=direct_queue(target.name), reason=reason,
        score=score, at=at,
    )


def _rejected(r: Rescue, target: str, score: Score | None, refusal: Refusal) -> Rejected:
    reason, detail = refusal
    return Rejected(task_id=r.task.task_id, profile=r.profile.name, kind="running", source=r.source.name,
                    target=target, reason=reason, detail=detail, score=score)
