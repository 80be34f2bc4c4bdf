"""What a worker runs on, and what each kind of hardware is good at.

First room of the house: imported by everything, imports nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType
from typing import Final, Literal

Kind = Literal["cpu", "cuda", "rocm", "mps", "openvino", "qnn", "webnn", "webgpu"]

#: The kinds of hardware this project knows, in the order of the seed's table.
KINDS: Final[tuple[Kind, ...]] = ("cpu", "cuda", "rocm", "mps", "openvino", "qnn", "webnn", "webgpu")

_BY_NAME: Final[dict[str, Kind]] = {kind: kind for kind in KINDS}


def as_kind(text: str) -> Kind | None:
    """`text` as a kind of hardware, whatever its case; `None` when it is none."""
    return _BY_NAME.get(text.strip().lower())


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """One device as a worker declared or a probe found it.

    Unknown quantities are `None`, never 0. `telemetry` names where readings come from
    ("psutil", "nvml", "sysfs", "emulated") or says "none".
    """

    kind: Kind
    model: str = ""
    index: int | None = None
    compute_capability: float | None = None
    gpu_memory_bytes: int | None = None
    memory_bytes: int | None = None
    labels: tuple[tuple[str, str], ...] = ()
    emulated: bool = False
    telemetry: str = "none"

    @property
    def hardware_class(self) -> str:
        """The class whose workers run a profile alike: the kind and, when known, the model."""
        return _class_name(self.kind, self.model)


@lru_cache(maxsize=4096)
def _class_name(kind: Kind, model: str) -> str:
    """Kept, as each turn asks it of every worker."""
    slug = "".join(c if c.isalnum() or c in "._" else "-" for c in model).strip("-")
    return f"{kind}-{slug}" if slug else kind


@dataclass(frozen=True, slots=True, kw_only=True)
class HardwareProfile:
    """How a kind of hardware compares, from the seed's table, then from what workers do.

    `performance_weight` is a speed relative to a CPU; the efficiencies are 0–1.
    """

    kind: Kind
    performance_weight: float
    energy_efficiency: float
    thermal_efficiency: float
    notes: str = ""
    observed_runs: int = field(default=0)


#: The seed document's table of hardware profiles.
HARDWARE_PROFILES: Final[Mapping[str, HardwareProfile]] = MappingProxyType(
    {
        profile.kind: profile
        for profile in (
            HardwareProfile(
                kind="cpu", performance_weight=1.0, energy_efficiency=0.7, thermal_efficiency=0.8,
                notes="Baseline performance",
            ),
            HardwareProfile(
                kind="cuda", performance_weight=3.0, energy_efficiency=0.5, thermal_efficiency=0.4,
                notes="High performance, lower efficiency",
            ),
            HardwareProfile(
                kind="rocm", performance_weight=2.8, energy_efficiency=0.5, thermal_efficiency=0.4,
                notes="Similar to CUDA",
            ),
            HardwareProfile(
                kind="mps", performance_weight=2.5, energy_efficiency=0.6, thermal_efficiency=0.6,
                notes="Apple Silicon GPU",
            ),
            HardwareProfile(
                kind="openvino", performance_weight=1.8, energy_efficiency=0.8, thermal_efficiency=0.7,
                notes="Intel optimization",
            ),
            HardwareProfile(
                kind="qnn", performance_weight=1.4, energy_efficiency=0.9, thermal_efficiency=0.9,
                notes="Qualcomm Neural Networks - high efficiency",
            ),
            HardwareProfile(
                kind="webnn", performance_weight=1.0, energy_efficiency=0.7, thermal_efficiency=0.8,
                notes="Browser neural network API",
            ),
            HardwareProfile(
                kind="webgpu", performance_weight=1.2, energy_efficiency=0.6, thermal_efficiency=0.7,
                notes="Browser GPU API",
            ),
        )
    }
)
