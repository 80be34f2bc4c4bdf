"""One simulated worker: its slots, what runs in them and how far it is, its power and its heat."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Final

from balancer.model import HeldTask, Move, Reading, TaskProfile, Worker
from balancer.routing import lane_queue
from balancer.simulate.queues import Waiting
from balancer.simulate.scenario import Job, Machine

#: A device that was throttled runs at full speed again when it is this much cooler.
COOLER_CELSIUS: Final = 5.0


@dataclass(slots=True)
class Run:
    """A body that runs: `share` of the job was done at `since`, `saved` is its last checkpoint.

    Its slot is taken from `taken_at` on, a little before it starts; `left_by` is the move that it shall
    leave by.
    """

    message: Waiting
    taken_at: float
    started_at: float
    since: float
    share: float
    rate: float
    saved: tuple[float, float] | None = None
    left_by: Move | None = None

    @property
    def job(self) -> Job:
        return self.message.job

    def share_at(self, at: float) -> float:
        """The share of the whole job that is done by then."""
        return min(1.0, self.share + max(0.0, at - self.since) * self.rate)

    def save(self, at: float, every_s: float) -> None:
        """Note the last checkpoint that was due by `at`."""
        due = self.started_at + math.floor((at - self.started_at) / every_s + 1e-9) * every_s
        if due > max(self.started_at, self.saved[0] if self.saved else 0.0):
            self.saved = (due, self.share_at(due)) if due >= self.since else (self.since, self.share)

    def next_save_at(self, at: float, every_s: float) -> float:
        """When its next checkpoint is due."""
        return self.started_at + (math.floor((at - self.started_at) / every_s + 1e-9) + 1) * every_s


@dataclass(slots=True)
class Node:
    """A machine at work. `account` is to be called before whatever changes its load or its speed."""

    machine: Machine
    runs: dict[str, Run] = field(default_factory=dict)
    reserved: list[Waiting] = field(default_factory=list)
    alive: bool = False
    idle_since: float = 0.0
    celsius: float | None = None
    throttled: bool = False
    spent: tuple[float, float, float] = (0.0, 0.0, 0.0)

    @property
    def name(self) -> str:
        return self.machine.name

    def free_slots(self, ahead: int) -> int:
        """Messages it would still take when it reserves so many ahead."""
        return self.machine.slots + ahead - len(self.runs) - len(self.reserved)

    def speed(self, at: float, profile: str) -> float:
        """Its speed relative to its class at this profile, now."""
        heat = self.machine.heat
        own = self.machine.speed_at(at) * self.machine.speeds.get(profile, 1.0)
        return own * (heat.throttled if heat and self.throttled else 1.0)

    @property
    def watts(self) -> float:
        """Power drawn in this state."""
        busy = len(self.runs) / max(1, self.machine.slots)
        return self.machine.idle_w + (self.machine.busy_w - self.machine.idle_w) * busy

    def account(self, at: float) -> None:
        """Energy and heat up to `at`; `spent` is (until, joules, seconds of work that heat slowed)."""
        until, joules, slowed_s = self.spent
        passed_s = at - until
        if passed_s <= 0:
            return
        self.spent = (at, joules + (self.watts * passed_s if self.alive else 0.0),
                      slowed_s + (passed_s if self.throttled and self.runs else 0.0))
        heat = self.machine.heat
        if heat is not None:
            busy = len(self.runs) / max(1, self.machine.slots)
            aim = heat.ambient_celsius + heat.rise_celsius * busy
            now = heat.ambient_celsius if self.celsius is None else self.celsius
            self.celsius = aim + (now - aim) * math.exp(-passed_s / heat.tau_s)

    def throttles(self) -> bool:
        """Whether its heat has just begun or ended to slow it."""
        heat = self.machine.heat
        if heat is None or self.celsius is None:
            return False
        limit = heat.throttle_celsius - (COOLER_CELSIUS if self.throttled else 0.0)
        if (hot := self.celsius >= limit) == self.throttled:
            return False
        self.throttled = hot
        return True

    def free_bytes(self, needed: dict[str, int]) -> int | None:
        """Device memory that nothing it holds needs, by the profiles' needs."""
        if self.machine.shared_bytes is None:
            return None
        held = [run.job.profile for run in self.runs.values()] + [m.job.profile for m in self.reserved]
        return self.machine.shared_bytes - sum(needed.get(name, 0) for name in held)

    def report(self, at: float, profiles: dict[str, TaskProfile], needed: dict[str, int],
               every_s: float) -> Worker:
        """Its heartbeat."""
        free, total = self.free_bytes(needed), self.machine.shared_bytes
        return Worker(
            name=self.name, instance=f"{self.name}:1:{self.machine.from_s}", hardware=self.machine.hardware,
            slots=self.machine.slots, at=at, busy=len(self.runs), queues=(), pool=self.machine.pool,
            running=tuple(self._held(run, at, profiles, every_s) for run in self.runs.values()),
            reserved=tuple(_reserved(message) for message in self.reserved),
            reading=Reading(
                power_w=self.watts or None, temperature_celsius=self.celsius, gpu_memory_free_bytes=free,
                gpu_memory=None if free is None or not total else 1.0 - free / total),
        )

    def _held(self, run: Run, at: float, profiles: dict[str, TaskProfile], every_s: float) -> HeldTask:
        checkpoints = profiles[run.job.profile].checkpoints
        if checkpoints:
            run.save(at, every_s)
        saved_at, saved = run.saved or (None, None)
        return HeldTask(
            task_id=run.job.task_id, profile=run.job.profile, lane=lane_queue(run.job.profile),
            size=run.job.size, started_at=run.started_at, priority=run.job.priority, checkpoints=checkpoints,
            epoch=run.message.epoch, share_before=run.message.share, checkpointed_at=saved_at,
            share_done=saved,
        )


def _reserved(message: Waiting) -> HeldTask:
    job = message.job
    return HeldTask(task_id=job.task_id, profile=job.profile, lane=lane_queue(job.profile), size=job.size,
                    priority=job.priority, epoch=message.epoch)
