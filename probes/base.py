"""What every probe answers, and the few conversions all of them share.

A probe knows one source of readings (the host, NVML, sysfs, an emulation). It reports what it
cannot read as `None`, raises only when its source as a whole is gone, and never guesses.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from balancer.errors import BalancerError
from balancer.model import Hardware, Reading


class ProbeError(BalancerError):
    """A source of readings is gone as a whole; the message says which device and why."""


class Probe(Protocol):
    """One source of readings."""

    @property
    def name(self) -> str:
        """What `Hardware.telemetry` says of devices read here."""

    def devices(self) -> list[Hardware]:
        """The devices that are there; an empty list when there is no driver or no device."""

    def read(self, hardware: Hardware) -> Reading:
        """What can be read of one device now; the rest is `None`. Raises when the device is gone."""


def share(part: float | None, whole: float | None) -> float | None:
    """`part / whole` as a ratio 0–1. `None` when either is unknown or the ratio is no ratio.

    Counters are read one after another, so a hair above 1 is rounding and becomes 1.
    """
    if part is None or whole is None or not whole > 0:
        return None
    ratio = part / whole
    if not math.isfinite(ratio) or ratio < 0 or ratio > 1.05:
        return None
    return min(ratio, 1.0)


def least(*values: float | None) -> float | None:
    """The least of the known values; `None` when none is known."""
    return min((v for v in values if v is not None), default=None)


def most(*values: float | None) -> float | None:
    """The greatest of the known values; `None` when none is known."""
    return max((v for v in values if v is not None), default=None)


def read_text(path: Path) -> str | None:
    """The stripped text of a small kernel file; `None` when it is not there, empty or unreadable.

    Files of sysfs vanish with their device and answer EINVAL or EIO while it sleeps.
    """
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip() or None
    except OSError:
        return None


def read_number(path: Path) -> float | None:
    """The one number in a small kernel file; `None` when there is none."""
    return as_number(read_text(path))


def as_number(text: str | None) -> float | None:
    """The finite number that `text` is; `None` when it is none ("", "max", "nan")."""
    try:
        value = float(text) if text is not None else None
    except ValueError:
        return None
    return value if value is not None and math.isfinite(value) else None


def stalled(text: str | None) -> float | None:
    """The share of the last 10 s in which some task waited (0–1): `some avg10` of a pressure file."""
    for line in (text or "").splitlines():
        words = line.split()
        if words[:1] == ["some"]:
            for word in words[1:]:
                name, _, value = word.partition("=")
                if name == "avg10":
                    return share(as_number(value), 100.0)
    return None


def visible(listed: str | None, identities: Sequence[str], numbered: int | None = None) -> list[int]:
    """Physical indices of the devices a process may use, in the order in which it numbers them.

    `listed` is the value of CUDA_VISIBLE_DEVICES or HIP_VISIBLE_DEVICES (`None`: not set, all
    are visible), `identities` the UUID of each device by physical index. As the vendors define
    it, indices and UUID prefixes may be mixed and the list ends at the first that is none. Devices from
    `numbered` on (slices of others) have a UUID and no number.
    """
    count = len(identities) if numbered is None else numbered
    if listed is None:
        return list(range(count))
    chosen: list[int] = []
    for token in (part.strip() for part in listed.split(",")):
        if token.isdecimal():
            index = int(token) if int(token) < count else None
        else:
            matches = [i for i, uuid in enumerate(identities) if token and uuid.startswith(token)]
            index = matches[0] if len(matches) == 1 else None
        if index is None or index in chosen:
            break
        chosen.append(index)
    return chosen
