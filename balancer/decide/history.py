"""What past moves taught: how often they end well, what they cost, and who moved when.

Pure records; `balancer.decide.learn` updates them, strategies and the plan read them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final

#: Seconds after which the past moves of one task are forgotten.
FORGET_AFTER_S: Final = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileMoves:
    """Past moves of one profile: exponential moving averages of success (0–1) and cost (s)."""

    count: int = 0
    success: float = 1.0
    cost_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskMoves:
    """Past moves of one task: how many, the last one's time (s) and the worker or queue it left.

    `left` is empty when the last move came to nothing: it counts for the cooldown only.
    """

    count: int
    last_at: float
    left: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveHistory:
    """By profile and by task id; tasks are forgotten after `FORGET_AFTER_S`.

    `initiated` and `successful` count the moves that have ended, over the whole life of the memory.
    """

    profiles: Mapping[str, ProfileMoves] = field(default_factory=lambda: MappingProxyType({}))
    tasks: Mapping[str, TaskMoves] = field(default_factory=lambda: MappingProxyType({}))
    initiated: int = 0
    successful: int = 0

    def forget(self, at: float) -> MoveHistory:
        """The history at `at` (s) without tasks whose last move is longer ago than `FORGET_AFTER_S`."""
        fresh = {task: moves for task, moves in self.tasks.items() if at - moves.last_at <= FORGET_AFTER_S}
        return self if len(fresh) == len(self.tasks) else replace(self, tasks=MappingProxyType(fresh))
