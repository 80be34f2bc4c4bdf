"""The one choke point: every suggested move is refused here with a reason, or booked; ends step 6.

Strategies only suggest. All limits live here, and each admitted move is booked on a projection of
the fleet before the next is looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Final, TypeVar

from balancer.decide.history import LEAST_COOLDOWN_S, TaskMoves, rest_s
from balancer.decide.load import known_dimensions
from balancer.decide.projection import Projection
from balancer.decide.situation import Situation, Suggestions
from balancer.decide.way_out import WayOut, way_out
from balancer.model import Fleet, HeldTask, Move, QueuedTask, Rejected, Worker
from balancer.routing import (
    absent_reason,
    class_queue,
    is_class_queue,
    is_lane,
    strike_reason,
    unfit_reason,
)

#: Reserved and running tasks that may leave, and that may arrive at, one worker at once.
MOVES_A_WORKER: Final = 2

#: A reason in a word or two, and a sentence.
Refusal = tuple[str, str]


def admit(
    suggestions: Suggestions, situation: Situation
) -> tuple[tuple[Move, ...], tuple[Rejected, ...]]:
    """The moves to make, best first, and the tasks that were refused, with the reason.

    A task may be suggested for several targets: the best admitted one counts, the others are no
    refusals; where none is admitted, each reason is told once, for the best target it met. Of
    `count` anonymous messages as many are admitted as find a slot.
    """
    if not suggestions.moves:
        return (), suggestions.rejected
    gate = _Gate(situation, suggestions)
    moves: list[Move] = []
    booked: set[str] = set()
    refused: dict[tuple[str, ...], Rejected] = {}
    for move in _ranked(suggestions, gate.weighs):
        if move.task_id in booked:
            continue
        refusal = next(gate.refusals(move), None)
        if refusal is None:
            moves.append(gate.book(move))
            booked |= {move.task_id} - {""}
        else:
            refused.setdefault(_what(move, refusal[0]), _rejected(move, refusal))
    kept = (r for r in refused.values() if r.task_id not in booked)
    return tuple(moves), (*suggestions.rejected, *kept)


def move_id(task_id: str, at: float) -> str:
    """The id of a task's move decided at `at` (s): the same inputs give the same id."""
    return f"{task_id}@{at:.3f}"


def _what(move: Move, reason: str) -> tuple[str, ...]:
    """What is told once: a task and the reason; each suggestion where the task has no name."""
    return (move.task_id, reason) if move.task_id else (move.source, move.target, reason)


def _ranked(suggestions: Suggestions, weighs: bool) -> Sequence[Move]:
    """Highest net benefit first; in the strategy's own order where benefits are not weighed."""
    if not weighs:
        return suggestions.moves
    return sorted(suggestions.moves, key=lambda m: (-m.score.net_benefit, m.move_id, m.target))


