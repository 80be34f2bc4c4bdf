"""Devices that are declared by hand and give no readings of their own.

Apple's GPU (mps), OpenVINO, Qualcomm's QNN and the browser's WebNN and WebGPU: their
telemetry is "none", so only the host's readings speak for their workers.
"""

from __future__ import annotations

import platform

from balancer.model import Hardware, Kind, Reading


class DeclaredProbe:
    """Stands for one kind of device without telemetry."""

    name = "none"

    def __init__(self, kind: Kind, system: str | None = None, machine: str | None = None) -> None:
        self._kind = kind
        self._system = platform.system() if system is None else system
        self._machine = platform.machine() if machine is None else machine

    def devices(self) -> list[Hardware]:
        """Apple's GPU on an Apple Silicon Mac; of the other kinds nothing can be told."""
        if self._kind == "mps" and self._system == "Darwin" and self._machine == "arm64":
            return [Hardware(kind="mps")]
        return []

    def read(self, hardware: Hardware) -> Reading:
        return Reading()
