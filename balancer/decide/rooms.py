"""What is left of the GPU memory that a worker's slots share, once all that was sent to it is there.

An idle slot is no place for a task whose memory another one on its way will take: it would have left its
device only to wait. Asked by `rescue` and `stranded` for each idle worker they think of, and told to the
workers by their orders (`kept_free`), so that nothing small takes the room meanwhile; pure.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from types import MappingProxyType

from balancer.decide.capacity import direct_queues, work_elsewhere
from balancer.decide.fragments import left_bytes
from balancer.decide.situation import Situation
from balancer.model import Fleet, Move, Needs, Order, Worker
from balancer.model.table import WorkerTable
from balancer.routing import direct_queue, is_direct_queue


class Rooms:
    """Free bytes by worker, less what comes to it, each task once; `take` counts one more."""

    def __init__(self, situation: Situation) -> None:
        self._asked = {lane.profile.name: lane.profile.needs.gpu_memory_bytes or 0
                       for lane in situation.fleet.lanes}
        #: Bytes by task and, first, by the direct queue that it comes by.
        self._coming: dict[str, dict[str, int]] = defaultdict(dict)
        if any(self._asked.values()):
            coming = [(move.target_queue, move.task_id, move.profile) for move in situation.in_flight]
            for tasks in work_elsewhere(situation.fleet).values():
                coming += [(task.queue, task.task_id, task.profile) for task in tasks]
            for queue, task_id, profile in coming:
                if is_direct_queue(queue):
                    self._coming[queue][task_id] = self._asked.get(profile, 0)

    def holds(self, worker: Worker, needs: Needs) -> bool:
        """Whether such a task would find its memory there. Where a device does not tell its memory, yes; a
        worker of one slot gives all of it to one task after the other."""
        total, read = worker.hardware.gpu_memory_bytes, worker.reading.gpu_memory_free_bytes
        if not needs.gpu_memory_bytes or not total or worker.slots < 2:
            return True
        here = [self._asked.get(held.profile, 0) for held in (*worker.running, *worker.reserved)]
        return needs.gpu_memory_bytes <= left_bytes(total, here, read) - self._comes_to(worker)

    def coming(self, fleet: Fleet) -> dict[str, dict[str, int]]:
        """Bytes of what comes to a worker of several slots and is not there yet, by class and worker."""
        found: dict[str, dict[str, int]] = defaultdict(dict)
        places = direct_queues(WorkerTable.of(fleet.workers).roster)
        for queue in self._coming.keys() & places.keys():
            worker = fleet.workers[places[queue]]
            if worker.slots > 1 and (size := self._comes_to(worker)):
                found[worker.hardware.hardware_class][worker.name] = size
        return found

    def _comes_to(self, worker: Worker) -> int:
        """Bytes of what comes to a worker and is not there yet."""
        here = {held.task_id for held in (*worker.running, *worker.reserved)}
        coming = self._coming.get(direct_queue(worker.name), {})
        return sum(size for task, size in coming.items() if task not in here)

    def take(self, worker: Worker, task_id: str, needs: Needs) -> None:
        """A task that needs this is sent to the worker."""
        self._coming[direct_queue(worker.name)][task_id] = needs.gpu_memory_bytes or 0


def kept_free(orders: Sequence[Order], situation: Situation, moves: Sequence[Move]) -> tuple[Order, ...]:
    """The orders with what comes to each worker by the moves under way and by these new `moves`."""
    if not any(lane.profile.needs.gpu_memory_bytes for lane in situation.fleet.lanes):
        return tuple(orders)
    rooms = Rooms(replace(situation, in_flight=(*situation.in_flight, *moves)))
    coming = rooms.coming(situation.fleet)
    return tuple(replace(order, coming=MappingProxyType(coming[order.hardware_class]))
                 if order.hardware_class in coming else order for order in orders)
