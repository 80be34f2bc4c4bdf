"""Messages in queues that nobody serves any more go back to their lanes, also without a balancer.

A worker may die between a move to it and its first pop; its direct queue is then served by nobody, and
that of its class if it was the last. Any worker's reporter looks now and then, one at a time.
"""

from __future__ import annotations

from typing import Final

from balancer.adapters.documents import read_description
from balancer.adapters.redis_connection import Connection
from balancer.adapters.redis_handover import RedisHandOver
from balancer.errors import StoreError
from balancer.routing import class_queue, direct_queue, is_routed_queue

#: How the look is called in the lock that lets one worker of the fleet take it.
LOOK: Final = "strays"


def return_strays(connection: Connection, heartbeat_ttl_s: float) -> int:
    """One look, unless somebody else took it within half the age limit; how many messages went back.

    Raises `StoreError`, and what Redis raises.
    """
    keys, client = connection.keys, connection.client
    if not client.set(keys.recovering(LOOK), "1", nx=True, px=max(100, int(500 * heartbeat_ttl_s))):
        return 0
    with client.pipeline(transaction=False) as pipe:
        pipe.time()
        pipe.zrange(keys.alive, 0, -1, withscores=True)
        pipe.hgetall(keys.workers)
        pipe.zrange(keys.routed, 0, -1)
        (seconds, micros), alive, described, routed = pipe.execute()
    fresh = {instance for instance, at in alive if seconds + micros / 1e6 - at <= heartbeat_ttl_s}
    served: set[str] = set()
    gone = {queue.decode("utf-8", "replace") for queue in routed}
    for name, raw in described.items():
        try:
            direct, one = direct_queue(name.decode()), read_description(raw)
        except (StoreError, UnicodeDecodeError):
            continue  # a look at the fleet sets it aside
        queues = {direct, class_queue(one.hardware.hardware_class)}
        (served if one.instance.encode() in fresh else gone).update(queues)
    stranded = sorted(filter(is_routed_queue, gone - served))
    return RedisHandOver(connection, _nobody).return_stranded(stranded) if stranded else 0


def _nobody(worker: str, arguments: dict[str, object]) -> None:
    raise StoreError(f"no command is sent to {worker} here")
