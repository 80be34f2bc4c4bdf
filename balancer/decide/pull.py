"""What a worker judges at every pop, by its class's order and the backlog of that moment.

Pure, and without numpy, which a worker has no other use for: it would cost every process of its pool
its memory.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from balancer.decide.fragments import Fit, Mix, Room, best_fit, fragments
from balancer.model import Footprint, LaneOffer, Order

#: Lanes that a worker lists in one pop at most: a pop costs Redis more with each.
LISTED_MOST: Final = 50

#: Heads whose ages differ by no more than this share of the oldest's count as equally old.
SAME_AGE: Final = 0.1

#: A worker refuses a lane only when others would be sooner by more than this share: no estimate is better.
TOLERANCE: Final = 0.01

#: What is told of a worker that is as good at all lanes as its speed tells.
TYPICAL: Final[Mapping[str, float]] = MappingProxyType({})

#: What a task takes of a device that asks for nothing of it.
NOTHING: Final = Footprint()


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """What is free of the device that a worker's slots share, and what a task of each lane takes of it."""

    room: Room
    takes: Mapping[str, Footprint]

    def holds(self, queue: str) -> bool:
        """Whether a task of the lane fits now."""
        return self.room.runs(self.takes.get(queue, NOTHING))


def accepts(offer: LaneOffer, order: Order, waiting: Mapping[str, int], speed: float = 1.0) -> bool:
    """The guard: whether a worker of `order`'s class should take from this lane, by the backlog `waiting`
    (tasks by queue) of this moment. `speed` is the worker's own in this lane, from `order.speeds` and
    `order.special`.

    Refused is a task that others would finish sooner, even after all that waits: later than T(π) +
    min p, or than the order's `soonest_s` corrected by the growth of the backlog since.
    """
    return not order.guarded or sooner(offer, order, drain_s(order, waiting), speed)


def admitted(order: Order, waiting: Mapping[str, int], speed: float = 1.0) -> Iterator[LaneOffer]:
    """The offers that `accepts` accepts, in the order's order: Σ n·v is added up once for all."""
    drain = drain_s(order, waiting)
    return (offer for offer in order.offers if not order.guarded or sooner(offer, order, drain, speed))


def ranked(order: Order, waiting: Mapping[str, int], oldest: Mapping[str, float] | None = None,
           speed: float = 1.0, device: Device | None = None, first: str | None = None,
           special: Mapping[str, float] = TYPICAL) -> list[str]:
    """The queues a worker should list in its next pop, best first, at most `LISTED_MOST`.

    Groups in order; inside one by age of the head (`oldest`, s by queue) where all that wait there have
    one, and by length where ages are alike or unknown. Then lanes in no group that have work and that the
    guard admits by now. On a `device` that slots share, by what they waste of it first (`packed`), if the
    order tells the usual tasks. A worker that is better or worse at lanes has them where their ratio times
    its factor belongs (`special`, from `order.special`). Before them all comes `first`, the lane of which
    this worker is to have the first run (`order.first_runs`), where the guard admits it and something waits
    there.
    """
    offers = {offer.queue: offer for offer in order.offers}
    drain, ages = drain_s(order, waiting), oldest or {}
    own = {queue: speed * factor for queue, factor in special.items()}
    groups = [[q for q in group if q in offers and (not order.guarded
                                                    or sooner(offers[q], order, drain, own.get(q, speed)))]
              for group in order.groups]
    if not order.exclusive:
        grouped = {queue for group in order.groups for queue in group}
        groups += [[o.queue] for o in order.offers if o.queue not in grouped and waiting.get(o.queue, 0) > 0
                   and (not order.guarded or sooner(o, order, drain, own.get(o.queue, speed)))]
    if special:
        groups = replaced(groups, offers, special, order.urgent)
    if first is not None and waiting.get(first, 0) > 0 and any(first in group for group in groups):
        groups = [[first], *([q for q in group if q != first] for group in groups)]
    if device is not None and order.usual:
        groups = packed(groups, device, order.usual)
    listed = [q for group in groups for q in (_by_age(group, waiting, ages) if len(group) > 1 else group)]
    return listed[:LISTED_MOST]


def replaced(groups: Sequence[list[str]], offers: Mapping[str, LaneOffer], special: Mapping[str, float],
             urgent: int) -> list[list[str]]:
    """The groups with each lane of `special` in one of its own, before the first whose ratio is below its own
    times its factor; the first `urgent` groups stay where they are."""
    moved = {q: offers[q].ratio * special[q] for group in groups[urgent:] for q in group if q in special}
    rest = [kept for group in groups[urgent:] if (kept := [q for q in group if q not in moved])]
    ratios = [offers[group[0]].ratio for group in rest]
    for queue in sorted(moved, key=lambda q: (-moved[q], q)):
        place = next((i for i, ratio in enumerate(ratios) if ratio < moved[queue]), len(rest))
        rest.insert(place, [queue])
        ratios.insert(place, moved[queue])
    return [*groups[:urgent], *rest]


def packed(groups: Sequence[Sequence[str]], device: Device, usual: Mix) -> list[list[str]]:
    """What fits the device of each group, in groups of those that waste as much of it, least first: FGD's
    rule among lanes of like price. Waste is the growth of what the usual tasks cannot use; of the same
    the best fit comes first.
    """
    before = fragments(device.room, usual)
    known: dict[Footprint, Fit | None] = {}
    made: list[list[str]] = []
    for group in groups:
        alike: dict[tuple[float, float], list[str]] = {}
        for queue in group:
            task = device.takes.get(queue, NOTHING)
            if task not in known:
                known[task] = best_fit(device.room, task, usual, before)
            fit = known[task]
            if fit is not None:
                alike.setdefault(fit.rating, []).append(queue)
        made += [alike[rating] for rating in sorted(alike)]
    return made


def _by_age(queues: list[str], waiting: Mapping[str, int], oldest: Mapping[str, float]) -> list[str]:
    """A group's queues, oldest head first, or longest first when an age is not known.

    Of those about as old as the oldest the longest goes first. What was published together has one age: in
    the order of its milliseconds a whole fleet would do one kind to its end, learn nothing of the others, and
    be left with a mix that no longer suits it.
    """
    busy = [q for q in queues if waiting.get(q, 0) > 0]
    if not all(q in oldest for q in busy):
        return sorted(queues, key=lambda q: (-waiting.get(q, 0), q))
    old = max((oldest[q] for q in busy), default=0.0) * (1 - SAME_AGE)
    ages = {q: oldest[q] if oldest[q] < old else math.inf for q in busy}
    return sorted(queues, key=lambda q: (-ages.get(q, -1.0), -waiting.get(q, 0), q))


def drain_s(order: Order, waiting: Mapping[str, int]) -> float:
    """Σ n·v over the fleet's lanes (s)."""
    values = order.values
    return sum(n * values[queue] for queue, n in waiting.items() if n > 0 and queue in values)


def sooner(offer: LaneOffer, order: Order, drain_s: float, speed: float) -> bool:
    """Whether this class, at this speed, is no later than others would be."""
    own = offer.seconds / speed
    others = drain_s + order.committed_s + offer.best_seconds
    if offer.soonest_s is not None:
        others = min(others, max(offer.best_seconds, offer.soonest_s + drain_s - order.backlog_s))
    return own <= others * (1 + TOLERANCE)
