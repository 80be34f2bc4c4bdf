"""What past moves taught: how often they end well, what they cost, and who moved when.

Pure records; `balancer.decide.learn` updates them, strategies and the plan read them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final

#: Bandwidth of a checkpoint's state on its way (bytes/s) until moves were measured; distributed assumes the
#: same. It counts as much as moves of `ASSUMED_BYTES` in all would.
ASSUMED_BYTES_PER_S: Final = 100e6
ASSUMED_BYTES: Final = 10e6

#: Moves of a profile that the belief that moves go well counts as, and most that speak against it.
ASSUMED_MOVES: Final = 2
COUNTED_MOVES: Final = 5

#: Seconds after which the past moves of one task are forgotten.
FORGET_AFTER_S: Final = 3600.0

#: The shortest cooldown (s), also where `balancer_move_cooldown` is less: doubling nothing stays nothing, and
#: a task that may move at every turn may do nothing else.
LEAST_COOLDOWN_S: Final = 1.0

#: The longest a cooldown may double to (s); the history forgets a task after an hour anyhow.
LONGEST_COOLDOWN_S: Final = 3600.0


def rest_s(count: int, cooldown_s: float) -> float:
    """Seconds that a task rests after its move number `count` (1 for the first)."""
    doubled = max(LEAST_COOLDOWN_S, cooldown_s) * 2.0 ** min(count - 1, 64)
    return min(LONGEST_COOLDOWN_S, doubled)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileMoves:
    """Past moves of one profile: exponential moving averages of success (0–1) and cost (s)."""

    count: int = 0
    success: float = 1.0
    cost_s: float | None = None

    @property
    def failing(self) -> float:
        """The probability that the next move comes to nothing: past moves, shrunk towards none failing."""
        counted = min(self.count, COUNTED_MOVES)
        return (1.0 - self.success) * counted / (counted + ASSUMED_MOVES)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskMoves:
    """Past moves of one task: how many, the last one's time (s), the worker or queue it left, and the one
    it came to.

    `left` and `reached` are empty when the last move came to nothing: it counts for the cooldown only.
    """

    count: int
    last_at: float
    left: str
    reached: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveHistory:
    """By profile and by task id; tasks are forgotten after `FORGET_AFTER_S`.

    `initiated` and `successful` count the moves that have ended, over the whole life of the memory.
    `state_bytes` and `state_s` are fading sums: what moves carried, and the seconds that took.
    """

    profiles: Mapping[str, ProfileMoves] = field(default_factory=lambda: MappingProxyType({}))
    tasks: Mapping[str, TaskMoves] = field(default_factory=lambda: MappingProxyType({}))
    initiated: int = 0
    successful: int = 0
    state_bytes: float = 0.0
    state_s: float = 0.0

    @property
    def bandwidth_bytes_per_s(self) -> float:
        """How fast a checkpoint's state gets from worker to worker: as past moves showed it."""
        assumed_s = ASSUMED_BYTES / ASSUMED_BYTES_PER_S
        return (ASSUMED_BYTES + self.state_bytes) / (assumed_s + self.state_s)

    def forget(self, at: float) -> MoveHistory:
        """The history at `at` (s) without tasks whose last move is longer ago than `FORGET_AFTER_S`."""
        fresh = {task: moves for task, moves in self.tasks.items() if at - moves.last_at <= FORGET_AFTER_S}
        return self if len(fresh) == len(self.tasks) else replace(self, tasks=MappingProxyType(fresh))
