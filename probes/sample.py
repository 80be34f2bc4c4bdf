"""A worker's reading, sample by sample: the host's values and the device's, merged.

The one place where a probe's failure is caught: it is logged once with its name and reason,
its values are absent, and sampling goes on, so that a worker never stops for its telemetry.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Final

from balancer.model import Hardware, Reading
from probes.base import Probe
from probes.emulated import EmulatedProbe
from probes.kinds import probe_of

logger = logging.getLogger(__name__)

EVERYTHING: Final = frozenset(field.name for field in fields(Reading))

#: What the host says of a node whose work runs on another device. Heat and power are the device's
#: own or unknown: the processor's temperature would strike out a cool GPU, and its power would be
#: booked as the GPU's.
NODE: Final = frozenset(
    {"cpu", "memory", "memory_free_bytes", "disk_bytes_per_s", "network_bytes_per_s", "pressure", "io"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A probe and the quantities that are taken from it."""

    probe: Probe
    quantities: frozenset[str] = EVERYTHING


class Sampler:
    """Reads one worker's sources. A later source's value replaces an earlier one's."""

    def __init__(self, hardware: Hardware, sources: Sequence[Source]) -> None:
        self.hardware = hardware
        self._sources = tuple(sources)
        self._told: set[tuple[str, str]] = set()

    def sample(self) -> Reading:
        """What can be read now. Never raises."""
        values: dict[str, float] = {}
        for source in self._sources:
            part = self._read(source.probe)
            for name in source.quantities:
                value = getattr(part, name)
                if value is not None:
                    values[name] = value
        return Reading(**values)

    def _read(self, probe: Probe) -> Reading:
        try:
            return probe.read(self.hardware)
        except Exception as error:
            self._tell(probe.name, error)
            return Reading()

    def _tell(self, name: str, error: Exception) -> None:
        """Log a failure once. Reasons may carry numbers that change, so the kind of error is what counts."""
        key = (name, type(error).__name__)
        if key not in self._told:
            self._told.add(key)
            reason = str(error) or type(error).__name__
            logger.warning("probe %s: %s; its readings are absent until it answers again", name, reason)


def sampler_for(hardware: Hardware, busy: Callable[[], float | None] | None = None) -> Sampler:
    """The sampler of a worker on this hardware.

    `busy` gives the share of the worker's slots in use (0–1) and is what an emulated device is
    read from; real devices are read themselves. An emulated device's node is not this host, so
    nothing of the host is in its reading.
    """
    if hardware.emulated:
        return Sampler(hardware, [Source(probe=EmulatedProbe(busy))])
    host = probe_of("cpu")
    if hardware.kind == "cpu":
        return Sampler(hardware, [Source(probe=host)])
    return Sampler(hardware, [Source(probe=host, quantities=NODE), Source(probe=probe_of(hardware.kind))])
