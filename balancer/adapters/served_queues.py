"""Which of our queues a live worker serves, and where a message goes whose queue nobody serves.

Read at most once a recovery, and only when a direct or class queue comes up: what lay there goes
to its lane.
"""

from __future__ import annotations

from balancer.adapters.documents import Description, read_description, read_lane
from balancer.adapters.redis_connection import Connection
from balancer.errors import StoreError
from balancer.routing import class_queue, direct_queue, is_routed_queue, lane_queue


class ServedQueues:
    """A look at the fleet, taken when it is first needed."""

    def __init__(self, connection: Connection, heartbeat_ttl_s: float) -> None:
        self._connection = connection
        self._ttl_s = heartbeat_ttl_s
        self._served: set[str] | None = None
        self._lanes: dict[str, str] = {}

    def instead_of(self, queue: str, home: str, profile: str, task: str) -> str:
        """`queue`; where it is a queue of ours that nobody serves, the `home` that the message names, else
        the lane of this profile."""
        if not is_routed_queue(queue):
            return queue
        if self._served is None:
            self._served = self._look()
        if queue in self._served:
            return queue
        if home:
            return home
        shared = lane_queue(task)
        return self._lanes.get(profile) or (shared if shared in self._lanes.values() else queue)

    def _look(self) -> set[str]:
        served: set[str] = set()
        for one in described(self._connection, self._ttl_s):
            served |= {direct_queue(one.name), class_queue(one.hardware.hardware_class), *one.queues}
        for queue, raw in self._connection.client.hgetall(self._connection.keys.lanes).items():
            try:
                self._lanes[read_lane(raw).profile] = queue.decode()
            except (StoreError, UnicodeDecodeError):
                continue  # a look at the fleet sets it aside
        return served


def described(connection: Connection, heartbeat_ttl_s: float) -> list[Description]:
    """The live workers, as they describe themselves; one that cannot be read is left out."""
    keys = connection.keys
    with connection.client.pipeline(transaction=False) as pipe:
        pipe.time()
        pipe.zrange(keys.alive, 0, -1, withscores=True)
        pipe.hgetall(keys.workers)
        (seconds, micros), alive, workers = pipe.execute()
    fresh = {name.decode() for name, at in alive if seconds + micros / 1e6 - at <= heartbeat_ttl_s}
    found = []
    for raw in workers.values():
        try:
            one = read_description(raw)
        except StoreError:
            continue  # a look at the fleet sets it aside
        if one.instance in fresh:
            found.append(one)
    return found
