"""Which slots have nothing better to do: where `priced` may send a rescue or a stranded message. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat

import numpy as np

from balancer.decide.columns import Flags, profiles_of
from balancer.decide.durations import seen_of
from balancer.decide.kept import kept
from balancer.decide.order import admits
from balancer.decide.pull import drain_s, sooner
from balancer.decide.situation import Situation
from balancer.model import Fleet, Needs, Order, TaskProfile, Worker
from balancer.model.offers import Offers
from balancer.model.table import Roster
from balancer.routing import can_run, class_queue, direct_queue, is_direct_queue, strike_reason


def idle_slots(situation: Situation, made: Iterable[Order]) -> dict[str, int]:
    """Idle slots, by name, of the workers that have nothing better to do: no lane they would take from by the
    orders `made`, nothing in their own queues, and no move on its way to them or come since they reported.
    Others are not named."""
    fleet, seen = situation.fleet, seen_of(situation)
    workers = seen.runs.workers
    roster, direct = workers.roster, _direct(fleet)
    booked = Counter(move.target for move in situation.in_flight)
    shared = np.array([fleet.queues.get(class_queue(name), 0) for name in seen.classes], dtype=np.float64)
    idle = {}
    spare = seen.slots - seen.busy - workers.holdings.reserved
    spare = np.where(seen.ok, spare - (shared[seen.place] if shared.size else 0.0), 0.0)
    work = _wanted(fleet, roster, made) if (spare > 0).any() else {}
    arrived = _arrived(situation) if work else {}
    rows = np.flatnonzero(spare > 0)
    columns = [column[rows].tolist() for column in (spare, roster.which, seen.place, workers.numbers.at)]
    for i, slots, device, place, at in zip(rows.tolist(), *columns, strict=True):
        name = roster.names[i]
        free = int(slots) - booked.get(name, 0) - (direct.get(direct_queue(name), 0) if direct else 0)
        if free <= 0 or at < arrived.get(name, -math.inf):
            continue
        wants = work[seen.classes[place]].by(device, name)
        if not (wants.anything and not seen.hot[i]) and not wants.now(workers[i]):
            idle[name] = free
    return idle


def _arrived(situation: Situation) -> dict[str, float]:
    """When the last moved task came, by where it came: a report from before shows its slot still idle."""
    latest: dict[str, float] = {}
    for past in situation.history.tasks.values():
        latest[past.reached] = max(past.last_at, latest.get(past.reached, -math.inf))
    return latest


def _direct(fleet: Fleet) -> dict[str, int]:
    """What lies in direct queues, by queue."""
    return {queue: n for queue, n in fleet.queues.items() if n and is_direct_queue(queue)}


def _wanted(fleet: Fleet, roster: Roster, made: Iterable[Order]) -> dict[str, Wanted]:
    """What each class would take, by its order."""
    unlike, places = _unlike(profiles_of(fleet))
    needs = {lane.queue: place for lane, place in zip(fleet.lanes, places, strict=True) if lane.waiting > 0}
    waiting = {lane.queue: lane.waiting for lane in fleet.lanes}
    fits = _fits(roster, unlike)
    return {order.hardware_class: Wanted(
        order, unlike, needs, fits, order.backlog_s if order.at == fleet.at else drain_s(order, waiting))
        for order in made}


@kept
def _unlike(profiles: tuple[TaskProfile, ...]) -> tuple[tuple[Needs, ...], list[int]]:
    """What these profiles need, each once, and the place of each profile's there."""
    places: dict[Needs, int] = {}
    of_profile = [places.setdefault(profile.needs, len(places)) for profile in profiles]
    return tuple(places), of_profile


@kept
def _fits(roster: Roster, unlike: tuple[Needs, ...]) -> Flags:
    """Which of the roster's unlike devices can ever run what has which needs (devices, needs); what asks for
    a certain worker counts, as that is asked of each."""
    return np.array([[bool(needs.affinity) or can_run(device, needs) for needs in unlike]
                     for device in roster.unlike], dtype=np.bool_).reshape(len(roster.unlike), len(unlike))


@dataclass(frozen=True, slots=True, kw_only=True)
class Wants:
    """What the tasks need that one sort of workers would take; `anything`: some of them nothing that may be
    short at this moment."""

    needs: tuple[Needs, ...]
    anything: bool

    def now(self, worker: Worker) -> bool:
        """Whether there is such a task for this worker now."""
        return any((not needs.affinity or can_run(worker.hardware, needs, worker=worker.name))
                   and strike_reason(worker.reading, needs) is None for needs in self.needs)


class Wanted:
    """The lanes with work that workers of one class would take from, by its order. `needs` by queue are those
    of lanes with work, as places in `unlike`, and `fits` tells which device can run what has them."""

    def __init__(self, order: Order, unlike: Sequence[Needs], needs: Mapping[str, int], fits: Flags,
                 drain: float) -> None:
        self._order = order
        self._offers = Offers.of(order.offers)
        self._unlike = unlike
        self._needs = np.fromiter(map(needs.get, self._offers.queues, repeat(-1)), dtype=np.intp,
                                  count=len(self._offers))
        self._fits = fits
        self._drain_s = drain
        self._rows = {q: row for row, q in enumerate(self._offers.queues)} if order.special else {}
        self._kept: dict[tuple[int, float, tuple[int, ...]], Wants] = {}

    def by(self, device: int, name: str) -> Wants:
        """What the worker of this name, on this one of the unlike devices, would take; found once a sort of
        workers."""
        speed, special = self._order.speeds.get(name, 1.0), self._order.special.get(name)
        sort = device, speed, self._turned(special, speed) if special else ()
        if sort not in self._kept:
            self._kept[sort] = self._found(*sort)
        return self._kept[sort]

    def _turned(self, special: Mapping[str, float], speed: float) -> tuple[int, ...]:
        """The offers with work that a worker answers otherwise as it is better or worse at their lanes."""
        return tuple([
            row for queue, factor in special.items()
            if (row := self._rows.get(queue)) is not None and self._needs[row] >= 0
            and self._accepts(row, speed * factor) != self._accepts(row, speed)])

    def _accepts(self, row: int, speed: float) -> bool:
        return not self._order.guarded or sooner(self._offers[row], self._order, self._drain_s, speed)

    def _found(self, device: int, speed: float, turned: tuple[int, ...]) -> Wants:
        taken = admits(self._order, self._offers, self._drain_s, speed) & (self._needs >= 0)
        if turned:
            taken[list(turned)] ^= True
        asked = np.zeros(len(self._unlike), dtype=np.bool_)
        asked[self._needs[taken]] = True
        fit = tuple([self._unlike[place] for place in (asked & self._fits[device]).nonzero()[0].tolist()])
        easy = any(n.gpu_memory_bytes is None and n.memory_bytes is None and not n.affinity for n in fit)
        return Wants(needs=fit, anything=easy)
