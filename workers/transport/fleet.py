"""What the balanced transport knows of the fleet whose messages it carries: key names and who it is.

Told by `workers.install` through the broker's transport options; a plain kombu consumer or client
on our scheme gets the defaults, takes messages as anybody, and claims nothing.
"""

from __future__ import annotations

import hashlib
import threading
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
    """A channel's place in a fleet. `instance` is "" where it was not made in the thread in which a worker
    takes messages: then nothing that it takes is claimed, and nobody watches over what it holds.

    Other threads of a worker may wait for answers on our scheme (an `inspect`, say). Were one to look for
    what the worker has lost sight of, what the worker takes in that moment would go back while it runs.
    """

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
        ours = receiver is not None and receiver.thread == threading.get_ident()
        instance = receiver.instance if receiver is not None and ours else ""
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
