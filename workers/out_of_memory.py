"""A pool process that was killed because memory ran out: its task goes where there is more.

SIGKILL that is not ours, while the kernel's count of such kills has risen of late. Where no live
worker that can run the task has more memory, it counts as a lost process.
"""

from __future__ import annotations

import re
import time
from collections import deque
from pathlib import Path
from typing import Any, Final

from billiard.exceptions import WorkerLostError
from celery.utils.log import get_logger
from redis.exceptions import RedisError

from balancer.adapters.redis_connection import Connection
from balancer.adapters.served_queues import described
from balancer.errors import BalancerError
from balancer.model import Needs, TaskProfile
from balancer.routing import absent_reason, direct_queue, roomier
from probes import oom
from workers.header import read_header
from workers.homes import operators_queue
from workers.lanes import LaneFollower
from workers.task import fence_of

logger = get_logger(__name__)

#: How billiard tells of a process that was killed with SIGKILL.
_KILLED: Final = re.compile(r"signal 9\b")


#: How far back a kill may lie (s): Celery looks for processes that are gone only every five seconds, and
#: a machine that is short of memory is slow.
LATELY_S: Final = 15.0


class MemoryWatch:
    """The kernel's counts at this worker's reports of late; `root` is the root of the file system."""

    current: MemoryWatch | None = None

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root
        self._seen: deque[tuple[float, int | None]] = deque()

    def note(self, now: float | None = None) -> None:
        """At each report; `now` by a clock that is not set (s)."""
        now = time.monotonic() if now is None else now
        self._seen.append((now, oom.kills(self._root)))
        while len(self._seen) > 1 and self._seen[1][0] <= now - LATELY_S:
            self._seen.popleft()

    def rose(self) -> bool:
        """Whether memory ran out of late."""
        before, now = (self._seen[0][1] if self._seen else None), oom.kills(self._root)
        return before is not None and now is not None and now > before


def sent_where_memory_is(request: Any, error: BaseException) -> bool:
    """Hand a task whose process was killed for memory to a worker with more; whether that was done.

    The caller drops the delivery, which is in another queue then. Never raises.
    """
    watch, follower = MemoryWatch.current, LaneFollower.current
    killed = isinstance(error, WorkerLostError) and _KILLED.search(str(error))
    if not killed or watch is None or follower is None or not watch.rose():
        return False
    try:
        return _hand_over(request, follower)
    except (RedisError, BalancerError) as fault:
        logger.warning("task %s ran out of memory and stays here: %s", request.id, fault)
        return False


def _hand_over(request: Any, follower: LaneFollower) -> bool:
    fence, settings = fence_of(request.app)
    home = operators_queue(fence.connection, request, read_header(request.request_dict.get("balancer")))
    others = [one for one in described(fence.connection, settings.heartbeat_ttl)
              if one.name != follower.worker and absent_reason(home, one.queues) is None]
    target = roomier(follower.hardware, _needs(request, follower.view.lanes.values()),
                     [(one.name, one.hardware) for one in others])
    token = _token(fence.connection, request, fence.owner)
    if target is None or token is None:
        logger.warning("task %s ran out of memory, and no worker that can run it has more", request.id)
        return False
    queue = direct_queue(target)
    fence.connection.script("note_routed")([fence.connection.keys.routed], [queue])
    answer = fence.relinquish(request.delivery, queue, f"oom-{request.id}", token=token)
    if answer == "moved":
        logger.warning("task %s ran out of memory; it goes on on %s, which has more", request.id, target)
    return bool(answer == "moved")


def _needs(request: Any, lanes: Any) -> Needs:
    profile = read_header(request.request_dict.get("balancer")).profile or request.name
    known: dict[str, TaskProfile] = {lane.name: lane for lane in lanes}
    return known[profile].needs if profile in known else Needs()


def _token(connection: Connection, request: Any, owner: str) -> str | None:
    """The claim of the run that was killed; `None` where it is not ours any more."""
    fields = ("claim", "owner", "tag", "state")
    raw = connection.client.hmget(connection.keys.fence(request.id), fields)
    claim, holder, tag, state = ((value or b"").decode() for value in raw)
    ours = holder == owner and tag == request.delivery.tag and state == "run"
    return claim if ours and claim else None
