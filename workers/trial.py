"""The last chance of a task that may end its workers: it runs apart from others that are suspected, too.

Two tasks that always run side by side when their worker dies cannot be told apart by counting. So one
that is a single death away from being set aside waits for the other, and where that takes long it
goes back to its queue.
"""

from __future__ import annotations

import time
from typing import Final

from celery.exceptions import Reject
from celery.utils.log import get_task_logger

from balancer.adapters.redis_fence import RUNNING_TTL_S
from workers.run import Run, patiently

logger = get_task_logger(__name__)

#: Seconds that a task waits in its slot, and between two looks.
PATIENCE_S: Final = 2.0
LOOK_S: Final = 0.1


def await_turn(run: Run, deaths_limit: int) -> None:
    """Return when this run may begin. Raises `Reject` once its claim is given back.

    With a limit of one there is nobody to tell from anybody: the first death is the last.
    """
    if deaths_limit < 2:
        return
    connection = run.fence.connection
    keys, until = connection.keys, time.monotonic() + PATIENCE_S

    def may_begin() -> bool:
        return bool(
            connection.script("trial")(
                [keys.fence(run.task_id), keys.ours("trial", run.fence.owner)],
                [run.token, run.task_id, deaths_limit - 1, keys.fence(""), RUNNING_TTL_S],
            )
        )

    while not patiently(may_begin):
        if time.monotonic() > until:
            logger.info("task %s goes back: another that may end its worker runs beside it", run.task_id)
            run.give_back()
            raise Reject("another suspected task runs here", requeue=True)
        time.sleep(LOOK_S)
