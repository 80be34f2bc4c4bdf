"""Energy that the processor packages count themselves (Intel and AMD RAPL, through powercap).

Power is the difference of two counter readings over the time between them. The counters are
readable for root only on most systems; then power is unknown. They start again from 0 every few minutes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from probes.base import read_number, read_text

#: More than a package draws (W): a counter that at this power starts again between two readings may have done
#: so more than once.
MOST_W: Final = 1000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Energy:
    """One package's counter (µJ) and the value at which it starts again from 0 (µJ)."""

    counted_uj: float
    wraps_at_uj: float | None


def packages(root: Path = Path("/")) -> dict[str, Energy]:
    """The counter of every package; empty when there is none or any of them cannot be read.

    Only whole packages count: "intel-rapl:0:1" is a part of "intel-rapl:0", the "mmio" zones
    show the same counter a second time and "psys" contains the packages. A sum without one of
    the packages would not be the node's power, so one unreadable counter makes all unknown.
    """
    found: dict[str, Energy] = {}
    for zone in sorted((root / "sys/class/powercap").glob("intel-rapl:*")):
        name = read_text(zone / "name") or ""
        if zone.name.count(":") != 1 or not name.startswith("package"):
            continue
        counted = read_number(zone / "energy_uj")
        if counted is None:
            return {}
        found[zone.name] = Energy(counted_uj=counted, wraps_at_uj=read_number(zone / "max_energy_range_uj"))
    return found


def power_w(before: dict[str, Energy], now: dict[str, Energy], elapsed_s: float) -> float | None:
    """Mean power of all packages between two readings (W); `None` when they cannot be compared."""
    if not now or before.keys() != now.keys() or elapsed_s <= 0:
        return None
    total_uj = 0.0
    for name, energy in now.items():
        if energy.wraps_at_uj is not None and elapsed_s * MOST_W * 1e6 >= energy.wraps_at_uj:
            return None
        used = energy.counted_uj - before[name].counted_uj
        if used < 0:
            if energy.wraps_at_uj is None:
                return None
            used += energy.wraps_at_uj
        if used < 0:
            return None
        total_uj += used
    return total_uj / 1e6 / elapsed_s
