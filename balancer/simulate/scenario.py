"""What is simulated, as records: machines, jobs, the true durations and what disturbs the fleet.

Made by `scenarios`, `recorded` and `replay`; played by `twin`, judged by `measures`. The balancer under test
sees of it only what heartbeats and queues would tell; the rest is the truth.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from balancer.model import Hardware, TaskProfile

INFINITY = float("inf")


@dataclass(frozen=True, slots=True, kw_only=True)
class Slowdown:
    """A worker runs at `speed` of its own over [`from_s`, `until_s`); the balancer is not told."""

    from_s: float
    until_s: float
    speed: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Heat:
    """A device that warms by `rise_celsius` at full load with time constant `tau_s`, and from
    `throttle_celsius` on until it is 5 °C cooler runs at `throttled` of its speed."""

    ambient_celsius: float = 35.0
    rise_celsius: float = 50.0
    tau_s: float = 60.0
    throttle_celsius: float = 93.0
    throttled: float = 0.7


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """One worker: here over [`from_s`, `until_s`), then killed. `speed` is its own, relative to its class;
    `speeds` by profile is what a specialist's is at that one beside its own; the balancer is not told.

    With `shared_bytes` its slots share that much memory of one device. Power is that of the whole worker:
    `idle_w` with nothing to do, `busy_w` with every slot busy, in proportion between the two. Its `pool`
    decides whether a body can be interrupted.
    """

    name: str
    hardware: Hardware
    slots: int = 1
    speed: float = 1.0
    speeds: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    from_s: float = 0.0
    until_s: float = INFINITY
    slowdowns: tuple[Slowdown, ...] = ()
    idle_w: float = 0.0
    busy_w: float = 0.0
    shared_bytes: int | None = None
    heat: Heat | None = None
    pool: str = "prefork"

    def speed_at(self, at: float) -> float:
        """Its speed relative to its class, heat apart and at what it is no specialist of."""
        speed = self.speed
        for part in self.slowdowns:
            if part.from_s <= at < part.until_s:
                speed *= part.speed
        return speed


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A task: `size` is what its message tells, `work` what it truly is, in the same unit. It is dropped
    where it has not begun by `expires_s`."""

    task_id: str
    profile: str
    release_s: float
    size: float = 1.0
    work: float = 1.0
    priority: int | None = None
    expires_s: float = INFINITY


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """What moving and starting costs: seconds of a slot from taking a message to its body, of a hand-over on
    its way, between two checkpoints of a run, and bytes of state that a moved task loads again."""

    dispatch_s: float = 0.01
    handover_s: float = 0.1
    checkpoint_s: float = 5.0
    state_bytes: int = 10_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """Everything one run needs. `seconds` holds the true seconds of work 1 by profile and hardware class; a
    pair that is not there cannot run. `disturbed_s` is when a spike comes, or the start: the
    recovery from it is measured. `settings` is what differs from the balancer's defaults. Over the spans
    `away` (from, until) no balancer runs."""

    name: str
    about: str
    machines: tuple[Machine, ...]
    jobs: tuple[Job, ...]
    profiles: Mapping[str, TaskProfile]
    seconds: Mapping[str, Mapping[str, float]]
    costs: Costs = field(default_factory=Costs)
    disturbed_s: float = 0.0
    settings: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    away: tuple[tuple[float, float], ...] = ()

    @property
    def until_s(self) -> float:
        """When the last job arrives."""
        return max((job.release_s for job in self.jobs), default=0.0)

    def whole_s(self, job: Job, hardware_class: str) -> float:
        """True seconds of a job on a worker of speed 1; infinite where it does not run."""
        return job.work * self.seconds[job.profile].get(hardware_class, INFINITY)
