"""Seconds of a slot that a profile takes on a hardware class, learned from finished runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """Seconds for size 1 of one profile on one hardware class, and from how many runs."""

    seconds: float
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimates:
    """All that was learned: by (profile, hardware class), and by worker a speed relative to its class."""

    pairs: Mapping[tuple[str, str], Estimate] = field(default_factory=lambda: MappingProxyType({}))
    worker_speed: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
