"""Fairness between groups of tasks: whose lanes count for less since the group had more than its share.

Only where `balancer_group_weights` names groups. What a group has counts in slot-seconds over its weight
from the moment at which it has work waiting, as virtual time does in start-time fair queueing (Goyal, Vin
and Cheng 1996): who had nothing to run earns no credit, and who had an idle fleet to itself owes nothing. It
weighs lanes against each other as a price would (the virtual queues of Neely 2010), so that on unlike
hardware a group gets its share where its tasks run best, and no slot waits for anybody. `engine` keeps the
account, `order` asks what lanes count for. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

import numpy as np

from balancer.decide.columns import Columns, Floats
from balancer.model import Fleet
from balancer.settings import Settings

#: The weight of a group that is not named, and of all tasks without a group together.
PLAIN_WEIGHT: Final = 1.0

#: What a group is ahead by is half forgotten after this time (s): a group whose tasks run for hours, or find
#: no hardware, holds no claim on the whole fleet for hours.
HALF_LIFE_S: Final = 300.0

#: A lane counts for half as much for each so many seconds of its due share by which its group is ahead.
HALVING_S: Final = 20.0

#: A lane that counts for less than this, of 1, does not starve: it waits because its group had its share.
PATIENT: Final = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """By group, by how many seconds of its due share it is ahead of the hindmost that has work waiting, as of
    `at` (server clock, s)."""

    at: float
    ahead_s: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))


def accounted(account: Account | None, seen: Columns, fleet: Fleet, settings: Settings) -> Account | None:
    """The account after what runs now has run since the last look; `None` where fairness is not asked for.

    A group that has just its share of the running slots gains a second a second. One without work waiting
    keeps what it is ahead by, and is never behind the hindmost of those that have some; once nothing waits
    anywhere all are level again. A gap without a balancer counts as one `check_interval` at most, as nobody
    knows what ran meanwhile.
    """
    if not settings.group_weights:
        return None
    groups, lane = [each.profile.group for each in fleet.lanes], seen.runs.lane
    running: dict[str, float] = {}
    for row, slots in enumerate(np.bincount(lane[lane >= 0], minlength=len(groups)).tolist()):
        if slots:
            running[groups[row]] = running.get(groups[row], 0.0) + slots
    waiting = {group for group, each, able in zip(groups, fleet.lanes, seen.able, strict=True)
               if each.waiting > 0 and able.any()}
    if not waiting:
        return Account(at=fleet.at)
    since, known = _since(account, fleet.at, settings)
    weight = {name: settings.group_weights.get(name, PLAIN_WEIGHT) for name in running.keys() | waiting}
    due = since * sum(weight.values()) / max(1.0, sum(running.values()))
    ahead = {name: known[name] + due * running.get(name, 0.0) / weight.get(name, 1.0) for name in known}
    least = min((ahead[name] for name in waiting if name in ahead), default=min(ahead.values(), default=0.0))
    level = {name: max(0.0, ahead.get(name, least) - least) for name in sorted(ahead.keys() | weight.keys())}
    return Account(at=fleet.at, ahead_s=MappingProxyType({
        name: by for name, by in level.items() if by > 0 or name in weight}))


def _since(account: Account | None, at: float, settings: Settings) -> tuple[float, dict[str, float]]:
    """Seconds since the last look, and what of the account is not forgotten."""
    if account is None:
        return 0.0, {}
    passed = max(0.0, at - account.at)
    kept = 0.5 ** (passed / HALF_LIFE_S)
    return min(settings.check_interval, passed), {name: kept * by for name, by in account.ahead_s.items()}


def favours(fleet: Fleet, ahead_s: Mapping[str, float]) -> Floats | None:
    """What each lane (lanes,) counts for by its group, 0–1, 1 for the hindmost that has work waiting; `None`
    where no group is ahead of another."""
    if not any(ahead_s.values()):
        return None
    by_group = {name: 0.5 ** (by / HALVING_S) for name, by in ahead_s.items()}
    return np.array([by_group.get(lane.profile.group, 1.0) for lane in fleet.lanes], dtype=np.float64)
