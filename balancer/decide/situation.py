"""What a strategy is given and what it answers: the interface between the tick and its policies.

A strategy suggests; it never enacts and never counts limits. `balancer.decide.plan` refuses or
books each suggestion on a projection of the fleet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Protocol

from balancer.decide.columns import Columns
from balancer.decide.energy import Draw
from balancer.decide.estimate import Estimates
from balancer.decide.heat import COOL, Warming
from balancer.decide.history import MoveHistory
from balancer.decide.pairs import Pairs
from balancer.decide.rest import Need
from balancer.model import (
    Fleet,
    Forecast,
    HardwareProfile,
    Imbalance,
    Move,
    Order,
    Rejected,
    Thresholds,
)
from balancer.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """Everything known when a strategy is asked. `prices` are the last prices, `power` what workers told of
    theirs and `needs` the slots that were in use lately, all by hardware class, `ahead_s` by how much each
    group of tasks had more than its share (`fairness`), `warming` the temperatures of the last looks,
    `in_flight` the moves that have not ended, `profiles` the hardware profiles by kind. `orders` are those
    that the strategy made this turn, once it has; `foreseen` the values of `forecasts` by subject where the
    imbalance is a foreseen one; `columns` the fleet's and `pairs` those of the estimates, where they are made
    already."""

    fleet: Fleet
    settings: Settings
    estimates: Estimates
    history: MoveHistory
    thresholds: Thresholds
    profiles: Mapping[str, HardwareProfile]
    prices: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    power: Mapping[str, Draw] = field(default_factory=lambda: MappingProxyType({}))
    needs: Mapping[str, Need] = field(default_factory=lambda: MappingProxyType({}))
    ahead_s: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    warming: Warming = COOL
    imbalance: Imbalance | None = None
    forecasts: Sequence[Forecast] = ()
    foreseen: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    in_flight: tuple[Move, ...] = ()
    orders: tuple[Order, ...] = ()
    columns: Columns | None = field(default=None, compare=False, repr=False)
    pairs: Pairs | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Suggestions:
    """Moves a strategy would make, in its order, and those it looked at and would not make.

    `at_most` bounds its moves of any kind that are in flight at once, on top of the plan's own
    limits; `weighed` says whether the net benefit of its scores may refuse and rank them (the
    setting `enable_cost_benefit_analysis` has the last word). `notes` go into the decision: what was cut
    short, for one.
    """

    moves: tuple[Move, ...] = ()
    rejected: tuple[Rejected, ...] = ()
    at_most: int | None = None
    weighed: bool = True
    notes: tuple[str, ...] = ()


class Strategy(Protocol):
    """A policy. `moves_thresholds` says whether the tick adapts the thresholds for it, `foresees`
    whether forecast imbalances count.

    Two attributes it may bring beside these: `eager = True`, so that its moves are asked for at every turn,
    each `price_interval`, and not at whole ticks alone (between them the situation has no imbalance and no
    forecasts); and `adjust(thresholds, loads, settings)`, a rule of its own for the thresholds.
    """

    name: str
    moves_thresholds: bool
    foresees: bool

    def orders(self, situation: Situation) -> tuple[Order, ...]:
        """One order for each hardware class that is there."""

    def suggest(self, situation: Situation) -> Suggestions:
        """Moves that would help now."""
