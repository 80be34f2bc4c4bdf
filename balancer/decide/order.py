"""The order: which lanes a class serves first, and the guard by which a slow worker leaves one alone.

Made at every pricing from `prices`, published to the workers, which judge by it at every pop (`pull`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray

from balancer.decide.capacity import SLOW, ClassSlots, class_slots
from balancer.decide.columns import Columns
from balancer.decide.deadlines import pressing
from balancer.decide.doubt import UNTRIED, Doubts, dealt, doubts
from balancer.decide.durations import Durations, durations, per_lane
from balancer.decide.energy import lateness, power_of, slack_s
from balancer.decide.fairness import PATIENT, favours
from balancer.decide.heat import eagerness
from balancer.decide.occupancy import paid, usual
from balancer.decide.prices import Prices, solve
from balancer.decide.pull import LISTED_MOST
from balancer.decide.rest import willingness
from balancer.decide.shelf import Offered, no_later, offered, shelf
from balancer.decide.situation import Situation
from balancer.decide.slots import level
from balancer.decide.specials import specials
from balancer.model import Lane, Order
from balancer.model.offers import Offers

Array = NDArray[np.float64]

#: Lanes with work that a class lists at most, best first; `LISTED_MOST` bounds lanes in all.
LISTED: Final = 16

#: Speeds this close to the class's are not worth a word in the order.
FAST: Final = 1.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Market:
    """Lanes against classes at one moment: `seconds` p (lanes, classes), the same with what is not known of
    a pair as `cautious`, these on the fastest worker that is `there`, the `doubt` of it, `taken`, the slots
    that one task takes up meanwhile, the prices. By what is there, of each lane the `best` (inf: nobody can)
    and `soonest_s` (lanes,), when a task of it would be done by the class that is `first` (inf: nobody can);
    `frugal_best` and `frugal_s` (lanes, classes) are these two as a class sees them that leaves tasks to
    frugal hardware (`energy.lateness`)."""

    lanes: Sequence[Lane]
    classes: Sequence[str]
    slots: Sequence[ClassSlots]
    seconds: Array
    cautious: Array
    there: Array
    doubt: Doubts
    taken: Array
    best: Array
    prices: Prices
    soonest_s: Array
    first: NDArray[np.intp]
    frugal_best: Array
    frugal_s: Array


def market(situation: Situation, known: Durations) -> Market:
    """Prices and finishing times of the fleet as it is. With nothing waiting, the prices are those of one
    task in every lane: the mix that may come, so that the order is sensible when it does."""
    lanes, classes = situation.fleet.lanes, known.seen.classes
    slots = class_slots(situation, known)
    p = per_lane(situation, known.seen, known.one)
    n = np.array([float(max(0, lane.waiting)) for lane in lanes])
    capacity = np.array([each.capacity for each in slots])
    committed = np.array([each.committed_s for each in slots])
    warm = np.array([situation.prices.get(name, math.nan) for name in classes])
    p[:, capacity <= 0] = np.inf
    taken = paid(situation.fleet, known.seen)
    idle = n.sum() == 0
    if idle:
        prices = solve(np.ones_like(n), p * taken, capacity, np.zeros_like(committed))
    else:
        prices = solve(n, p * taken, capacity, committed, warm)
    n_share = np.zeros_like(prices.share) if idle else prices.share * n[:, None]
    doubt = doubts(situation, known.seen)
    cautious = p * doubt.longer
    there = cautious / np.array([each.fastest for each in slots])
    done = _done(there, taken, n_share, [each.free_in for each in slots])
    first = done.argmin(axis=1) if classes else np.zeros(len(lanes), dtype=np.intp)
    slack = slack_s(situation.settings, 0.0 if idle else float(n @ prices.value))
    late = np.zeros_like(done) if slack <= 0 else lateness(
        power_of(classes, situation.power, situation.profiles), there, taken, done, slack)
    return Market(lanes=lanes, classes=classes, slots=slots, seconds=p, cautious=cautious, there=there,
                  doubt=doubt, taken=taken, prices=prices, first=first,
                  best=there.min(axis=1, initial=np.inf), soonest_s=done.min(axis=1, initial=np.inf),
                  frugal_best=(there - late).min(axis=1, initial=np.inf)[:, None] + late,
                  frugal_s=(done - late).min(axis=1, initial=np.inf)[:, None] + late)


def _done(p: Array, taken: Array, assigned: Array, free_in: Sequence[Array]) -> Array:
    """When each class would have done one more task of each lane, (lanes, classes) s.

    Each class takes in the work that the program `assigned` (lanes, classes; tasks) to it, less the one
    task in question, as its slots come free.
    """
    able = np.isfinite(p)
    seconds = np.where(able, p * taken, 0.0)
    work = (seconds * assigned).sum(axis=0)
    others = np.maximum(0.0, work - np.minimum(1.0, assigned) * seconds).T
    begun = np.empty(others.shape)
    for h, free in enumerate(free_in):
        begun[h] = level(free, others[h])
    return np.where(able, begun.T + p, np.inf)


def orders(situation: Situation, *, strategy: str = "priced") -> tuple[Order, ...]:
    """One order for each class that is there: its lanes by v/(π·p), largest first, in groups of ties.

    Lanes whose deadlines press go first on the class that meets them, then those that starve on the class
    that serves them best. Lanes of a group of tasks that had more than its share count for less (`fairness`).
    Lanes that the guard refuses now are in no group, but stay in `offers`, as a worker judges again at every
    pop. Without `enable_hardware_specific_strategies` every class serves all it can run, by age, unguarded.
    """
    settings, known = situation.settings, durations(situation)
    state = market(situation, known)
    plain = not settings.enable_hardware_specific_strategies
    values = MappingProxyType(
        {lane.queue: v for lane, v in zip(state.lanes, state.prices.value.tolist(), strict=True)})
    backlog = {lane.queue: max(0, lane.waiting) for lane in state.lanes}
    committed_s = float(state.prices.price @ np.array([each.committed_s for each in state.slots]))
    urgent, left = pressing(state, settings.price_interval), forsaken(state, situation)
    favour = favours(situation.fleet, situation.ahead_s)
    first = _first(state, urgent, {row: h for row, h in starving(state, situation).items()
                                   if favour is None or favour[row] > PATIENT})
    backlog_s = sum(n * values[queue] for queue, n in backlog.items())
    eager = eagerness(known.seen, situation.warming, settings)
    eager = eager * willingness(known.seen, situation.needs, situation.fleet.at, settings)
    speeds, made = _speeds(known.seen, eager), []
    special = specials(known.seen, situation.estimates, situation.fleet).by_class
    lanes = shelf(state, backlog, left, urgent, favour)
    given = offered(state, lanes, None if plain else settings.backlog_weight, backlog_s, committed_s)
    mix = () if plain else usual(situation.fleet, known.seen)
    ties = 1.0 if plain and favour is None else settings.tie_ratio
    for h, name in enumerate(state.classes):
        own = given[h]
        tries = () if plain or h in first else _tries(own, ties)
        made.append(Order(
            hardware_class=name, at=situation.fleet.at, offers=own.offers,
            values=values, price=float(state.prices.price[h]),
            committed_s=committed_s, backlog_s=backlog_s,
            speeds=MappingProxyType(speeds[h]), guarded=not plain, strategy=strategy,
            usual=mix, urgent=len(first.get(h, ())), special={} if plain else special.get(name, {}),
            groups=_groups(own, lanes.waiting[own.rows], first.get(h, ()), ties),
            first_runs=dealt(known, h, tries),
        ))
    return tuple(made)


def _tries(given: Offered, tie_ratio: float) -> list[str]:
    """Lanes that a class never ran and which may be among its best, best first."""
    if not given.fresh.any():
        return []
    guess = given.offers.ratio / given.turn
    found = given.fresh & (guess * UNTRIED >= guess.max() * (1 - tie_ratio))
    return [given.offers.queues[i] for i in found.nonzero()[0].tolist()]


def _groups(given: Offered, waiting: Array, first: Sequence[str],
            tie_ratio: float) -> tuple[tuple[str, ...], ...]:
    """Lanes within `tie_ratio` of the best of their group, groups in order; each starving lane on its own.

    The best lanes with work are listed, then lanes without: they matter to workers that wait for a push.
    """
    offers, open_ = given.offers, given.admitted
    if first:
        open_ = open_ & [queue not in first for queue in offers.queues]
    busy = (open_ & (waiting > 0)).nonzero()[0][:LISTED]
    empty = (open_ & (waiting <= 0)).nonzero()[0][:max(0, LISTED_MOST - busy.size - len(first))]
    groups: list[tuple[str, ...]] = [(queue,) for queue in first]
    ties: list[str] = []
    best, ratios = math.inf, offers.ratio.tolist()
    for row in sorted([*busy.tolist(), *empty.tolist()]):
        if ties and ratios[row] < best * (1 - tie_ratio):
            groups.append(tuple(ties))
            ties = []
        if not ties:
            best = ratios[row]
        ties.append(offers.queues[row])
    return (*groups, tuple(ties)) if ties else tuple(groups)


def _speeds(seen: Columns, eager: Array) -> list[dict[str, float]]:
    """By class, the workers whose speed, or what of it counts as they are warm or rest, differs from their
    class's enough to matter to the guard."""
    found: list[dict[str, float]] = [{} for _ in seen.classes]
    names = seen.runs.workers.roster.names
    speed = seen.speed * eager
    rows = np.flatnonzero((speed < SLOW) | (speed > FAST))
    for i, h, own in zip(rows.tolist(), seen.place[rows].tolist(), speed[rows].tolist(), strict=True):
        found[h][names[i]] = own
    return found


