"""What is done to the fleet on purpose, when, and what capacity is left: for the eyes and for the bound.

The same record plans a disturbance, says it in plain words and, with its true time, goes into
the lower bound.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from balancer.demo.crew import Member
from balancer.simulate.bound import Capacity

Kind = Literal["join", "slow", "kill", "kill_beat", "second_beat"]

#: How many times slower foreign load makes a worker.
SLOWED: Final = 4.0

#: A worker is killed when it is busy; it is waited for at most this share of the bound.
PATIENCE_SHARE: Final = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Disturbance:
    """One thing done to the fleet, `at_s` seconds after the first publish. `target` is a worker or beat.

    `idle` says of a killed worker that it was found idle to the end of the patience.
    """

    kind: Kind
    target: str
    at_s: float
    idle: bool = False

    def sentence(self) -> str:
        """What happens, for the person who watches."""
        doing = "while it is idle" if self.idle else "in the middle of a task"
        return {
            "join": f"{self.target} is started and joins the fleet when it is up",
            "slow": f"{self.target} is slowed {SLOWED:g} times by foreign load (emulated), to the end",
            "kill": f"{self.target} is killed with -9 {doing} and not started again",
            "kill_beat": "beat, and the balancer in it, is killed with -9; the fleet must finish without",
            "second_beat": "a second beat with a balancer starts beside the first; one of them must idle",
        }[self.kind]


def planned(
    members: Sequence[Member], bound_s: float, *, kill_beat: bool = False, second_balancer: bool = False
) -> tuple[Disturbance, ...]:
    """The disturbances of a demo in order of time, at fixed shares of the bound."""
    late = [member.name for member in members if member.joins_later]
    steady = [member.name for member in members if not member.joins_later]
    slowed = next(name for name in steady if name.startswith("V100"))
    killed = next(name for name in steady if name.startswith("P100"))
    plan = [
        Disturbance(kind="join", target=name, at_s=bound_s * (0.15 + 0.1 * number))
        for number, name in enumerate(late)
    ]
    plan.append(Disturbance(kind="slow", target=slowed, at_s=bound_s * 0.35))
    plan.append(Disturbance(kind="kill", target=killed, at_s=bound_s * 0.45))
    if second_balancer:
        plan.append(Disturbance(kind="second_beat", target="beat-2", at_s=bound_s * 0.1))
    if kill_beat:
        plan.append(Disturbance(kind="kill_beat", target="beat", at_s=bound_s * 0.5))
    return tuple(sorted(plan, key=lambda disturbance: disturbance.at_s))


def happened(disturbance: Disturbance, at_s: float, *, idle: bool = False) -> Disturbance:
    """The disturbance with its true time."""
    return replace(disturbance, at_s=at_s, idle=idle)


def capacity(
    members: Sequence[Member], ready_s: Mapping[str, float], disturbances: Iterable[Disturbance]
) -> list[Capacity]:
    """The slots there are over time: each worker from when it is ready to when it is killed, a slowed one
    worth 1/4 of a slot from then on.

    `ready_s` holds seconds from the first publish (before it: negative); a worker that is not in
    it never came and counts for nothing.
    """
    does = list(disturbances)
    slots = []
    for member in members:
        if member.name not in ready_s:
            continue
        mine = {d.kind: d.at_s for d in does if d.target == member.name}
        start = max(0.0, ready_s[member.name])
        end = max(start, mine.get("kill", float("inf")))
        slow = min(max(start, mine.get("slow", end)), end)
        for worth, begin, until in ((1.0, start, slow), (1 / SLOWED, slow, end)):
            if begin < until:
                slots.append(
                    Capacity(hardware_class=member.hardware_class, slots=worth, from_s=begin, until_s=until)
                )
    return slots


def planned_ready(members: Sequence[Member], disturbances: Iterable[Disturbance]) -> dict[str, float]:
    """When each worker would be ready if all went by plan (s from the first publish)."""
    joins = {d.target: d.at_s for d in disturbances if d.kind == "join"}
    return {member.name: joins.get(member.name, 0.0) for member in members}
