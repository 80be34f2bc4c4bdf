"""Somebody's own strategy, found by its import path: what it answers is looked at before it is used.

Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from balancer.decide.situation import Situation, Strategy, Suggestions
from balancer.errors import SettingError
from balancer.model import Order


class Own:
    """The strategy as it is, but for answers that are none: they raise `SettingError`, which says whose."""

    def __init__(self, strategy: Strategy, where: str) -> None:
        self._strategy = strategy
        self._where = where

    def __getattr__(self, name: str) -> Any:
        return getattr(self._strategy, name)

    def orders(self, situation: Situation) -> tuple[Order, ...]:
        """One order for each hardware class that is there."""
        answer: Any = self._strategy.orders(situation)
        given = list(answer) if isinstance(answer, Iterable) else None
        if given is None or not all(isinstance(one, Order) for one in given):
            raise SettingError(f"{self._where}: orders() returned {_told(answer)}; it returns Orders, one "
                               "for each hardware class that is there")
        return tuple(given)

    def suggest(self, situation: Situation) -> Suggestions:
        """Moves that would help now."""
        answer: Any = self._strategy.suggest(situation)
        if not isinstance(answer, Suggestions):
            raise SettingError(f"{self._where}: suggest() returned {_told(answer)}; it returns Suggestions("
                               "moves=…), without moves where there are none")
        return answer


def _told(answer: Any) -> str:
    """A value in a few words."""
    text = repr(answer)
    return text if len(text) <= 60 else f"a {type(answer).__name__}"
