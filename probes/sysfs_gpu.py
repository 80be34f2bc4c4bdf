"""AMD GPUs as the kernel's amdgpu driver shows them in sysfs: no library needed.

A sleeping card answers EINVAL or an empty file for some quantities; these are then absent,
and only a card whose directory is gone counts as lost.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from balancer.model import Hardware, Reading
from probes.base import ProbeError, read_number, read_text, share, visible

AMD_VENDOR: Final = "0x1002"
PCI_ADDRESS: Final = re.compile(r"[0-9a-f]{4,}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")


class SysfsGpuProbe:
    """Reads AMD GPUs. `root` is where /sys is found, `environ` says which cards are visible."""

    name = "sysfs"

    def __init__(self, root: Path = Path("/"), environ: Mapping[str, str] = os.environ) -> None:
        self._root = root
        self._environ = environ
        self._pinned: list[Path] = []

    def devices(self) -> list[Hardware]:
        return [
            Hardware(
                kind="rocm",
                model=model(card),
                index=index,
                gpu_memory_bytes=_whole(read_number(card / "mem_info_vram_total")),
                telemetry=self.name,
            )
            for index, card in enumerate(self._cards())
        ]

    def read(self, hardware: Hardware) -> Reading:
        cards, index = self._cards(), hardware.index or 0
        if index >= len(cards) or not cards[index].is_dir():
            left = sum(card.is_dir() for card in cards)
            raise ProbeError(f"rocm:{index} is gone; {left} AMD GPUs are there")
        card = cards[index]
        busy = read_number(card / "gpu_busy_percent")
        total, used = read_number(card / "mem_info_vram_total"), read_number(card / "mem_info_vram_used")
        millidegrees = sensor(card, "temp1_input")
        microwatts = sensor(card, "power1_average", "power1_input")
        return Reading(
            gpu=share(busy, 100.0),
            gpu_memory=share(used, total),
            gpu_memory_free_bytes=max(0.0, total - used) if total and used is not None else None,
            temperature_celsius=millidegrees / 1000 if millidegrees is not None else None,
            power_w=microwatts / 1e6 if microwatts is not None else None,
        )

    def _cards(self) -> list[Path]:
        """Device directories of the visible cards, in the order of their PCI addresses.

        Listed once, so that a number keeps its card when another one vanishes.
        """
        if not self._pinned:
            found = cards(self._root)
            listed = self._environ.get("HIP_VISIBLE_DEVICES", self._environ.get("ROCR_VISIBLE_DEVICES"))
            identities = [f"GPU-{read_text(card / 'unique_id') or ''}" for card in found]
            self._pinned = [found[i] for i in visible(listed, identities)]
        return self._pinned


def rocm_runs(root: Path = Path("/")) -> bool:
    """Whether the compute device of ROCm is there; a desktop's AMD graphics alone has none."""
    return (root / "dev/kfd").exists()


def cards(root: Path) -> list[Path]:
    """Device directories of all AMD GPUs, each once, though a card shows as `card0` and as `renderD128`.

    A card without display shows only as `renderD…`; `card0-DP-1` is a plug, not a card.
    """
    found: dict[Path, str] = {}
    entries = (root / "sys/class/drm").glob("*")
    for place, entry in enumerate(sorted(entries, key=lambda e: (not e.name.startswith("card"), _number(e)))):
        if not re.fullmatch(r"(card|renderD)\d+", entry.name):
            continue
        if read_text(entry / "device/vendor") != AMD_VENDOR:
            continue
        device = (entry / "device").resolve()
        address = read_slot(device)
        if address in found.values():
            continue
        found.setdefault(device, address or f"~{place:06d}")
    return sorted(found, key=lambda device: found[device])


def read_slot(device: Path) -> str | None:
    """The PCI address of a device directory, by its name or its uevent file."""
    if PCI_ADDRESS.fullmatch(device.name):
        return device.name
    for line in (read_text(device / "uevent") or "").splitlines():
        if line.startswith("PCI_SLOT_NAME="):
            return line.partition("=")[2]
    return None


def model(card: Path) -> str:
    """The product's name; most consumer cards have none, so then the PCI device id stands for it."""
    device_id = read_text(card / "device")
    return read_text(card / "product_name") or (f"AMD {device_id}" if device_id else "AMD GPU")


def sensor(card: Path, *names: str) -> float | None:
    """The first of these quantities that the card's hwmon gives."""
    for name in names:
        for monitor in sorted((card / "hwmon").glob("hwmon*")):
            value = read_number(monitor / name)
            if value is not None:
                return value
    return None


def _number(entry: Path) -> int:
    digits = re.search(r"\d+", entry.name)
    return int(digits.group()) if digits else 0


def _whole(value: float | None) -> int | None:
    return int(value) if value is not None and value > 0 else None