class _Gate:
    """The checks of one tick, over one projection. Each answers why not, or `None`."""

    __slots__ = ("_at_most", "_lanes", "_projection", "_situation", "weighs")

    def __init__(self, situation: Situation, suggestions: Suggestions) -> None:
        self.weighs = suggestions.weighed and situation.settings.enable_cost_benefit_analysis
        self._situation = situation
        self._at_most = suggestions.at_most
        self._projection = Projection(situation.fleet, situation.in_flight)
        self._lanes = {lane.profile.name: lane for lane in situation.fleet.lanes}

    def refusals(self, move: Move) -> Iterator[Refusal]:
        """What speaks against the move, the most fundamental first."""
        checks: tuple[Callable[[Move], Refusal | None], ...] = (
            self._switched_off, self._under_way, self._source, self._target, self._cooldown,
            self._restarts, self._way_back, self._net_benefit, self._limits, self._room, self._swap,
        )
        return (refusal for check in checks if (refusal := check(move)) is not None)

    def book(self, move: Move) -> Move:
        """Book the move, cut to the slots there are when it is of many messages."""
        if move.count > 1 and self._worker(move.target) is not None:
            move = replace(move, count=min(move.count, self._projection.free(move.target)))
        if move.kind == "running" and (source := self._worker(move.source)) is not None:
            held = _find(source.running, move.task_id)
            out = held and self._way_out(held, move.profile, source)
            move = replace(move, preempt=out == "preempted")
        self._projection.book(move)
        return move

    def _worker(self, name: str) -> Worker | None:
        return self._situation.fleet.worker(name)

    def _home(self, move: Move) -> str:
        """The queue of the operator's own that the task was published to, where that is known."""
        source = self._worker(move.source)
        tasks: Iterable[HeldTask | QueuedTask] = (
            (*source.running, *source.reserved) if source is not None
            else (task for task in self._situation.fleet.queued if task.queue == move.source))
        found = _find(tasks, move.task_id)
        return found.home if found is not None else ""

    def _way_out(self, held: HeldTask, profile: str, source: Worker) -> WayOut | None:
        lane = self._lanes.get(profile)
        return way_out(held, lane.profile if lane else None, source, self._situation.settings.preempt)

    def _switched_off(self, move: Move) -> Refusal | None:
        if self._situation.settings.enable_task_migration:
            return None
        return "migration off", "enable_task_migration is off"

    def _under_way(self, move: Move) -> Refusal | None:
        if move.task_id in self._projection.tasks:
            return "in flight", "the task is already being moved"
        if move.source == move.target:
            return "same place", "source and target are the same"
        return None

    def _source(self, move: Move) -> Refusal | None:
        if move.kind == "queued":
            return None
        source = self._worker(move.source)
        if source is None:
            return "source gone", f"{move.source} no longer reports"
        held = _find(source.running if move.kind == "running" else source.reserved, move.task_id)
        if held is None:
            return "not there", f"{move.source} does not hold the task as {move.kind}"
        if move.kind == "running" and self._way_out(held, move.profile, source) is None:
            return "not migratable", "the task runs, does not checkpoint and cannot be interrupted there"
        return None

    def _target(self, move: Move) -> Refusal | None:
        lane = self._lanes.get(move.profile)
        if lane is None:
            return "unknown profile", f"no lane tells what {move.profile!r} needs"
        target = self._worker(move.target)
        if target is None:
            return _queue_refusal(move, self._situation.fleet)
        if target.health != "ok":
            return "target not healthy", f"{target.name} is {target.health}"
        if (why := absent_reason(self._home(move), target.queues)) is not None:
            return "target unfit", why
        needs = lane.profile.needs
        if (why := unfit_reason(target.hardware, needs, worker=target.name)) is not None:
            return "target unfit", why
        if (why := strike_reason(target.reading, needs)) is not None:
            return "target struck out", why
        return None

    def _cooldown(self, move: Move) -> Refusal | None:
        past = self._situation.history.tasks.get(move.task_id)
        if past is None:
            return None
        least_s = rest_s(past.count, self._situation.settings.move_cooldown)
        since_s = self._situation.fleet.at - past.last_at
        if since_s >= least_s:
            return None
        return "cooldown", f"move {past.count} was {since_s:.0f} s ago; rests {least_s:.0f} s"

    def _restarts(self, move: Move) -> Refusal | None:
        """An interrupted run is lost, so the next is left alone for twice as long: one of them must end."""
        source = self._worker(move.source)
        held = _find(source.running, move.task_id) if source and move.kind == "running" else None
        if source is None or held is None or not held.epoch:
            return None
        if self._way_out(held, move.profile, source) != "preempted":
            return None
        least_s = max(LEAST_COOLDOWN_S, self._situation.settings.move_cooldown) * 2.0 ** min(held.epoch, 64)
        ran_s = self._situation.fleet.at - (held.started_at or self._situation.fleet.at)
        if ran_s >= least_s:
            return None
        return "begun anew", f"its run {held.epoch + 1} would be lost; is left alone for {least_s:.0f} s"

    def _way_back(self, move: Move) -> Refusal | None:
        past = self._situation.history.tasks.get(move.task_id)
        if past is None or past.left != move.target:
            return None
        if world_changed(past, source=self._worker(move.source), target=self._worker(move.target)):
            return None
        if is_class_queue(move.source) and not self._served(move.source):
            return None
        return "moved back", f"the task left {move.target}, and nothing has changed since"

    def _served(self, queue: str) -> bool:
        """Whether any healthy worker is of the class of this queue."""
        return any(class_queue(w.hardware.hardware_class) == queue and w.health == "ok"
                   for w in self._situation.fleet.workers)

    def _net_benefit(self, move: Move) -> Refusal | None:
        score = move.score
        if not self.weighs or score.net_benefit > 0:  # NaN is not > 0
            return None
        return "no net benefit", f"benefit {score.benefit:.2f} does not exceed cost {score.cost:.2f}"

    def _limits(self, move: Move) -> Refusal | None:
        most = self._situation.settings.max_simultaneous_migrations
        if move.kind == "running" and self._projection.running >= most:
            return "too many at once", f"{self._projection.running} of {most} running tasks are in flight"
        if self._at_most is not None and self._projection.moves >= self._at_most:
            return "too many at once", f"{self._projection.moves} of the strategy's {self._at_most} moves"
        if move.kind == "queued":
            return None
        for name in (move.source, move.target):
            if self._projection.crowded(name, MOVES_A_WORKER):
                return "worker limit", f"{MOVES_A_WORKER} moves at {name} already"
        return None

    def _room(self, move: Move) -> Refusal | None:
        if self._worker(move.target) is None or self._projection.free(move.target) >= 1:
            return None
        return "no idle slot", f"every slot of {move.target} is taken or booked"

    def _swap(self, move: Move) -> Refusal | None:
        """To busy one worker in place of another helps nobody, unless it saves time or the source suffers."""
        source, target = self._worker(move.source), self._worker(move.target)
        if move.kind == "queued" or source is None or target is None:
            return None
        after = (self._projection.held(source.name) - 1) / max(1, source.slots)
        there = (self._projection.held(target.name) + 1) / max(1, target.slots)
        gain_s, cost_s = move.score.benefit_s, move.score.cost_s or 0.0
        if there <= after or (gain_s is not None and gain_s > cost_s) or self._suffers(source):
            return None
        return "only swaps", f"{target.name} would be as busy as {source.name} is now, and no time is saved"

    def _suffers(self, worker: Worker) -> bool:
        """Whether anything but its slots is over the high threshold, or will be: foreign load, memory."""
        high, imbalance = self._situation.thresholds.high, self._situation.imbalance
        values = known_dimensions(worker)
        slots = values.pop("slots", 0.0)
        if any(value > high for value in values.values()):
            return True
        if imbalance is None or imbalance.kind != "predicted":
            return False
        return worker.name in imbalance.overloaded and slots <= high


