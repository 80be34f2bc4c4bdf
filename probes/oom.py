"""How often the kernel has killed a process here because memory ran out.

`oom_kill` of the cgroups that hold this process (`memory.events`), and of the whole machine where no
cgroup counts. Counters only grow: a rise between two reads says that it has happened meanwhile.
"""

from __future__ import annotations

from pathlib import Path

from probes.base import read_text
from probes.cgroup import levels


def kills(root: Path = Path("/")) -> int | None:
    """The count, of this process's cgroup where it has one, else of the machine; `None`: not told."""
    counts = [count for level in levels(root) if (count := _oom_kill(level / "memory.events")) is not None]
    return counts[0] if counts else _oom_kill(root / "proc/vmstat")


def _oom_kill(file: Path) -> int | None:
    for line in (read_text(file) or "").splitlines():
        name, _, count = line.partition(" ")
        if name == "oom_kill" and count.strip().isdigit():
            return int(count)
    return None
