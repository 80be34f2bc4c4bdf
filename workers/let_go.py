"""Lets running tasks go from a worker that drains: by a wish, interrupted, or killed when time is over."""

from __future__ import annotations

from typing import Any, Final

from celery.utils.log import get_logger

from balancer.adapters.redis_connection import Connection
from balancer.decide.way_out import PREEMPTIBLE_POOLS
from workers import held
from workers.declared import may_be_repeated, saves_checkpoints
from workers.homes import home_of
from workers.preempt import Preemption, kill_and_hand_over, pool_name, preempt, standing
from workers.request import BalancedRequest
from workers.task import fence_of

logger = get_logger(__name__)

#: How long a wish of ours is kept (s): it is taken back, or goes with the task.
WISH_S: Final = 86_400

#: What a task that was interrupted waits for.
INTERRUPTED: Final = "its way out (it was interrupted)"


class Leaver:
    """What is asked of the running tasks of one draining worker."""

    def __init__(self, consumer: Any, queue: str) -> None:
        self.consumer = consumer
        self.queue = queue
        #: Task id → the queue it was asked to leave for.
        self.asked: dict[str, str] = {}
        self._interrupted: set[str] = set()
        self._left: dict[str, str] = {}

    def let_go(self, *, last: bool) -> dict[str, str]:
        """One round over what runs: what still does, and what it waits for. `last`: the time is over."""
        self.ask_to_leave()
        active = {r.id: r for r in held.requests(self.consumer)[0] if not r.acknowledged}
        for task_id in [t for t in self.asked if t not in active]:
            self._note_left(task_id)
        interrupts = pool_name(self.consumer) in PREEMPTIBLE_POOLS
        said: dict[str, str] = {}
        for request in active.values():
            said[request.id] = self._let_go(request, interrupts, last)
        return said

    def ask_to_leave(self) -> None:
        """A wish for each running task that leaves at a checkpoint or can be interrupted."""
        settings, interrupts = fence_of(self.consumer.app)[1], pool_name(self.consumer) in PREEMPTIBLE_POOLS
        for request in held.requests(self.consumer)[0]:
            if not isinstance(request, BalancedRequest) or request.acknowledged or request.id in self.asked:
                continue
            if saves_checkpoints(request.task, settings) or (
                interrupts and may_be_repeated(request.task, settings)
            ):
                queue = self.queue or home_of(self.consumer.app, request)
                if queue:
                    self._wish(request.id, queue)

    def leaving(self) -> bool:
        """Whether something that was interrupted has not left yet; its grace is short."""
        return any(r.id in self._interrupted for r in held.requests(self.consumer)[0] if not r.acknowledged)

    def moved(self) -> dict[str, str]:
        """What left while it ran, and where it went."""
        return dict(self._left)

    def take_back(self) -> None:
        """No wish of ours holds any more."""
        connection = self._connection
        for task_id in self.asked:
            connection.script("cancel_want")([connection.keys.want(task_id)], [move_id(task_id)])
        self.asked.clear()
        self._interrupted.clear()

    @property
    def _connection(self) -> Connection:
        return fence_of(self.consumer.app)[0].connection

    def _let_go(self, request: Any, interrupts: bool, last: bool) -> str:
        """What a running task waits for, after what could be done about it was done."""
        settings = fence_of(self.consumer.app)[1]
        if not isinstance(request, BalancedRequest):
            return "its end (it is no balanced task)"
        saves = saves_checkpoints(request.task, settings)
        if request.id in self._interrupted:
            return INTERRUPTED
        if request.id in self.asked and interrupts and (last or not saves):
            self._interrupted.add(request.id)
            reason = preempt(self._preemption(request))
            return f"its end (it was not interrupted: {reason})" if reason else INTERRUPTED
        if last and interrupts:
            return self._end(request)
        if saves:
            return "its next checkpoint"
        return "its end" if interrupts else "its end (this pool cannot interrupt it)"

    def _end(self, request: Any) -> str:
        """The time is over for what may not be left: its process ends, and it begins again elsewhere."""
        token, state_bytes = standing(self._preemption(request))
        queue = self.queue or home_of(self.consumer.app, request)
        if not token or not queue:
            return "its end"
        logger.warning("task %s did not end in time: its process is killed, it runs again", request.id)
        if kill_and_hand_over(self._preemption(request), token, state_bytes) == "moved":
            self._left[request.id] = queue
        return "the end of its process"

    def _preemption(self, request: Any) -> Preemption:
        fence, settings = fence_of(self.consumer.app)
        queue = self.asked.get(request.id) or self.queue or home_of(self.consumer.app, request)
        return Preemption(
            fence=fence,
            consumer=self.consumer,
            request=request,
            move_id=move_id(request.id),
            queue=queue,
            grace_s=settings.preempt_grace,
        )

    def _wish(self, task_id: str, queue: str) -> None:
        key = self._connection.keys.want(task_id)
        with self._connection.client.pipeline(transaction=True) as pipe:
            pipe.delete(key)
            pipe.hset(key, mapping={"move": move_id(task_id), "queue": queue})
            pipe.expire(key, WISH_S)
            pipe.execute()
        self.asked[task_id] = queue

    def _note_left(self, task_id: str) -> None:
        """It runs here no more: it has left where the fence says another generation is free or taken."""
        queue = self.asked.pop(task_id)
        state, owner = self._connection.client.hmget(
            self._connection.keys.fence(task_id), ["state", "owner"]
        )
        if state == b"free" or (state == b"run" and owner != fence_of(self.consumer.app)[0].owner.encode()):
            self._left[task_id] = queue


def move_id(task_id: str) -> str:
    return f"drain-{task_id}"
