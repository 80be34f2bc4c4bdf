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

    __slots__ = ("_arriving", "_free", "_held", "_leaving", "moves", "running", "tasks")

    def __init__(self, fleet: Fleet, in_flight: Iterable[Move]) -> None:
        self.moves = 0
        self.running = 0
        self.tasks: set[str] = set()
        self._leaving: Counter[str] = Counter()
        self._arriving: Counter[str] = Counter()
        self._held = Counter({w.name: max(w.busy, len(w.running)) + len(w.reserved) for w in fleet.workers})
        self._free = Counter({w.name: w.idle_slots - _on_its_way(w, fleet) for w in fleet.workers})
        for move in in_flight:
            self._count(move)
            if not _seen_at_target(move, fleet):
                self._free[move.target] -= move.count

    def free(self, worker: str) -> int:
        """Slots of this worker that nothing is booked on."""
        return max(0, self._free[worker])

    def held(self, worker: str) -> int:
        """Tasks this worker will hold."""
        return self._held[worker]

    def crowded(self, worker: str, limit: int) -> bool:
        """Whether as many held tasks as `limit` already leave this worker or arrive at it."""
        return max(self._leaving[worker], self._arriving[worker]) >= limit

    def book(self, move: Move) -> None:
        """Count a move as made."""
        self._count(move)
        self._free[move.target] -= move.count
        self._held[move.target] += move.count
        if move.kind != "queued":
            self._held[move.source] -= 1  # its slot is not offered: the worker's own work comes first

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
