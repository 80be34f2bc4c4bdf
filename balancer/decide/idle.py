"""Which slots have nothing better to do: where `priced` may send a rescue or a stranded message. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

import numpy as np

from balancer.decide.columns import fitness
from balancer.decide.durations import seen_of
from balancer.decide.order import admits
from balancer.decide.pull import drain_s
from balancer.decide.situation import Situation
from balancer.model import Fleet, Needs, Order, Worker
from balancer.model.offers import Offers
from balancer.routing import can_run, class_queue, direct_queue, is_direct_queue, strike_reason


def idle_slots(situation: Situation, made: Iterable[Order]) -> dict[str, int]:
    """Idle slots, by name, of the workers that have nothing better to do: no lane they would take from by the
    orders `made`, nothing in their own queues, and no move on its way to them. Others are not named."""
    fleet, seen = situation.fleet, seen_of(situation)
    alike: dict[Needs, Needs] = {}
    needs = {lane.queue: alike.setdefault(lane.profile.needs, lane.profile.needs) for lane in fleet.lanes}
    work = {order.hardware_class: Wanted(order, fleet, needs) for order in made}
    booked = Counter(move.target for move in situation.in_flight)
    direct = {queue: n for queue, n in fleet.queues.items() if n and is_direct_queue(queue)}
    shared = [fleet.queues.get(class_queue(name), 0) for name in seen.classes]
    idle = {}
    for i in np.flatnonzero(seen.ok & (seen.slots > seen.busy)).tolist():
        worker = fleet.workers[i]
        own = shared[seen.place[i]] + (direct.get(direct_queue(worker.name), 0) if direct else 0)
        free = worker.idle_slots - own - booked[worker.name]
        if free > 0 and not work[worker.hardware.hardware_class].by(worker):
            idle[worker.name] = free
    return idle


class Wanted:
    """The lanes with work that workers of one class would take from, by its order. Of `needs` by queue those
    that are equal are one object."""

    def __init__(self, order: Order, fleet: Fleet, needs: Mapping[str, Needs]) -> None:
        waiting = {lane.queue: lane.waiting for lane in fleet.lanes}
        self._order = order
        self._offers = Offers.of(order.offers)
        self._waiting = np.array([waiting.get(queue, 0) > 0 for queue in self._offers.queues], dtype=np.bool_)
        self._needs = [needs[queue] for queue in self._offers.queues]
        self._drain_s = drain_s(order, waiting)
        self._kept: dict[tuple[object, ...], list[Needs]] = {}

    def by(self, worker: Worker) -> bool:
        """Whether there is such a lane for this worker now."""
        return any((not needs.affinity or can_run(worker.hardware, needs, worker=worker.name))
                   and strike_reason(worker.reading, needs) is None for needs in self._fit(worker))

    def _fit(self, worker: Worker) -> list[Needs]:
        """What the tasks need that workers like this one may take, affinity aside; found once a sort."""
        speed = self._order.speeds.get(worker.name, 1.0)
        sort = (*fitness(worker.hardware), speed)
        if sort not in self._kept:
            taken = self._waiting & admits(self._order, self._offers, self._drain_s, speed)
            unlike = {id(self._needs[i]): self._needs[i] for i in np.flatnonzero(taken).tolist()}
            self._kept[sort] = [n for n in unlike.values() if n.affinity or can_run(worker.hardware, n)]
        return self._kept[sort]
