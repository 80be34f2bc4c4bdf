"""A worker as its last report shows it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from balancer.model.hardware import Hardware
from balancer.model.task import HeldTask

#: The dimensions that are judged apart: over if any is over, under if all are under.
DIMENSIONS: Final = ("cpu", "memory", "gpu", "gpu_memory", "io", "slots")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One sample of a node. Ratios are 0–1; what cannot be read is `None`, never 0.

    `pressure` and `io` are the shares of time in which some task waited for a CPU and for a disk. What is
    new comes last: the order is that of the packed heartbeat (`adapters.beat`).
    """

    cpu: float | None = None
    memory: float | None = None
    gpu: float | None = None
    gpu_memory: float | None = None
    disk_bytes_per_s: float | None = None
    network_bytes_per_s: float | None = None
    temperature_celsius: float | None = None
    power_w: float | None = None
    pressure: float | None = None
    memory_free_bytes: float | None = None
    gpu_memory_free_bytes: float | None = None
    io: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """One worker: what it is, what it reads, what it holds.

    `instance` is unique to one start of the process (host:pid:start), `name` is Celery's node
    name. `at` is when the report reached Redis (server clock, s). `health` is "ok",
    "degraded" (its event loop hangs or it cannot renew) or "draining".
    `busy` counts the slots in use; `loop_ticks` counts turns of the event loop.
    """

    name: str
    instance: str
    hardware: Hardware
    slots: int
    at: float
    reading: Reading = field(default_factory=Reading)
    running: tuple[HeldTask, ...] = ()
    reserved: tuple[HeldTask, ...] = ()
    busy: int = 0
    health: str = "ok"
    loop_ticks: int = 0
    pool: str = ""
    queues: tuple[str, ...] = ()

    @property
    def idle_slots(self) -> int:
        return max(0, self.slots - max(self.busy, len(self.running)) - len(self.reserved))

    @property
    def slots_held(self) -> float | None:
        """Tasks held a slot, over 1 by reserved work; `None` without slots."""
        return (max(self.busy, len(self.running)) + len(self.reserved)) / self.slots if self.slots else None

    def dimensions(self) -> dict[str, float]:
        """The known dimensions of this worker's load, each 0–1 (`slots` may exceed 1 by reserved work)."""
        values = {
            "cpu": self.reading.cpu,
            "memory": self.reading.memory,
            "gpu": self.reading.gpu,
            "gpu_memory": self.reading.gpu_memory,
            "io": self.reading.io,
            "slots": self.slots_held,
        }
        return {name: value for name, value in values.items() if value is not None}