def _first(state: Market, urgent: Mapping[int, int], starved: Mapping[int, int]) -> dict[int, list[str]]:
    """By class, the queues that go before its groups: what is urgent, then what starves."""
    found: dict[int, list[str]] = {}
    for row, h in (*urgent.items(), *((row, h) for row, h in starved.items() if row not in urgent)):
        found.setdefault(h, []).append(state.lanes[row].queue)
    return found


def starving(state: Market, situation: Situation) -> dict[int, int]:
    """Rows of lanes that have waited past the bound, longest waiting first, and the class that serves each
    best.

    The bound is `starvation_factor` times what the other lanes with work wait at their heads (weighted by
    their tasks), and at least so many of the lane's own run times: a short wait starves nobody.
    """
    known = [(i, lane.waiting, lane.oldest_s) for i, lane in enumerate(state.lanes)
             if lane.waiting > 0 and lane.oldest_s is not None and math.isfinite(lane.oldest_s)]
    total, waited = sum(n for _, n, _ in known), sum(n * age for _, n, age in known)
    least, found = state.best.tolist(), []
    for row, n, age in known:
        if total <= n or not math.isfinite(least[row]):
            continue
        others = (waited - n * age) / (total - n)
        if age > situation.settings.starvation_factor * max(others, least[row]):
            found.append((age, state.lanes[row].queue, row))
    return {row: int(state.seconds[row].argmin()) for _, _, row in sorted(found, reverse=True)}


