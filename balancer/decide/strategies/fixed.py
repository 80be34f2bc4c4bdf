"""The seed's "traditional" balancer: fixed thresholds, what is seen now, blind to cost and hardware.

Kept as the baseline that every figure is compared with, and for those who want no more.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from balancer.decide.situation import Situation, Suggestions
from balancer.decide.strategies.adaptive import pairs
from balancer.decide.strategies.static import best_class_orders
from balancer.model import Order

#: Moves of any kind that are in flight at once.
AT_MOST: Final = 2


class Fixed:
    """From the most loaded worker to the least loaded, two moves at a time."""

    name: str = "fixed"
    moves_thresholds: bool = False
    foresees: bool = False

    def orders(self, situation: Situation) -> tuple[Order, ...]:
        """Each profile on its best class, as under `static`."""
        return best_class_orders(situation, strategy=self.name)

    def suggest(self, situation: Situation) -> Suggestions:
        """Moves in the order of load alone; their scores are for the record."""
        blind = replace(
            situation.settings, enable_hardware_specific_strategies=False, enable_resource_efficiency=False
        )
        made = situation.orders or self.orders(situation)
        return replace(pairs(replace(situation, settings=blind), made), at_most=AT_MOST, weighed=False)
