"""A chord's member that is told again: it waits until the worker that died over its chord is forgotten.

Celery's Redis backend lets one worker at a time publish a chord's body, for some seconds that outlive
a worker which dies meanwhile. It was made for deliveries that come back much later than ours do: a
member that came sooner would be counted, find the place taken, and nobody would publish the body.
"""

from __future__ import annotations

import time
from typing import Any, Final

from celery import current_task
from celery.utils.log import get_task_logger
from redis.exceptions import RedisError

logger = get_task_logger(__name__)

#: Longest wait for one look (s), and for all of them: whatever the key holds, the body has to be told.
LOOK_S: Final = 0.25
LONGEST_S: Final = 120.0


def await_dispatch(request: Any, token: str) -> None:
    """Return when nobody who may be dead is publishing the body of this task's chord.

    Only for a task that was claimed before (the count that the token begins with), so that other
    members do not pay for it. A worker that is alive publishes within moments and says "done".
    """
    count = token.partition(".")[0]
    backend = getattr(current_task, "backend", None)
    if not request.chord or not request.group or not count.isdigit() or int(count) < 2:
        return
    if backend is None or not hasattr(backend, "_chord_part_return_script"):
        return
    key, until = backend.get_key_for_group(request.group, ".c"), time.monotonic() + LONGEST_S
    try:
        while time.monotonic() < until and backend.client.get(key) not in (None, b"done", "done"):
            time.sleep(LOOK_S)
    except RedisError as error:
        logger.warning("the chord of task %s may be told too soon: %s", request.id, error)
