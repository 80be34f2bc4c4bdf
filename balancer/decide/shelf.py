"""What every class is offered, of all classes at once: its lanes best first, and which of them it admits.

Twenty classes times two hundred lanes are a few formulas over one table. Used by `order` at every pricing;
pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from balancer.decide.columns import Flags, Floats, Places
from balancer.decide.pull import TOLERANCE
from balancer.model.offers import Offers

if TYPE_CHECKING:
    from balancer.decide.order import Market

#: Times the class's own seconds that others are said to need for a lane that all leave alone: whoever can
#: run it takes it, however slow.
ANYONE: Final = 1e6


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Shelf:
    """What all classes' offers share of each lane (lanes,): its queue, the rows `by_name` of the queues, what
    waits, which lanes are `forsaken`, the class that is to meet each one's deadline (-1: none), and
    what each counts for by its group (`None`: all alike)."""

    queues: NDArray[np.object_]
    by_name: Places
    waiting: Floats
    forsaken: Flags
    meets: Places
    favour: Floats | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Offered:
    """One class's offers, best first, the row of each one's lane, whether the class admits each now, and the
    `fresh` and `turn` of its `Doubts`."""

    rows: Places
    offers: Offers
    admitted: Flags
    fresh: Flags
    turn: Floats


def shelf(state: Market, backlog: Mapping[str, int], left: frozenset[str], urgent: Mapping[int, int],
          favour: Floats | None) -> Shelf:
    """The shelf of a `backlog` by queue, where the queues `left` are forsaken, and the lanes of `urgent` rows
    are each a class's to meet."""
    queues = [lane.queue for lane in state.lanes]
    meets = np.full(len(queues), -1, dtype=np.intp)
    meets[list(urgent)] = list(urgent.values())
    return Shelf(
        queues=np.array(queues, dtype=np.object_), meets=meets, favour=favour,
        by_name=np.array(sorted(range(len(queues)), key=queues.__getitem__), dtype=np.intp),
        forsaken=np.array([queue in left for queue in queues], dtype=np.bool_),
        waiting=np.array([backlog[queue] for queue in queues], dtype=np.float64),
    )


def offered(state: Market, shelf: Shelf, weight: float | None, drain_s: float,
            committed_s: float) -> list[Offered]:
    """By class, every lane that it can run, best first. A lane whose deadline this class is to meet is
    offered without a better one, a forsaken lane to `ANYONE`. With `weight` 1 the order goes by backlog over
    seconds instead of by price; with `None` by whose turn it is alone, and all are admitted."""
    ratios = _ratios(state, shelf, weight)
    able = np.isfinite(state.seconds[shelf.by_name]).T
    place = np.argsort(np.where(able, -ratios, np.inf), axis=1, kind="stable")
    rows, column = shelf.by_name[place], np.arange(len(place))[:, None]
    own, soonest = state.cautious[rows, column], state.frugal_s[rows, column]
    there, best = state.there[rows, column], state.frugal_best[rows, column]
    forsaken, meets = shelf.forsaken[rows], shelf.meets[rows] == column
    best = np.where(forsaken, there * ANYONE, np.where(meets, there, best))
    all_ = Offers(
        queues=(), seconds=own, ratio=np.take_along_axis(ratios, place, axis=1),
        value=state.prices.value[rows], best_seconds=best,
        soonest_s=np.where(forsaken | meets | ~np.isfinite(soonest), np.nan, soonest),
    )
    with np.errstate(invalid="ignore"):
        admitted = (np.ones(rows.shape, dtype=np.bool_) if weight is None
                    else no_later(all_, drain_s, drain_s, committed_s))
    queues, fresh, turn = shelf.queues[rows], state.doubt.fresh[rows, column], state.doubt.turn[rows, column]
    return [
        Offered(rows=rows[h, :n], admitted=admitted[h, :n], fresh=fresh[h, :n], turn=turn[h, :n],
                offers=Offers(
                    queues=queues[h, :n].tolist(), seconds=own[h, :n], ratio=all_.ratio[h, :n],
                    value=all_.value[h, :n], best_seconds=all_.best_seconds[h, :n],
                    soonest_s=all_.soonest_s[h, :n]))
        for h, n in enumerate(able.sum(axis=1).tolist())
    ]


def no_later(offers: Offers, drain_s: float, backlog_s: float, committed_s: float,
             speed: float = 1.0) -> Flags:
    """`pull.sooner` of all offers at once: those of an order with this `backlog_s` and `committed_s`, when
    what waits needs `drain_s`."""
    soonest = offers.soonest_s + drain_s - backlog_s
    others = drain_s + committed_s + offers.best_seconds
    others = np.fmin(others, np.maximum(offers.best_seconds, soonest))  # NaN where nobody else could
    accepted: Flags = offers.seconds / speed <= others * (1 + TOLERANCE)
    return accepted


def _ratios(state: Market, shelf: Shelf, weight: float | None) -> Floats:
    """What ranks each lane, in the order of names, on each class (classes, lanes); anything where it cannot
    run."""
    some, price = shelf.by_name, state.prices.price[:, None]
    p, taken = (state.seconds / state.doubt.turn)[some].T, state.taken[some].T
    with np.errstate(all="ignore"):
        ratios = np.minimum(1.0, state.prices.value[some] / (price * p * taken))
        free = np.flatnonzero(price[:, 0] <= 0)
        ratios[free] = state.best[some] / state.there[some].T[free]
        if weight and shelf.waiting.any():
            pressure = _pressure(shelf.waiting[some], p * taken)
            ratios = ratios ** (1 - weight) * pressure ** weight
    if shelf.favour is not None:
        ratios = shelf.favour[some] * (np.ones(ratios.shape) if weight is None else ratios)
    return ratios


def _pressure(waiting: Floats, seconds: Floats) -> Floats:
    """MaxWeight's index n/p of lanes (classes, lanes), 1 for a class's largest (Tassiulas and Ephremides
    1992): a class works off what is both long and short to run. An empty lane counts as half a task."""
    pressure = np.maximum(waiting, 0.5) / seconds
    relative: Floats = pressure / pressure.max(axis=1, initial=0.0)[:, None]
    return relative
