"""What a draining worker tells: one document a worker, for whoever asked it to drain.

Written by the worker (`workers.drain`), read by `balancer.draining`. It outlives the worker for a
while, so that a worker which has stopped can still be asked what became of its tasks.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Final, Literal

from redis.exceptions import RedisError

from balancer.adapters.redis_connection import Connection
from balancer.errors import StoreError

#: How long the document is kept after its last change (s).
KEPT_S: Final = 3600

#: Tasks that are named; of more only the count is told.
NAMED: Final = 1_000

DrainState = Literal["draining", "drained", "stopping", "stopped", "undone"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainReport:
    """How far a worker has come. `moved` maps a task to the queue it went to; `returned` counts messages
    that went from its direct queue back to their lanes. `running` maps what still runs to what it waits for.
    """

    worker: str
    state: DrainState
    moved: Mapping[str, str] = field(default_factory=dict)
    moved_count: int = 0
    returned: int = 0
    running: Mapping[str, str] = field(default_factory=dict)
    waiting: int = 0


def write(connection: Connection, report: DrainReport) -> None:
    """Keep the report. Raises what Redis raises."""
    connection.client.set(connection.keys.drain(report.worker), json.dumps(asdict(report)), ex=KEPT_S)


def read(connection: Connection, worker: str) -> DrainReport | None:
    """The last report of a worker, `None` when it has none. Raises `StoreError`."""
    try:
        raw = connection.client.get(connection.keys.drain(worker))
    except (RedisError, OSError) as error:
        raise StoreError(f"Redis does not answer (how far {worker} has drained): {error}") from error
    if raw is None:
        return None
    try:
        return DrainReport(**json.loads(raw))
    except (ValueError, TypeError) as error:
        raise StoreError(f"what {worker} tells of its draining cannot be read: {error}") from error
