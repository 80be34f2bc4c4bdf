"""The node itself: CPU, memory, disk, network, pressure, heat and power.

Read through psutil and the kernel's own files, within what cgroup v2 allows this process.
Rates compare two samples, so the first sample of a probe has none.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, TypeVar

import psutil

from balancer.model import Hardware, Reading
from probes import cgroup, rapl
from probes.base import least, most, read_text, share, stalled

T = TypeVar("T")

#: Parts of the names of sensor chips that sit in a processor package.
PACKAGE_CHIPS: Final = ("coretemp", "k10temp", "zenpower", "cpu", "soc")

#: Degrees Celsius between which a sensor is believed; a sensor that is not wired says 0 or 255.
BELIEVED_CELSIUS: Final = (0.0, 150.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Counters:
    """What only ever grows, at one moment of the monotonic clock (s)."""

    at: float
    cpu_busy_s: float
    cpu_total_s: float
    cgroup: Mapping[Path, cgroup.CpuUse] = field(default_factory=dict)
    disk_bytes: float | None = None
    network_bytes: float | None = None
    disk_busy_s: Mapping[str, float] = field(default_factory=dict)
    energy: Mapping[str, rapl.Energy] = field(default_factory=dict)


class HostProbe:
    """Reads the machine this process runs on. `root` is where /sys and /proc are found."""

    name = "psutil"

    def __init__(self, root: Path = Path("/"), clock: Callable[[], float] = time.monotonic) -> None:
        self._root = root
        self._clock = clock
        self._before: Counters | None = None

    def devices(self) -> list[Hardware]:
        total = psutil.virtual_memory().total
        allowed = least(total, cgroup.memory_limit_bytes(cgroup.levels(self._root)))
        memory_bytes = int(allowed) if allowed is not None else None
        model = cpu_model(self._root)
        return [Hardware(kind="cpu", model=model, memory_bytes=memory_bytes, telemetry=self.name)]

    def read(self, hardware: Hardware) -> Reading:
        """One sample. CPU is the busy share of the processors this process may use or, where its
        cgroup has a quota, of what the quota lets it have; memory is the fuller of the machine and
        the limits; I/O is the share of time in which tasks of its cgroup, or of the machine, wait for disks
        or, where the kernel does not tell, in which the busiest disk works."""
        chain = cgroup.levels(self._root)
        now, before = self._count(chain), self._before
        self._before = now
        memory_share, free_bytes = self._memory(chain)
        reading = Reading(
            memory=memory_share,
            memory_free_bytes=free_bytes,
            pressure=stalled(read_text(self._root / "proc/pressure/cpu")),
            io=stalled(cgroup.io_pressure(chain) or read_text(self._root / "proc/pressure/io")),
            temperature_celsius=hottest_package(_attempt(psutil_temperatures) or {}),
        )
        if before is None:
            return reading
        return _with_rates(reading, before, now)

    def _count(self, chain: list[Path]) -> Counters:
        busy_s, total_s = cpu_seconds()
        return Counters(
            at=self._clock(),
            cpu_busy_s=busy_s,
            cpu_total_s=total_s,
            cgroup=cgroup.cpu_uses(chain),
            disk_bytes=_attempt(disk_bytes),
            network_bytes=_attempt(network_bytes),
            disk_busy_s=_attempt(disk_busy_s) or {},
            energy=rapl.packages(self._root),
        )

    def _memory(self, chain: list[Path]) -> tuple[float | None, float | None]:
        machine = psutil.virtual_memory()
        group_share, group_free = cgroup.memory(chain)
        machine_share = share(machine.total - machine.available, machine.total)
        return most(machine_share, group_share), least(float(machine.available), group_free)


def _with_rates(reading: Reading, before: Counters, now: Counters) -> Reading:
    """`reading` with what follows from two countings."""
    elapsed_s = now.at - before.at
    busy_s, total_s = now.cpu_busy_s - before.cpu_busy_s, now.cpu_total_s - before.cpu_total_s
    idle_cpus = (total_s - busy_s) / elapsed_s if elapsed_s > 0 else 0.0
    limited = cgroup.cpu_busy(before.cgroup, now.cgroup, elapsed_s, idle_cpus)
    disks = busiest(before.disk_busy_s, now.disk_busy_s, elapsed_s)
    return replace(
        reading,
        cpu=share(busy_s, total_s) if limited is None else limited,
        io=disks if reading.io is None else reading.io,
        disk_bytes_per_s=rate(before.disk_bytes, now.disk_bytes, elapsed_s),
        network_bytes_per_s=rate(before.network_bytes, now.network_bytes, elapsed_s),
        power_w=rapl.power_w(dict(before.energy), dict(now.energy), elapsed_s),
    )


def rate(before: float | None, now: float | None, elapsed_s: float) -> float | None:
    """Growth per second; `None` when unknown or when the counter fell (a device was unplugged)."""
    if before is None or now is None or elapsed_s <= 0 or now < before:
        return None
    return (now - before) / elapsed_s


def busiest(before: Mapping[str, float], now: Mapping[str, float], elapsed_s: float) -> float | None:
    """The share of time (0–1) in which the busiest disk worked, by seconds counted so far by disk."""
    grown = [rate(before.get(name), counted_s, elapsed_s) for name, counted_s in now.items()]
    return most(*(share(each, 1.0) for each in grown))


def hottest_package(chips: Mapping[str, Sequence[Any]]) -> float | None:
    """The hottest believable sensor of a processor package (°C).

    `chips` is shaped as psutil's: chip → entries with `label` and `current`. Where a chip has
    sensors of the package as a whole and of single cores, only the former count.
    """
    hottest: float | None = None
    low, high = BELIEVED_CELSIUS
    for chip, entries in chips.items():
        if not any(part in chip.lower() for part in PACKAGE_CHIPS):
            continue
        whole = [e for e in entries if e.label.lower().startswith(("package", "tctl", "tdie"))]
        for entry in whole or entries:
            if entry.current is not None and low < entry.current < high:
                hottest = most(hottest, float(entry.current))
    return hottest


def psutil_temperatures() -> Mapping[str, Sequence[Any]]:
    chips: Mapping[str, Sequence[Any]] = psutil.sensors_temperatures()
    return chips


def cpu_seconds() -> tuple[float, float]:
    """Busy and total seconds counted so far over the CPUs that this process may use."""
    each = psutil.cpu_times(percpu=True)
    allowed = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else range(len(each))
    chosen = [each[i] for i in allowed] if all(i < len(each) for i in allowed) else each
    busy_s = total_s = 0.0
    for times in chosen:
        # Guest time is part of user time already.
        spent = sum(value for name, value in times._asdict().items() if not name.startswith("guest"))
        total_s += spent
        busy_s += spent - times.idle - getattr(times, "iowait", 0.0)
    return busy_s, total_s


def disk_bytes() -> float | None:
    """Bytes read and written by all disks so far; `None` where the system keeps no count."""
    counted = psutil.disk_io_counters()
    return float(counted.read_bytes + counted.write_bytes) if counted is not None else None


def disk_busy_s() -> dict[str, float]:
    """Seconds that each disk and partition has worked so far; empty where the system keeps no count."""
    each = psutil.disk_io_counters(perdisk=True)
    return {name: disk.busy_time / 1000 for name, disk in each.items() if hasattr(disk, "busy_time")}


def network_bytes() -> float | None:
    """Bytes sent and received so far by all interfaces but the loopback."""
    nics = psutil.net_io_counters(pernic=True)
    real = [nic for name, nic in nics.items() if not name.startswith("lo")]
    return float(sum(nic.bytes_sent + nic.bytes_recv for nic in real)) if real else None


def cpu_model(root: Path = Path("/")) -> str:
    """The processor's name as the system gives it; empty when it gives none."""
    for line in (read_text(root / "proc/cpuinfo") or "").splitlines():
        key, _, value = line.partition(":")
        if key.strip().lower() == "model name" and value.strip():
            return value.strip()
    return platform.processor()


def _attempt(read: Callable[[], T]) -> T | None:
    """The value, or `None` where this system does not have it (each quantity fails alone)."""
    try:
        return read()
    except (OSError, psutil.Error, AttributeError, NotImplementedError, RuntimeError, ValueError):
        return None
