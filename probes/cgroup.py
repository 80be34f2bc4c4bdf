"""The limits that cgroup v2 puts on this process: what a container is really allowed.

psutil sees the whole machine. Limits may stand at any level between this process's cgroup and
the root, so every level of the path is looked at and the tightest counts. cgroup v1 and systems
without cgroups have no levels here: then only the host's own numbers count.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from probes.base import least, most, read_number, read_text, share


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuUse:
    """CPU time used so far by a limited cgroup (s) and the CPUs its quota allows."""

    used_s: float
    cpus: float


def levels(root: Path = Path("/")) -> list[Path]:
    """Directories of this process's cgroup and of those above it, innermost first.

    `root` is the root of the file system (a fixture tree in tests). Inside a cgroup namespace
    the mount's own root is the container's cgroup and carries its limits, so it belongs in.
    """
    mount = root / "sys/fs/cgroup"
    if not (mount / "cgroup.controllers").exists():
        mount = mount / "unified"  # the hybrid layout keeps v1 at the usual place
        if not (mount / "cgroup.controllers").exists():
            return []
    lines = (read_text(root / "proc/self/cgroup") or "").splitlines()
    own = next((line[3:] for line in lines if line.startswith("0::")), None)
    if own is None:
        return []
    # "/../x": the process lives outside its namespace; what lies there cannot be seen.
    names = [part for part in PurePosixPath(own).parts if part not in ("/", "..")]
    chain = [mount.joinpath(*names[:depth]) for depth in range(len(names), -1, -1)]
    return [level for level in chain if level.is_dir()]


def cpu_quota(level: Path) -> float | None:
    """CPUs that `cpu.max` of one level allows; `None` when it sets no limit."""
    words = (read_text(level / "cpu.max") or "").split()
    try:
        quota, period = (float(words[0]), float(words[1]))
    except (IndexError, ValueError):
        return None  # "max 100000", or no such file
    return quota / period if quota > 0 and period > 0 else None


def cpu_uses(chain: list[Path]) -> dict[Path, CpuUse]:
    """For every level with a quota, what it has used so far: two of these make a rate."""
    uses: dict[Path, CpuUse] = {}
    for level in chain:
        cpus, used_s = cpu_quota(level), _stat(level / "cpu.stat", "usage_usec")
        if cpus is not None and used_s is not None:
            uses[level] = CpuUse(used_s=used_s / 1e6, cpus=cpus)
    return uses


def cpu_busy(
    before: Mapping[Path, CpuUse], now: Mapping[Path, CpuUse], elapsed_s: float, idle_cpus: float
) -> float | None:
    """How much of the CPU that it could have the busiest limited level uses (0–1).

    What a group could have is its quota, or less when the machine has less to give: what the group
    uses plus the `idle_cpus` of the machine. So neighbours count when, and only when, they are in
    the way. `None` when no level has a quota. A group may overdraw its quota within a period.
    """
    busy: float | None = None
    for level, use in now.items():
        earlier = before.get(level)
        if earlier is None or elapsed_s <= 0 or use.used_s < earlier.used_s:
            continue
        used = (use.used_s - earlier.used_s) / elapsed_s
        allowed = min(use.cpus, used + max(0.0, idle_cpus))
        busy = most(busy, share(min(used, allowed), allowed))
    return busy


def io_pressure(chain: list[Path]) -> str | None:
    """`io.pressure` of the innermost level that has one: how long the tasks in it wait for disks."""
    return next((text for level in chain if (text := read_text(level / "io.pressure"))), None)


def memory_limit_bytes(chain: list[Path]) -> float | None:
    """The tightest `memory.max` on the path, in bytes."""
    return least(*(read_number(level / "memory.max") for level in chain))


def memory(chain: list[Path]) -> tuple[float | None, float | None]:
    """The fullest level's use of its limit (0–1) and the fewest bytes left under any limit.

    Inactive file cache is counted as free, as the kernel drops it before it kills anyone.
    """
    used_share: float | None = None
    free_bytes: float | None = None
    for level in chain:
        limit, current = read_number(level / "memory.max"), read_number(level / "memory.current")
        if limit is None or current is None:
            continue
        used = max(0.0, current - (_stat(level / "memory.stat", "inactive_file") or 0.0))
        used_share = most(used_share, share(min(used, limit), limit))
        free_bytes = least(free_bytes, max(0.0, limit - used))
    return used_share, free_bytes


def _stat(path: Path, key: str) -> float | None:
    """The value of one `key value` line."""
    for line in (read_text(path) or "").splitlines():
        name, _, value = line.partition(" ")
        if name == key and value.strip().isdecimal():
            return float(value)
    return None
