"""The default: workers pull by price, running tasks move only as a rescue, stranded work goes back.

Late binding beats moving: a slot that takes its next task when it is free needs no migration of queued work.
"""

from __future__ import annotations

from balancer.decide.ahead import ahead_moves, long_tasks
from balancer.decide.capacity import work_elsewhere
from balancer.decide.idle import idle_slots
from balancer.decide.order import orders
from balancer.decide.progress import with_progress
from balancer.decide.rescue import running_moves
from balancer.decide.rooms import Rooms
from balancer.decide.situation import Situation, Suggestions
from balancer.decide.stranded import stranded_moves
from balancer.model import Order


class Priced:
    """Orders from the prices of the fluid program; moves from `decide.ahead`, `decide.stranded` and
    `decide.rescue`."""

    name: str = "priced"
    moves_thresholds: bool = True
    foresees: bool = True
    eager: bool = True

    def orders(self, situation: Situation) -> tuple[Order, ...]:
        """One order for each class that is there."""
        return orders(with_progress(situation), strategy=self.name)

    def suggest(self, situation: Situation) -> Suggestions:
        """The longest that wait, when they would be the last to end; queued work that lies where it should
        not; then running tasks for the slots that are still idle."""
        made = situation.orders or self.orders(situation)
        idle, long = idle_slots(situation, made), long_tasks(situation, made)
        if not idle and not long and not work_elsewhere(situation.fleet):
            return Suggestions()
        situation = with_progress(situation)
        first, rooms = ahead_moves(situation, long), Rooms(situation)
        queued, stay = stranded_moves(situation, made, idle, rooms)
        running, left = running_moves(situation, idle, rooms)
        return Suggestions(moves=(*first, *queued, *running), rejected=(*stay, *left))
