"""What past moves taught: how often they end well, what they cost, and who moved when.

Pure records; `balancer.decide.learn` updates them, strategies and the plan read them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileMoves:
    """Past moves of one profile: exponential moving averages of success (0–1) and cost (s)."""

    count: int = 0
    success: float = 1.0
    cost_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskMoves:
    """Past moves of one task: how many, the last one's time (s) and the worker it left."""

    count: int
    last_at: float
    left: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveHistory:
    """By profile and by task id; tasks are forgotten after an hour."""

    profiles: Mapping[str, ProfileMoves] = field(default_factory=lambda: MappingProxyType({}))
    tasks: Mapping[str, TaskMoves] = field(default_factory=lambda: MappingProxyType({}))
    initiated: int = 0
    successful: int = 0
