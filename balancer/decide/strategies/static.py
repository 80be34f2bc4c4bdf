"""Each profile on the hardware that is best for it, nothing moved: what queues by hardware give.

The plainest policy, and the one that others are measured against.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from balancer.decide.estimate import matrix
from balancer.decide.situation import Situation, Suggestions
from balancer.decide.slots import workers_by_class
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
    lanes, classes = situation.fleet.lanes, workers_by_class(situation.fleet)
    p = matrix(situation.estimates, lanes, classes, situation.settings, situation.profiles)
    slots = np.array([float(sum(w.slots for w in ws if w.health == "ok")) for ws in classes.values()])
    if slots.any():
        p[:, slots <= 0] = np.inf
    made = []
    for h, name in enumerate(classes):
        offers = []
        for row, lane in enumerate(lanes):
            least = float(p[row].min())
            if np.isfinite(least) and h == int(np.where(p[row] <= least * (1 + SAME), slots, -1.0).argmax()):
                offers.append(LaneOffer(
                    queue=lane.queue, seconds=least, best_seconds=least, value=0.0, ratio=1.0,
                ))
        made.append(Order(
            hardware_class=name, at=situation.fleet.at, offers=tuple(offers), strategy=strategy,
            groups=(tuple(o.queue for o in offers),) if offers else (), guarded=False, exclusive=True,
        ))
    return tuple(made)
