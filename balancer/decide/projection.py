"""The fleet as it will be once the moves in flight and the booked ones have arrived.

`plan` books each move here before it looks at the next, so that twenty tasks never go to one slot.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from balancer.model import Fleet, Move, Worker
from balancer.routing import direct_queue


class Projection:
    """Counts by worker: slots still free, tasks that will be held, moves that leave and that arrive."""

    __slots__ = ("_arriving", "_fleet", "_leaving", "_more", "_taken", "moves", "running", "tasks")

    def __init__(self, fleet: Fleet, in_flight: Iterable[Move]) -> None:
        self.moves = 0
        self.running = 0
        self.tasks: set[str] = set()
        self._leaving: Counter[str] = Counter()
        self._arriving: Counter[str] = Counter()
        self._fleet = fleet
        self._more: Counter[str] = Counter()
        self._taken: Counter[str] = Counter()
        for move in in_flight:
            self._count(move)
            if not _seen_at_target(move, fleet):
                self._taken[move.target] += move.count

    def free(self, worker: str) -> int:
        """Slots of this worker that nothing is booked on."""
        known = self._fleet.worker(worker)
        idle = known.idle_slots - _on_its_way(known, self._fleet) if known else 0
        return max(0, idle - self._taken[worker])

    def held(self, worker: str) -> int:
        """Tasks this worker will hold."""
        known = self._fleet.worker(worker)
        held = max(known.busy, len(known.running)) + len(known.reserved) if known else 0
        return held + self._more[worker]

    def crowded(self, worker: str, limit: int) -> bool:
        """Whether as many held tasks as `limit` already leave this worker or arrive at it."""
        return max(self._leaving[worker], self._arriving[worker]) >= limit

    def book(self, move: Move) -> None:
        """Count a move as made."""
        self._count(move)
        self._taken[move.target] += move.count
        self._more[move.target] += move.count
        if move.kind != "queued":
            self._more[move.source] -= 1  # its slot is not offered: the worker's own work comes first

    def _count(self, move: Move) -> None:
        self.moves += 1
        self.running += move.kind == "running"
        if move.task_id:
            self.tasks.add(move.task_id)
        if move.kind != "queued":
            self._leaving[move.source] += 1
            self._arriving[move.target] += 1


def _on_its_way(worker: Worker, fleet: Fleet) -> int:
    """Messages in the worker's direct queue, which it will take before anything else."""
    return fleet.queues.get(direct_queue(worker.name), 0)


def _seen_at_target(move: Move, fleet: Fleet) -> bool:
    """Whether the fleet already shows the moved task at its target, so that it counts once."""
    target = fleet.worker(move.target)
    if target is None or not move.task_id:
        return False
    held = any(task.task_id == move.task_id for task in (*target.running, *target.reserved))
    return held or any(t.task_id == move.task_id and t.queue == move.target_queue for t in fleet.queued)
