"""What a worker judges at every pop, by its class's order and the backlog of that moment.

Pure, and without numpy, which a worker has no other use for: it would cost every process of its pool
its memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from balancer.model import LaneOffer, Order

#: Lanes that a worker lists in one pop at most: a pop costs Redis more with each.
LISTED_MOST: Final = 50

#: A worker refuses a lane only when others would be sooner by more than this share: no estimate is better.
TOLERANCE: Final = 0.01


def accepts(offer: LaneOffer, order: Order, waiting: Mapping[str, int], speed: float = 1.0) -> bool:
    """The guard: whether a worker of `order`'s class should take from this lane, by the backlog `waiting`
    (tasks by queue) of this moment. `speed` is the worker's own, from `order.speeds`.

    Refused is a task that others would finish sooner, even after all that waits: later than T(π) +
    min p, or than the order's `soonest_s` corrected by the growth of the backlog since.
    """
    return not order.guarded or sooner(offer, order, drain_s(order, waiting), speed)


def admitted(order: Order, waiting: Mapping[str, int], speed: float = 1.0) -> Iterator[LaneOffer]:
    """The offers that `accepts` accepts, in the order's order: Σ n·v is added up once for all."""
    drain = drain_s(order, waiting)
    return (offer for offer in order.offers if not order.guarded or sooner(offer, order, drain, speed))


def ranked(order: Order, waiting: Mapping[str, int], oldest: Mapping[str, float] | None = None,
           speed: float = 1.0) -> list[str]:
    """The queues a worker should list in its next pop, best first, at most `LISTED_MOST`.

    Groups in order; inside one by age of the head (`oldest`, s by queue) where all that wait there have
    one, else by length. Then lanes in no group that have work and that the guard admits by now.
    """
    offers = {offer.queue: offer for offer in order.offers}
    drain = drain_s(order, waiting)
    listed: list[str] = []
    for group in order.groups:
        open_ = [q for q in group if q in offers
                 and (not order.guarded or sooner(offers[q], order, drain, speed))]
        listed += _by_age(open_, waiting, oldest or {}) if len(open_) > 1 else open_
    if not order.exclusive:
        grouped = {queue for group in order.groups for queue in group}
        listed += [o.queue for o in order.offers if o.queue not in grouped and waiting.get(o.queue, 0) > 0
                   and (not order.guarded or sooner(o, order, drain, speed))]
    return listed[:LISTED_MOST]


def _by_age(queues: list[str], waiting: Mapping[str, int], oldest: Mapping[str, float]) -> list[str]:
    """A group's queues, oldest head first, or longest first when an age is not known."""
    if all(q in oldest for q in queues if waiting.get(q, 0) > 0):
        return sorted(queues, key=lambda q: (-(oldest.get(q, 0.0) if waiting.get(q, 0) > 0 else 0.0), q))
    return sorted(queues, key=lambda q: (-waiting.get(q, 0), q))


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
