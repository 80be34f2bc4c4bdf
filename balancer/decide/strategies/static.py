"""Each profile on the hardware that is best for it, nothing moved: what queues by hardware give.

The plainest policy, and the one that others are measured against.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from balancer.decide.durations import per_class, per_lane, seen_of
from balancer.decide.situation import Situation, Suggestions
from balancer.model import LaneOffer, Order


class Static:
    """Exclusive orders: a class serves the lanes it is fastest at (by age), and no others."""

    name: str = "static"
    moves_thresholds: bool = False
    foresees: bool = False

    def orders(self, situation: Situation) -> tuple[Order, ...]:
        """One order for each class: the lanes that no class there runs faster."""
        return best_class_orders(situation, strategy=self.name)

    def suggest(self, situation: Situation) -> Suggestions:
        """Nothing is ever moved."""
        return Suggestions()


#: Of classes that are equally fast for a lane, the one with more slots gets it; then the first by name.
SAME: Final = 1e-9


def best_class_orders(situation: Situation, *, strategy: str) -> tuple[Order, ...]:
    """Exclusive, unguarded orders that give each lane to one class: the fastest that can run it.

    Also the routing of `fixed`, which adds moves by thresholds.
    """
    lanes, seen = situation.fleet.lanes, seen_of(situation)
    p = per_lane(situation, seen, per_class(situation, seen))
    slots = np.bincount(seen.place, np.where(seen.ok, seen.slots, 0.0), minlength=len(seen.classes))
    if slots.any():
        p[:, slots <= 0] = np.inf
    offers: list[list[LaneOffer]] = [[] for _ in seen.classes]
    least = p.min(axis=1, initial=np.inf)
    best = np.where(p <= least[:, None] * (1 + SAME), slots, -1.0)
    for row in np.flatnonzero(np.isfinite(least)).tolist():
        offers[int(best[row].argmax())].append(LaneOffer(
            queue=lanes[row].queue, seconds=float(least[row]), best_seconds=float(least[row]), value=0.0,
            ratio=1.0,
        ))
    return tuple(
        Order(
            hardware_class=name, at=situation.fleet.at, offers=tuple(mine), strategy=strategy,
            groups=(tuple(o.queue for o in mine),) if mine else (), guarded=False, exclusive=True,
        )
        for name, mine in zip(seen.classes, offers, strict=True)
    )
