"""The balancer of the twin: the turn of `balancer.loop` over the same pure functions, without ports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from balancer import migration
from balancer.decide import engine
from balancer.decide import memory as memories
from balancer.decide.learn import learn, learn_migrations
from balancer.decide.situation import Strategy
from balancer.migration import Command
from balancer.model import Decision, Event, Fleet, Migration, Move, Order, ShortTurn
from balancer.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What one turn answers: an order by hardware class, commands to enact, and what was chosen."""

    orders: Mapping[str, Order]
    commands: tuple[Command, ...]
    chosen: Decision | ShortTurn


class Governor:
    """Remembers what a balancer remembers, hears what workers tell, and takes turns."""

    def __init__(self, strategy: Strategy, settings: Settings) -> None:
        self.strategy = strategy
        self.settings = settings
        self.memory = memories.fresh(settings)
        self.migrations: tuple[Migration, ...] = ()
        self.ended: list[Migration] = []
        self._heard: list[Event] = []

    def hear(self, event: Event) -> None:
        """What a worker tells; it counts from the next turn on."""
        self._heard.append(event)

    def turn(self, fleet: Fleet, *, whole: bool) -> Turn:
        """A short turn, or with `whole` the whole tick, as `AdaptiveLoadBalancer.turn`."""
        events, self._heard = self._heard, []
        followed, commands = migration.follow(
            self.migrations, events, now=fleet.at, timeout=self.settings.move_timeout,
            alive={worker.name for worker in fleet.workers})
        ended = [m for m in followed if not m.in_flight]
        self.migrations = tuple(m for m in followed if m.in_flight)
        self.ended += ended
        self.memory = learn(self.memory, events, fleet, self.settings)
        self.memory = learn_migrations(self.memory, ended, self.settings)
        in_flight = [m.move for m in self.migrations]
        choose = engine.decide if whole else engine.between
        self.memory, chosen = choose(self.memory, fleet, self.settings, self.strategy, in_flight)
        started = [migration.start(move, fleet.at) for move in chosen.moves]
        self.migrations = (*self.migrations, *(m for m, _ in started))
        requests = tuple(command for _, asked in started for command in asked)
        return Turn(orders=_by_class(chosen.orders), commands=(*commands, *requests), chosen=chosen)

    def settle(self, move: Move, moved: int, at: float) -> None:
        """What the hand-over answered at once: queued work has moved, or was not there."""
        settled = [
            migration.settle(m, moved, at)[0] if m.move.move_id == move.move_id else m
            for m in self.migrations
        ]
        ended = [m for m in settled if not m.in_flight]
        self.ended += ended
        self.memory = learn_migrations(self.memory, ended, self.settings)
        self.migrations = tuple(m for m in settled if m.in_flight)


def _by_class(orders: tuple[Order, ...]) -> dict[str, Order]:
    return {order.hardware_class: order for order in orders}

