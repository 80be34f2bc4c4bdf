"""What a process of the demo is told through its environment, by one record on both sides.

Written by `fleet` for each child, read by the Celery app and the task bodies in it. Started by
hand (`celery -A workers.demo_app worker …`) a process gets the defaults.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from balancer.errors import BalancerError

#: Each variable begins with this.
PREFIX: Final = "BALANCER_DEMO_"

#: A Redis on its usual port, for processes that are started by hand.
USUAL_REDIS: Final = "redis://127.0.0.1:6379/0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a process of the demo stands.

    `redis` is the result store, and `broker` the same by the transport that loses nothing; `watch` the
    independent ledger's Redis (empty: none).
    `folder` is where the demo keeps its files. `block_s` is the measured time of one block of
    real CPU work; `warm` says whether the balancer is given the table of speeds as hints.
    """

    redis: str = USUAL_REDIS
    watch: str = ""
    folder: str = ""
    strategy: str = "priced"
    block_s: float | None = None
    warm: bool = True

    @property
    def broker(self) -> str:
        """The broker's URL: the same Redis on the balanced transport, where there is one for its scheme."""
        return f"balanced-{self.redis}" if self.redis.startswith(("redis://", "rediss://")) else self.redis

    def environment(self) -> dict[str, str]:
        """This record as environment variables."""
        values = {
            "REDIS": self.redis,
            "WATCH": self.watch,
            "FOLDER": self.folder,
            "STRATEGY": self.strategy,
            "BLOCK_S": "" if self.block_s is None else repr(self.block_s),
            "WARM": "1" if self.warm else "0",
        }
        return {PREFIX + name: value for name, value in values.items()}

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Place:
        """The record that `environment` wrote; what is not there has its default."""
        block = environ.get(PREFIX + "BLOCK_S", "")
        try:
            block_s = float(block) if block else None
        except ValueError:
            raise BalancerError(f"{PREFIX}BLOCK_S is {block!r}; it must be seconds, or empty") from None
        return cls(
            redis=environ.get(PREFIX + "REDIS") or USUAL_REDIS,
            watch=environ.get(PREFIX + "WATCH", ""),
            folder=environ.get(PREFIX + "FOLDER", ""),
            strategy=environ.get(PREFIX + "STRATEGY") or "priced",
            block_s=block_s,
            warm=environ.get(PREFIX + "WARM", "1") != "0",
        )


def foreign_load(folder: str, worker: str) -> Path | None:
    """The file that slows a worker by the factor it holds: (emulated) foreign load.

    `None` where there is no demo's folder.
    """
    return Path(folder) / f"foreign-load-{worker.partition('@')[0]}" if folder else None
