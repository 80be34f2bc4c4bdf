"""The hardware of simulated fleets: power and memory by data sheet, and speeds where none was measured.

Speeds of K80, P100 and V100 come from Gavel's measurements (`traces`); those of the others are derived here
from two numbers of the data sheet, and said to be.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from balancer.model import Hardware, Kind
from balancer.simulate.scenario import Heat, Machine


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """A device: peak half-precision (or, of a CPU, single-precision) arithmetic in Tflop/s, memory bandwidth
    in GB/s, power at full load and idle, memory."""

    model: str
    tflops: float
    gigabytes_per_s: float
    busy_w: float
    idle_w: float
    memory_bytes: int
    kind: Kind = "cuda"

    @property
    def hardware(self) -> Hardware:
        gpu = self.memory_bytes if self.kind != "cpu" else None
        return Hardware(kind=self.kind, model=self.model, gpu_memory_bytes=gpu, emulated=True,
                        telemetry="emulated")

    @property
    def hardware_class(self) -> str:
        return self.hardware.hardware_class

    def machine(self, number: int, *, slots: int = 1, speed: float = 1.0, heat: Heat | None = None,
                shared: bool = False) -> Machine:
        """One worker on one device, not to be confused with others by its number."""
        return Machine(
            name=f"{self.model}-{number:03d}@twin", hardware=self.hardware, slots=slots, speed=speed,
            idle_w=self.idle_w, busy_w=self.busy_w, heat=heat,
            shared_bytes=self.memory_bytes if shared else None)

    def seconds(self, compute: float) -> float:
        """Relative time of work that is bound to arithmetic by the share `compute` and to memory by the rest
        (a roofline of two lines, each at its peak); a V100 takes 1."""
        return compute * 125.0 / self.tflops + (1.0 - compute) * 900.0 / self.gigabytes_per_s


#: By model. K80: one of its two GPUs.
CARDS: Final[Mapping[str, Card]] = MappingProxyType({
    card.model: card for card in (
        Card(model="K80", tflops=4.4, gigabytes_per_s=240, busy_w=150, idle_w=30, memory_bytes=12 * 10**9),
        Card(model="P100", tflops=21.2, gigabytes_per_s=732, busy_w=250, idle_w=30, memory_bytes=16 * 10**9),
        Card(model="V100", tflops=125, gigabytes_per_s=900, busy_w=300, idle_w=40, memory_bytes=16 * 10**9),
        Card(model="T4", tflops=65, gigabytes_per_s=320, busy_w=70, idle_w=10, memory_bytes=16 * 10**9),
        Card(model="A10", tflops=125, gigabytes_per_s=600, busy_w=150, idle_w=15, memory_bytes=24 * 10**9),
    )
})