def world_changed(past: TaskMoves, *, source: Worker | None, target: Worker | None) -> bool:
    """Whether a task may go back to `target`, which it left: that was started anew, or `source` ails."""
    if source is not None and source.health != "ok":
        return True
    return target is not None and started_at(target) > past.last_at


def started_at(worker: Worker) -> float:
    """When the worker's process began (s), read off its instance "host:pid:start"; 0 when it cannot be."""
    try:
        return float(worker.instance.rsplit(":", 1)[-1])
    except ValueError:
        return 0.0


def _queue_refusal(move: Move, fleet: Fleet) -> Refusal | None:
    """A queue is a place, too, as long as anybody may serve it: lanes, class queues, the operator's own."""
    if move.target in fleet.silent:
        return "target gone", f"{move.target} has fallen silent"
    if is_lane(move.target) or is_class_queue(move.target) or move.target == move.target_queue:
        return None
    return "target gone", f"{move.target} does not report"


Task = TypeVar("Task", bound=HeldTask | QueuedTask)


def _find(tasks: Iterable[Task], task_id: str) -> Task | None:
    return next((task for task in tasks if task.task_id == task_id), None)


def _rejected(move: Move, refusal: Refusal) -> Rejected:
    reason, detail = refusal
    return Rejected(
        task_id=move.task_id, profile=move.profile, kind=move.kind, source=move.source,
        target=move.target, reason=reason, detail=detail, score=move.score,
    )
