"""Who is in the demo's fleet: names, hardware and when each comes.

Speeds are not here but in Gavel's table; memory, compute capability and power are the data
sheets' (K80: one of its two GPUs), so that the fleet reports what such cards would.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """An emulated GPU: what `--hardware` says of it beside its index."""

    model: str
    gpu_memory: str
    compute_capability: float
    power_w: int
    idle_w: int

    def hardware(self, index: int) -> str:
        return (
            f"cuda:{index},model={self.model},emulated=1,gpu_memory={self.gpu_memory},"
            f"compute_capability={self.compute_capability},power_w={self.power_w},idle_w={self.idle_w}"
        )


CARDS: Final = {
    card.model: card
    for card in (
        Card(model="K80", gpu_memory="12GB", compute_capability=3.7, power_w=150, idle_w=30),
        Card(model="P100", gpu_memory="16GB", compute_capability=6.0, power_w=250, idle_w=30),
        Card(model="V100", gpu_memory="16GB", compute_capability=7.0, power_w=300, idle_w=40),
    )
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One worker: its node name, class, `--hardware`, and whether it joins after the start.

    Emulated cards run one job at a time in a thread, which only waits; a CPU worker runs real
    work in a process of its own.
    """

    name: str
    hardware_class: str
    hardware: str
    emulated: bool
    joins_later: bool = False

    @property
    def pool(self) -> str:
        return "threads" if self.emulated else "prefork"

    @property
    def label(self) -> str:
        """The class as people read it."""
        return f"{self.hardware_class} (emulated)" if self.emulated else self.hardware_class


def crew() -> tuple[Member, ...]:
    """Twelve workers of four classes; one K80 and one V100 of them join later."""
    members = []
    for model, count, late in (("K80", 4, 1), ("P100", 3, 0), ("V100", 3, 1)):
        for number in range(1, count + 1):
            members.append(
                Member(
                    name=f"{model}-{number}@emulated", hardware_class=f"cuda-{model}",
                    hardware=CARDS[model].hardware(number - 1), emulated=True,
                    joins_later=number > count - late,
                )
            )
    for number in (1, 2):
        members.append(
            Member(name=f"CPU-{number}@here", hardware_class="cpu", hardware="cpu", emulated=False)
        )
    return tuple(members)
