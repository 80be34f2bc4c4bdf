"""Empties a worker: it takes nothing new, hands on what waits, lets go what can leave, and ends.

Asked by `celery balancer drain` (the control command here) or by a warm shutdown (the bootstep).
On the event loop; whatever is moved is moved by the fence's scripts, so nothing is dropped when
this process is killed in the middle of it.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, field
from queue import Empty
from typing import Any, ClassVar, Final

from celery import bootsteps
from celery.utils.log import get_logger
from celery.worker import state as worker_state
from celery.worker.control import control_command
from kombu.transport import redis as kombu_redis
from redis.exceptions import RedisError

from balancer.adapters import redis_drain
from balancer.adapters.redis_drain import NAMED, DrainReport, DrainState
from balancer.adapters.redis_handover import RedisHandOver
from balancer.errors import BalancerError
from balancer.routing import direct_queue
from workers import held
from workers.handover import relinquish
from workers.homes import home_of
from workers.lanes import LaneFollower
from workers.let_go import Leaver
from workers.reporter import Reporter
from workers.request import BalancedRequest
from workers.task import fence_of

logger = get_logger(__name__)

#: Channels of kombu that pop with BRPOP.
STOCK: Final = (kombu_redis.Channel, kombu_redis.SentinelChannel)

#: Seconds between steps: a message that was on its way when the worker stopped asking is found soon.
STEP_S: Final = 0.1

#: Steps in a row in which nothing is held, before a worker counts as drained: on the stock transport an
#: outstanding BRPOP may bring one more message for a second.
QUIET_S: Final = 1.2


@dataclass(slots=True, kw_only=True)
class Moved:
    """What was handed on, and what came back to the lanes from the direct queue."""

    tasks: dict[str, str] = field(default_factory=dict)
    count: int = 0
    returned: int = 0

    def note(self, task_id: str, queue: str) -> None:
        self.count += 1
        if len(self.tasks) < NAMED:
            self.tasks[task_id] = queue


class Drain:
    """One draining of this worker, from the command or the signal to its end."""

    current: ClassVar[Drain | None] = None

    def __init__(self, consumer: Any, *, queue: str = "", wait_s: float | None = None, stop: bool = False):
        self.consumer = consumer
        self.stop = stop
        #: What this worker consumed from, by name.
        self.queues: list[str] = []
        self.moved = Moved()
        self.leaver = Leaver(consumer, queue)
        self._until = None if wait_s is None else time.monotonic() + wait_s
        self._quiet_since: float | None = None
        self._said: DrainReport | None = None

    def begin(self) -> None:
        """Ask for nothing any more. The first step follows at once, the others by the timer."""
        Drain.current = self
        self.take_nothing()
        self._step()

    def take_nothing(self) -> None:
        """Ask for no message, and have the fleet be told so from the next report on."""
        show_draining(True)
        consuming = self.consumer.task_consumer
        for name in [queue.name for queue in consuming.queues] if consuming is not None else ():
            if name not in self.queues:
                self.queues.append(name)
            self.consumer.cancel_task_queue(name)

    def _step(self) -> None:
        if Drain.current is not self:
            return
        try:
            self.hand_on()
            running = self.leaver.let_go(last=self._late())
            self._tell(self._state(running), running)
        except (RedisError, BalancerError, OSError) as error:
            logger.warning("draining goes on in a moment: %s", error)
        self.consumer.timer.call_after(STEP_S, self._step)

    def hand_on(self) -> None:
        """Everything that waits here goes back to the front of its lane, the last first."""
        for request in reversed(waiting(self.consumer)):
            queue = self.leaver.queue or home_of(self.consumer.app, request)
            if queue and give_up(self.consumer, request, queue):
                self.moved.note(request.id, queue)
        connection = fence_of(self.consumer.app)[0].connection
        own = [direct_queue(self.consumer.hostname)]
        self.moved.returned += RedisHandOver(connection, nobody).return_stranded(own)

    def undo(self) -> None:
        """Take work again."""
        Drain.current = None
        self.leaver.take_back()
        show_draining(False)
        for name in self.queues:
            self.consumer.add_task_queue(name)
        self._tell("undone", {})

    def _late(self) -> bool:
        return self._until is not None and time.monotonic() >= self._until

    def _state(self, running: dict[str, str]) -> DrainState:
        """Where it stands; with the order to stop, once nothing is held or the time is over."""
        now = time.monotonic()
        if running or waiting(self.consumer):
            self._quiet_since = None
        elif self._quiet_since is None:
            self._quiet_since = now
        quiet = self._quiet_since is not None and now - self._quiet_since >= QUIET_S
        if self.stop and (quiet or (self._late() and not self.leaver.leaving())):
            if worker_state.should_stop is None:
                logger.info("this worker is drained and stops")
                worker_state.should_stop = 0
            return "stopping"
        return "drained" if quiet else "draining"

    def _tell(self, state: DrainState, running: dict[str, str]) -> None:
        """Write the report when it changed."""
        moved = {**self.moved.tasks, **self.leaver.moved()}
        report = DrainReport(
            worker=self.consumer.hostname,
            state=state,
            moved=moved,
            moved_count=self.moved.count + len(self.leaver.moved()),
            returned=self.moved.returned,
            running=running,
            waiting=len(waiting(self.consumer)),
        )
        if report != self._said:
            self._said = report
            redis_drain.write(fence_of(self.consumer.app)[0].connection, report)

    def ended(self) -> None:
        """The worker ends: tell what became of everything."""
        try:
            self._tell("stopped", {})
        except (RedisError, BalancerError, OSError) as error:
            logger.warning("what was drained could not be told: %s", error)


class HandOn(bootsteps.StartStopStep):  # type: ignore[misc]
    """A worker that is told to stop hands on what waits before its pool ends what runs."""

    requires = (Reporter, "celery.worker.consumer.tasks:Tasks")

    def __init__(self, consumer: Any, **options: Any) -> None:
        super().__init__(consumer, **options)
        # Before Celery's own: there it forgets what it had reserved. A lost connection comes another way.
        forget = consumer.blueprint.on_close

        def on_close() -> None:
            hand_on_warmly(consumer)
            forget()

        consumer.blueprint.on_close = on_close

    def start(self, consumer: Any) -> None:
        """A new connection: a draining worker goes on asking for nothing."""
        if Drain.current is not None:
            Drain.current.take_nothing()

    def stop(self, consumer: Any) -> None:
        """A lost connection, or the end: what there is to do was done."""

    def shutdown(self, consumer: Any) -> None:
        if Drain.current is not None and ends_warmly():
            Drain.current.ended()


@control_command(
    args=[("wait_s", float), ("stop", bool), ("queue", str), ("undo", bool)],
    signature="[wait_s=600] [stop=1] [queue=] [undo=0]",
)  # type: ignore[untyped-decorator]
def balancer_drain(
    state: Any, wait_s: float = 600.0, stop: bool = True, queue: str = "", undo: bool = False, **_: Any
) -> dict[str, str]:
    """Hand on everything, let running tasks leave or end, then stop; or take work again."""
    if undo:
        if Drain.current is None:
            return {"error": "it does not drain"}
        Drain.current.undo()
        return {"ok": "takes work again"}
    drain = Drain(state.consumer, queue=queue, wait_s=max(0.0, float(wait_s)), stop=bool(stop))
    if Drain.current is not None:
        # Asked again, with another limit or another queue.
        Drain.current.leaver.take_back()
        drain.queues, drain.moved = Drain.current.queues, Drain.current.moved
    drain.begin()
    return {"ok": "draining"}


def hand_on_warmly(consumer: Any) -> None:
    """What a warm stop begins with; a cold one gives everything back by itself."""
    if not ends_warmly() or not fence_of(consumer.app)[1].drain_on_stop:
        return
    drain = Drain.current or Drain(consumer)
    Drain.current = drain
    try:
        drain.take_nothing()
        drain.leaver.ask_to_leave()
        end_pop(consumer)
        drain.hand_on()
    except (RedisError, BalancerError, OSError) as error:
        logger.warning("what waits goes back as the connection closes: %s", error)


def ends_warmly() -> bool:
    """Whether this worker was told to stop, and not to stop at once. The exit code 0 is an order, too."""
    stop, terminate = worker_state.should_stop, worker_state.should_terminate
    return stop is not None and stop is not False and (terminate is None or terminate is False)


def end_pop(consumer: Any) -> None:
    """Read what a stock pop that is under way still brings, a second at most: it goes back to its queue.

    It would else take the first message that is handed on, and nobody would read it until the pool has
    ended. The balanced transport pops in a script, so nothing is under way.
    """
    channel: Any = getattr(consumer.task_consumer, "channel", None)
    if type(channel) in STOCK and channel._in_poll:
        with suppress(Empty):
            channel._brpop_read()


def show_draining(draining: bool) -> None:
    """What the fleet is told from the next report on; the order of lanes is empty from now on."""
    if LaneFollower.current is not None:
        LaneFollower.current.view.draining = draining


def waiting(consumer: Any) -> list[Any]:
    """What this worker holds and has not begun, the first to run first."""
    return [r for r in held.requests(consumer)[1] if not getattr(r, "handed_over", False) and not put_back(r)]


def put_back(request: Any) -> bool:
    """Whether a request of a task that is not ours went back to its queue."""
    return not isinstance(request, BalancedRequest) and request._already_revoked


def give_up(consumer: Any, request: Any, queue: str) -> bool:
    """Hand one waiting request on; `False` when it stays (its body begins, or another has it)."""
    if isinstance(request, BalancedRequest):
        return not relinquish(consumer, request, f"drain-{request.id}", queue)
    if request.acknowledged or request.time_start:
        return False
    # Plain Celery's: it goes back as a rejected one does, and is not run here.
    request._already_revoked = True
    request.reject(requeue=True)
    worker_state.task_ready(request)
    return True


def nobody(worker: str, arguments: dict[str, Any]) -> None:
    """A hand-over that sends no commands: this worker moves its own tasks itself."""
    raise BalancerError(f"no command is sent to {worker} by a worker")
