"""What the balanced transport knows of the fleet whose messages it carries: key names and who it is.

Told by `workers.install` through the broker's transport options; a plain kombu consumer or client
on our scheme gets the defaults, takes messages as anybody, and claims nothing.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from balancer.adapters.redis_connection import Connection
from workers import identity
from workers.receipts import Receiver

#: The transport option under which `workers.install` says what is in `Fleet`.
OPTION: Final = "balancer"

#: What is taken where nobody says: the defaults of the settings of these names.
DEFAULTS: Final[Mapping[str, Any]] = {"namespace": "balancer", "heartbeat_ttl": 15.0, "fence_ttl": 86_400.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """One process's place in a fleet. `instance` is "" where it is no worker's main one: then nothing that
    it takes is claimed, and nobody watches over what it holds."""

    connection: Connection
    instance: str
    worker: str
    heartbeat_ttl_s: float
    fence_ttl_s: int
    bell: str

    @classmethod
    def of_channel(cls, channel: Any) -> Fleet:
        """As this channel's connection was told."""
        told = {**DEFAULTS, **(getattr(channel, OPTION, None) or {})}
        receiver = Receiver.current if identity.in_main_process() else None
        instance = receiver.instance if receiver is not None else ""
        return cls(
            connection=Connection.of_channel(channel, told["namespace"]),
            instance=instance,
            worker=identity.worker_name(),
            heartbeat_ttl_s=float(told["heartbeat_ttl"]),
            fence_ttl_s=max(1, int(told["fence_ttl"])),
            bell=f"{instance or '-'}/{uuid.uuid4().hex[:12]}",
        )

    @property
    def base(self) -> str:
        """The first part of every key of ours, with its colon."""
        return self.connection.keys.ours("")

    @property
    def ring(self) -> str:
        """The list this channel blocks on while it waits for work."""
        return self.connection.keys.ours("ring", self.bell)


def group_of(queues: Sequence[str]) -> str:
    """One name for all consumers that ask for the same queues, in whatever order."""
    return hashlib.blake2s("\n".join(sorted(queues)).encode(), digest_size=8).hexdigest()