def forsaken(state: Market, situation: Situation) -> frozenset[str]:
    """Lanes that the class said to be first leaves alone: the guard no longer trusts it with them.

    Every slot of that class is idle, and still the head waits far longer than the class would need. Such
    workers look free and take nothing (struck out, hung), and the guard alone would starve the lane. Where
    nobody is quick enough to be waited for, the wait alone tells: each may leave it to the others.
    """
    factor, rhythm = situation.settings.starvation_factor, situation.settings.price_interval
    idle = [slots.free_in.size > 0 and slots.free_in[-1] <= 0 for slots in state.slots]
    known = np.isfinite(state.soonest_s)
    columns = state.first, known, np.where(known, state.soonest_s, state.best)
    said = zip(state.lanes, *(column.tolist() for column in columns), strict=True)
    return frozenset(
        lane.queue for lane, first, sure, soonest in said
        if lane.waiting > 0 and lane.oldest_s is not None and math.isfinite(soonest)
        and (idle[first] or not sure) and lane.oldest_s > factor * (soonest + rhythm)
    )


def admits(order: Order, offers: Offers, drain_s: float, speed: float = 1.0) -> NDArray[np.bool_]:
    """`accepts` of all of an order's offers at once."""
    if not order.guarded:
        return np.ones(len(offers), dtype=np.bool_)
    return no_later(offers, drain_s, order.backlog_s, order.committed_s, speed)
