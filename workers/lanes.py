"""Which queues a worker asks for next: its own, then the lanes in the order of its class.

`LaneCycle` is the `queue_order_strategy` of the worker's broker connection; kombu calls
`consume` before each pop. The balancer's order says what is worth most here; this worker reads
the backlog itself, refuses what another class would finish sooner, and strikes out what it
cannot run now. Without a balancer it serves every lane it can.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from celery.utils.log import get_logger
from kombu.utils.scheduling import round_robin_cycle
from redis.exceptions import RedisError

from balancer.adapters.documents import read_order
from balancer.adapters.redis_connection import Connection
from balancer.decide.pull import TYPICAL, ranked
from balancer.errors import BalancerError
from balancer.model import Hardware, Order, Reading, TaskProfile
from balancer.routing import can_run, class_queue, direct_queue, is_lane, strike_reason
from workers import held
from workers.device import shared_device

logger = get_logger(__name__)


@dataclass(slots=True, kw_only=True)
class View:
    """What the worker knows of the fleet and of itself: written by the reporter's thread, read at each pop.

    `revision` is the lane table's that `lanes` were read at; `stale` is set when a look saw another one.
    """

    lanes: dict[str, TaskProfile] = field(default_factory=dict)
    revision: bytes = b"none read"
    stale: threading.Event = field(default_factory=threading.Event)
    reading: Reading = field(default_factory=Reading)
    health: str = "ok"
    draining: bool = False
    slots: int = 1


#: A look at the lanes is good for so long (s): under load a worker pops a thousand times a second, and
#: an order that rests on what waited a moment ago is only a moment old.
LOOK_S: Final = 0.05


@dataclass(slots=True, kw_only=True)
class Look:
    """What a worker last saw of the lanes, and the lanes in order that followed from it."""

    at: float = float("-inf")
    order: bytes = b""
    waiting: dict[str, int] = field(default_factory=dict)
    heads: dict[str, float | None] = field(default_factory=dict)
    #: What `ordered` was made from, beside the look itself.
    made_of: tuple[frozenset[str], Any, Any, tuple[str, ...]] | None = None
    ordered: list[str] = field(default_factory=list)
    #: Whether the last arrangement rests on an earlier look.
    reused: bool = False


class LaneFollower:
    """Puts the queues of one worker in order, by one round trip to Redis every so often."""

    current: LaneFollower | None = None

    def __init__(self, connection: Connection, hardware: Hardware, worker: str,
                 held_profiles: Callable[[], list[str]] = held.profiles) -> None:
        self.connection = connection
        self.hardware = hardware
        self.worker = worker
        self.held_profiles = held_profiles
        self.view = View()
        self.order: Order | None = None
        self.served_other_last = False
        self.seen = Look()

    def own_queues(self) -> tuple[str, str]:
        """The direct queue of this worker and the queue of its class; both come before any lane."""
        return direct_queue(self.worker), class_queue(self.hardware.hardware_class)

    def servable(self) -> list[str]:
        """Lanes that this hardware can run at all, whatever the order says."""
        return [
            queue
            for queue, lane in self.view.lanes.items()
            if can_run(self.hardware, lane.needs, worker=self.worker)
        ]

    def arrange(self, active: list[str]) -> list[str]:
        """The queues to ask for, first first, out of those this worker consumes from."""
        own = [queue for queue in self.own_queues() if queue in active]
        lanes = [queue for queue in active if is_lane(queue)]
        other = [queue for queue in active if queue not in own and not is_lane(queue)]
        if self.view.draining:
            return []
        ordered = self._ordered(lanes)
        # Queues that are not ours and lanes take turns, so that neither starves the other.
        rest = [*ordered, *other] if self.served_other_last else [*other, *ordered]
        return [*own, *rest]

    def served(self, queue: str) -> None:
        """A message came from `queue`."""
        self.served_other_last = not is_lane(queue) and queue not in self.own_queues()

    def look_again(self) -> None:
        """What was seen is not good any more: nothing was there, or somebody rang."""
        self.seen.at = float("-inf")

    def _ordered(self, lanes: list[str]) -> list[str]:
        made_of = frozenset(lanes), self.view.reading, self.view.lanes, self._holding()
        self.seen.reused = time.monotonic() - self.seen.at < LOOK_S and self.seen.made_of == made_of
        if not self.seen.reused:
            able = [queue for queue in lanes if self._may_serve(queue)]
            try:
                self._look()
            except (RedisError, BalancerError) as error:
                logger.warning("the order of lanes could not be read: %s", error)
                return able
            self.seen.made_of, self.seen.ordered = made_of, self._judged(able, made_of[-1])
        return self.seen.ordered

    def _holding(self) -> tuple[str, ...]:
        """The profiles that this worker holds, where its slots share a device or it is to try something."""
        shared = self.view.slots > 1 and self.hardware.gpu_memory_bytes
        tries = self.order is not None and self.worker in self.order.first_runs
        return tuple(self.held_profiles()) if shared or tries else ()

    def _judged(self, able: list[str], holding: tuple[str, ...]) -> list[str]:
        """The lanes this worker may serve now, best first, by the last look."""
        waiting, heads = self.seen.waiting, self.seen.heads
        coming = self.order.coming.get(self.worker, 0) if self.order is not None else 0
        device = shared_device(self.hardware, self.view.reading, self.view.slots, self.view.lanes, holding,
                               coming)
        if device is not None:
            able = [queue for queue in able if device.holds(queue)]
        if self.order is None:
            return sorted(able, key=lambda queue: heads.get(queue) or float("inf"))
        now = time.time()
        oldest = {queue: now - at for queue, at in heads.items() if at is not None}
        speed = self.order.speeds.get(self.worker, 1.0)
        first = self.order.first_runs.get(self.worker)
        if first not in self.view.lanes or self.view.lanes[first].name in holding:
            first = None  # one of its kind is enough
        special = self.order.special.get(self.worker, TYPICAL)
        chosen = [q for q in ranked(self.order, waiting, oldest, speed, device, first, special) if q in able]
        if self.order.exclusive:
            return chosen
        known = {offer.queue for offer in self.order.offers}
        return [*chosen, *(queue for queue in able if queue not in known)]

    def _may_serve(self, queue: str) -> bool:
        lane = self.view.lanes.get(queue)
        return lane is None or strike_reason(self.view.reading, lane.needs) is None

    def _look(self) -> None:
        """See the backlog and the time of the head of every lane of the fleet, and the order as it is now."""
        keys = self.connection.keys
        lanes = list(self.view.lanes)
        steps = [str(step) for step in keys.priority_steps]
        raw, lengths, heads, revision = self.connection.script("backlog")(
            [keys.order(self.hardware.hardware_class), keys.lanes_revision],
            [keys.sep, len(steps), *steps, *(keys.prefix + queue for queue in lanes)],
        )
        if revision != self.view.revision:
            self.view.stale.set()
        if raw != self.seen.order:
            self.order = self._parse(raw) if raw else None
        self.seen.at, self.seen.order = time.monotonic(), raw
        self.seen.waiting = dict(zip(lanes, (int(n) for n in lengths), strict=True))
        self.seen.heads = dict(zip(lanes, (float(at) if at else None for at in heads), strict=True))

    def _parse(self, raw: bytes) -> Order | None:
        try:
            return read_order(raw)
        except BalancerError as error:
            logger.warning(
                "the order of %s cannot be read and is not followed: %s", self.hardware.hardware_class, error
            )
            return None


class LaneCycle:
    """kombu's cycle protocol over the follower of this process; round robin where there is none."""

    def __init__(self, it: Iterable[str] | None = None) -> None:
        self.queues: list[str] = list(it or ())
        self.plain: Any = round_robin_cycle(it)

    def update(self, it: Iterable[str]) -> None:
        self.queues = list(it)
        self.plain.update(self.queues)

    @property
    def reused(self) -> bool:
        """Whether what `consume` said last rests on an earlier look, so that nothing found proves little."""
        return LaneFollower.current is not None and LaneFollower.current.seen.reused

    def look_again(self) -> None:
        if LaneFollower.current is not None:
            LaneFollower.current.look_again()

    def consume(self, n: int) -> list[str]:
        follower = LaneFollower.current
        if follower is None:
            return list(self.plain.consume(n))
        return follower.arrange(self.plain.consume(n))

    def rotate(self, last_used: str) -> None:
        if last_used in self.queues:
            self.plain.rotate(last_used)
        if LaneFollower.current is not None:
            LaneFollower.current.served(last_used)
