"""Which probe reads which kind of hardware. The one list of them; a new kind is added here."""

from __future__ import annotations

from balancer.model import Kind
from probes.base import Probe


def probe_of(kind: Kind) -> Probe:
    """A fresh probe for a kind; its vendor's library is imported only now."""
    if kind == "cpu":
        from probes.host import HostProbe

        return HostProbe()
    if kind == "cuda":
        from probes.nvml import NvmlProbe

        return NvmlProbe()
    if kind == "rocm":
        from probes.sysfs_gpu import SysfsGpuProbe

        return SysfsGpuProbe()
    from probes.declared import DeclaredProbe

    return DeclaredProbe(kind)
