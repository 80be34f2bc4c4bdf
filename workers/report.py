"""The thread in which a worker reports: sample, hold, renew, and learn of new lanes.

A native thread beside the event loop, so that a worker whose loop is busy still reports, and one
whose loop hangs can say so. Whatever fails here is logged and tried again; the worker goes on.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from celery.utils.log import get_logger
from redis.exceptions import RedisError

from balancer import unsignalled
from balancer.adapters import beat, documents, redis_beats
from balancer.adapters.redis_connection import Connection
from balancer.errors import BalancerError
from balancer.model import HeldTask, TaskProfile
from workers import held, lease
from workers.lanes import LaneFollower
from workers.pulse import Pulse

logger = get_logger(__name__)

#: An event loop that has not turned for this long is called hung (s).
HUNG_S: Final = 5.0

#: Every so many reports what hardly changes is sent again: Redis may have lost it, and somebody may have told
#: the worker to serve another queue (`add_consumer`).
AGAIN: Final = 10


#: Seconds between two reads of the lane table, and from a report to the next, at least.
LEAST_S: Final = 0.05

#: Later than any report.
WHENEVER: Final = 1e15


@dataclass(frozen=True, slots=True, kw_only=True)
class Listeners:
    """Who hears, in the report's thread, which lanes this worker can serve and what a report was told;
    and what it asks."""

    lanes: Callable[[list[str]], None]
    told: Callable[[redis_beats.Told], None]
    #: Which of the held deliveries are renewed now, of this count of reports.
    renewed: Callable[[list[str], int], list[str]]
    #: A report older than this is one of the dead (s).
    ttl_s: float


class Report:
    """Reports one worker each `interval_s`."""

    def __init__(
        self,
        *,
        follower: LaneFollower,
        describe: Callable[[], str],
        instance: str,
        sampler: Any,
        consumer: Any,
        interval_s: float,
        listeners: Listeners,
    ) -> None:
        self.follower = follower
        self.describe = describe
        self.instance = instance
        self.consumer = consumer
        self.listeners = listeners
        self._sampler = sampler
        self._memory = Memory()
        self._thread = threading.Thread(
            target=self._loop, args=(interval_s,), name="balancer-report", daemon=True
        )

    @property
    def connection(self) -> Connection:
        return self.follower.connection

    def start(self) -> None:
        if not self._thread.is_alive():
            unsignalled.start(self._thread)

    def stop(self) -> None:
        """End the thread and take this worker off the fleet's list."""
        self._memory.stop.set()
        self.follower.view.stale.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5)
        keys, worker = self.connection.keys, self.follower.worker
        try:
            # Its successor of the same name may have come already: only what is still ours goes.
            self.connection.script("forget_workers")(
                [keys.alive, keys.workers, keys.beats, keys.holds, keys.board, keys.places, keys.places_free],
                [WHENEVER, keys.held(""), worker, self.instance, self._memory.description],
            )
        except (RedisError, BalancerError, OSError) as error:
            logger.warning("this worker's report is left to lapse: %s", error)

    def _loop(self, interval_s: float) -> None:
        stale, due = self.follower.view.stale, float("-inf")
        while not self._memory.stop.is_set():
            now = time.monotonic()
            whole = now >= due
            stale.clear()
            try:
                if whole:
                    self.once()
                else:
                    self.read_lanes()
                self._memory.told = ""
            except Exception as error:
                # Once for each kind of trouble: a worker must not fill its log while Redis is away.
                if self._memory.told != type(error).__name__:
                    self._memory.told = type(error).__name__
                    logger.warning("the report failed and is tried again each second", exc_info=True)
            if whole:
                due = max(now + interval_s, time.monotonic() + LEAST_S)
            # A lane that is new is served at once, and lanes that are entered one by one a few at a time.
            if not self._memory.stop.wait(LEAST_S):
                stale.wait(max(0.0, due - time.monotonic()))

    def once(self) -> None:
        """One report, in three round trips at most."""
        memory = self._memory
        memory.count += 1
        self.read_lanes()
        running, reserved = held.tasks(self.connection, self.consumer, memory.clock.now())
        health = self._health()
        reading = self._sampler.sample()
        self.follower.view.reading = reading
        self.follower.view.health = health
        holds = documents.holds_document(running=running, reserved=reserved, health=health)
        again = memory.count % AGAIN == 1
        if again:
            memory.description = self.describe()
        ticks = Pulse.current.ticks if Pulse.current is not None else 0
        sent_at = lease.now()
        told = redis_beats.publish(
            self.connection.client,
            self.connection.keys,
            name=self.follower.worker,
            instance=self.instance,
            beat=beat.pack(reading, busy=len(running), loop_ticks=ticks, at=time.time()),
            description=memory.description if again else None,
            holds=holds if again or holds != memory.holds else None,
            renew=self.listeners.renewed(held.deliveries(self.consumer), memory.count),
            now=time.time(),
            ttl_s=self.listeners.ttl_s,
        )
        lease.beat(sent_at)
        memory.clock = ServerClock(at=told.at)
        memory.holds, memory.tasks = holds, (running, reserved)
        self.listeners.told(told)

    def held(self) -> tuple[list[HeldTask], list[HeldTask]]:
        """What the last report said is running and reserved."""
        return self._memory.tasks

    def read_lanes(self) -> None:
        """The lane table, when it changed; an entry that cannot be read is left out and logged."""
        connection, memory, view = self.connection, self._memory, self.follower.view
        revision = connection.client.get(connection.keys.lanes_revision)
        if (revision or b"") == view.revision and memory.count % AGAIN:
            return
        lanes: dict[str, TaskProfile] = {}
        for queue, raw in connection.client.hgetall(connection.keys.lanes).items():
            try:
                lanes[queue.decode()] = documents.read_lane(raw).task_profile()
            except (BalancerError, UnicodeDecodeError) as error:
                logger.warning("lane %r is left out: %s", queue, error)
        view.revision, view.lanes = revision or b"", lanes
        self.listeners.lanes(self.follower.servable())

    def _health(self) -> str:
        if self.follower.view.draining:
            return "draining"
        if Pulse.current is None:
            return self.follower.view.health
        return self._memory.watch.health(Pulse.current.ticks, self.consumer)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerClock:
    """The server's clock, from its last answer."""

    at: float = field(default_factory=time.time)
    seen: float = field(default_factory=time.monotonic)

    def now(self) -> float:
        return self.at + time.monotonic() - self.seen


@dataclass(slots=True, kw_only=True)
class LoopWatch:
    """Whether the event loop turns."""

    ticks: int = -1
    turned: float = field(default_factory=time.monotonic)

    def health(self, ticks: int, consumer: Any) -> str:
        """ "degraded" when the loop hangs; a solo pool's loop stands still while a task runs."""
        if ticks != self.ticks or type(consumer.pool).__module__.endswith("solo"):
            self.ticks, self.turned = ticks, time.monotonic()
        return "degraded" if time.monotonic() - self.turned > HUNG_S else "ok"


class Memory:
    """What one report remembers for the next."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        self.count, self.told, self.holds, self.description = 0, "", "", ""
        self.tasks: tuple[list[HeldTask], list[HeldTask]] = ([], [])
        self.clock = ServerClock()
        self.watch = LoopWatch()
