"""Emulated devices: declared with `emulated=1`, read from what their worker runs.

Nothing of the host is passed off as the device's: the load is the share of busy slots, the power
follows from the labels `idle_w` and `power_w`, and everything else is unknown.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from balancer.model import Hardware, Reading
from probes.base import ProbeError

#: The labels that give an emulated device its power: idle, and with every slot busy (W).
POWER_LABELS: Final = ("idle_w", "power_w")


class EmulatedProbe:
    """Derives a reading from `busy`, which gives the share of slots in use (0–1) or `None`."""

    name = "emulated"

    def __init__(self, busy: Callable[[], float | None] | None = None) -> None:
        self._busy = busy

    def devices(self) -> list[Hardware]:
        return []

    def read(self, hardware: Hardware) -> Reading:
        busy = self._busy() if self._busy is not None else None
        if busy is not None and not 0 <= busy <= 1:
            raise ProbeError(f"an emulated device's busy share is {busy!r}; it must be between 0 and 1")
        on_cpu = hardware.kind == "cpu"
        return Reading(
            cpu=busy if on_cpu else None,
            gpu=None if on_cpu else busy,
            power_w=power_w(hardware, busy),
        )


def power_w(hardware: Hardware, busy: float | None) -> float | None:
    """Idle power plus the busy share of what full load adds (W)."""
    labels = dict(hardware.labels)
    if busy is None or any(label not in labels for label in POWER_LABELS):
        return None
    idle, full = (float(labels[label]) for label in POWER_LABELS)
    return idle + busy * (full - idle)
