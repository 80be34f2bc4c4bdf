"""What happened in one simulation: ends, spans of slots, waits and moves; read by `measures`."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A slot of `worker` was taken by a task over [`from_s`, `until_s`); `done` says the task ended then."""

    worker: str
    task_id: str
    from_s: float
    until_s: float
    done: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """A task waited in a queue over [`from_s`, `until_s`)."""

    task_id: str
    queue: str
    from_s: float
    until_s: float


@dataclass(slots=True)
class History:
    """Ends by task id, those that `expired` apart, and everything in the order in which it ended. `moves`
    counts completed ones by kind and those that were "proactive", `lost_s` is work of bodies that had to be
    done again, `joules` what all workers drew."""

    ended: dict[str, float] = field(default_factory=dict)
    expired: dict[str, float] = field(default_factory=dict)
    spans: list[Span] = field(default_factory=list)
    waits: list[Wait] = field(default_factory=list)
    moves: Counter[str] = field(default_factory=Counter)
    lost_s: float = 0.0
    joules: float = 0.0
    until_s: float = 0.0
