"""The fleet in Redis: one snapshot a look, events, orders, and what the balancer remembers.

Implements `ports.FleetStore`. A look is four or five round trips whatever the size of the
fleet. Nothing that another process wrote raises here: it is set aside with a reason, in the
snapshot and in the list `asides`; only a Redis that does not answer is a `StoreError`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any, Final

from redis.exceptions import RedisError, ResponseError

from balancer.adapters import asides, redis_lanes
from balancer.adapters.asides import Asides, aside
from balancer.adapters.documents import read_event
from balancer.adapters.order_text import OrderWriter
from balancer.adapters.redis_connection import Connection
from balancer.adapters.redis_lanes import LaneReader, LaneTable
from balancer.adapters.redis_memory import MemoryKeeper
from balancer.adapters.redis_queues import Backlog, Heads, QueueWatch
from balancer.adapters.redis_workers import FORGET_AFTER, Reports, Roster, WorkerRegister
from balancer.errors import StoreError
from balancer.model import Event, Fleet, Order, SetAside
from balancer.routing import PREFIX

#: A queue something was routed to is looked at for this long after (s), and while it is not empty.
ROUTED_S: Final = 3_600.0

_CURSOR: Final = re.compile(r"\d{1,20}-\d{1,20}")


class RedisFleetStore:
    """`ports.FleetStore` over Redis. `heartbeat_ttl_s` is the age limit of a worker's report."""

    def __init__(self, connection: Connection, *, heartbeat_ttl_s: float = 10.0) -> None:
        self._connection = connection
        self._forget_s = FORGET_AFTER * heartbeat_ttl_s
        self._register = WorkerRegister(heartbeat_ttl_s)
        self._lanes = LaneReader()
        self._queues = QueueWatch()
        self._asides = Asides()
        self._memory = MemoryKeeper(connection)
        #: Set aside outside a look (events, memory, orders); the next look reports it.
        self._since: list[SetAside] = []

    def observe(self) -> Fleet:
        """One snapshot. Raises `StoreError` when Redis does not answer."""
        with _answering("observe the fleet"):
            return self._look()

    def _look(self) -> Fleet:
        now, board, counts, lane_hash, routed, broken = self._read_shared()
        roster = self._register.glance(now, board, counts, self._read_holds)
        if roster is None:
            reports, more = self._read_reports()
            now, broken = reports.now, [*more, *broken]
            roster = self._register.read(reports)
        table = self._lanes.read(lane_hash)
        backlog = self._measure(roster, table, routed)
        heads, unread = self._heads(table, backlog, now)
        set_aside = (*broken, *roster.set_aside, *table.set_aside, *backlog.set_aside, *unread)
        self._asides.tell(self._connection.client, self._connection.keys, set_aside, now)
        set_aside, self._since = (*set_aside, *self._since), []
        self._tidy(now, roster, table, backlog, routed)
        known = {queue: [h for messages in lists for h in messages if h] for queue, lists in heads.items()}
        return Fleet(
            at=now,
            workers=roster.workers,
            lanes=tuple(
                redis_lanes.make_lane(queue, profile, backlog.waiting.get(queue, 0), known.get(queue, ()),
                                      self._queues.age(heads.get(queue, ()), now), now)
                for queue, profile in sorted(table.profiles.items())
            ),
            queues=MappingProxyType({q: n for q, n in backlog.waiting.items() if q not in table.entries}),
            queued=self._lanes.queued(known, table),
            silent=roster.silent,
            set_aside=set_aside,
        )

    def _measure(self, roster: Roster, table: LaneTable, routed: Sequence[str]) -> Backlog:
        """The lengths of all queues that matter; of direct queues those that may hold something."""
        queues = [*table.entries, *self._queues.choose(roster.described), *routed]
        return self._queues.measure(self._connection.client, self._connection.keys, queues)

    def _heads(self, table: LaneTable, backlog: Backlog, now: float) -> tuple[Heads, list[SetAside]]:
        """What is served next in the lanes and in our other queues."""
        ours = [q for q in backlog.waiting if q in table.entries or q.startswith(f"{PREFIX}.")]
        heads = self._queues.heads(self._connection.client, ours, backlog)
        self._queues.remember((h for lists in heads.values() for ends in lists for h in ends if h), now)
        unread = [aside(f"queue {queue}", "a message is not of Celery's protocol 2")
                  for queue, lists in heads.items() if any(None in messages for messages in lists)]
        return heads, unread

    def _read_shared(self) -> tuple[float, bytes | None, tuple[int, ...], dict[bytes, bytes], list[str],
                                    list[SetAside]]:
        """The server's clock, the board with how many should be on it, lanes, and queues routed to."""
        keys = self._connection.keys
        with self._connection.client.pipeline(transaction=False) as pipe:
            pipe.time()
            pipe.get(keys.board)
            pipe.hlen(keys.workers)
            pipe.hlen(keys.beats)
            pipe.zcard(keys.alive)
            pipe.zcount(keys.alive, self._register.horizon, "+inf")
            pipe.hgetall(keys.lanes)
            pipe.zrange(keys.routed, 0, -1, withscores=True)
            (seconds, micros), board, *counts, lanes, routed = pipe.execute(raise_on_error=False)
        named = {keys.board: board, keys.lanes: lanes, keys.routed: routed}
        broken = _of_another_type(named, *counts)
        right = not any(isinstance(count, Exception) for count in counts)
        return (seconds + micros / 1e6, named[keys.board] or None, tuple(counts) if right else (),
                named[keys.lanes], [q.decode("utf-8", "replace") for q in dict(named[keys.routed])], broken)

    def _read_reports(self) -> tuple[Reports, list[SetAside]]:
        """Every table of the workers, at one moment; a key of another type counts as empty."""
        keys = self._connection.keys
        tables = (keys.workers, keys.beats, keys.holds, keys.places)
        with self._connection.client.pipeline(transaction=True) as pipe:
            pipe.time()
            pipe.get(keys.board)
            pipe.zrange(keys.alive, 0, -1, withscores=True)
            for key in tables:
                pipe.hgetall(key)
            (seconds, micros), board, alive, *hashes = pipe.execute(raise_on_error=False)
        named = {keys.board: board, keys.alive: alive, **dict(zip(tables, hashes, strict=True))}
        broken = _of_another_type(named)
        return Reports(
            now=seconds + micros / 1e6, alive=dict(named[keys.alive]), descriptions=named[keys.workers],
            beats=named[keys.beats], holds=named[keys.holds], board=named[keys.board] or None,
            places=named[keys.places],
        ), [one for one in broken if one.source != f"key {keys.board}"]

    def _read_holds(self, names: list[bytes]) -> list[bytes | None]:
        """What the named workers hold, `None` where nothing is told."""
        lengths, text = self._connection.script("holdings")([self._connection.keys.holds], names)
        found: list[bytes | None] = []
        end = 0
        for length in map(int, lengths.split(b",")):
            start, end = end, end + max(0, length)
            found.append(None if length < 0 else text[start:end])
        return found

    def _tidy(self, now: float, roster: Roster, table: LaneTable, backlog: Backlog,
              routed: Sequence[str]) -> None:
        """Forget workers long gone, lanes nobody uses, queues that nothing was routed to for long."""
        client, keys = self._connection.client, self._connection.keys
        if roster.gone:
            self._connection.script("forget_workers")(
                [keys.alive, keys.workers, keys.beats, keys.holds, keys.board, keys.places, keys.places_free],
                [repr(now - self._forget_s), keys.held(""),
                 *(part for gone in roster.gone for part in gone)],
            )
        redis_lanes.forget(client, keys, table, table.unused(now, backlog.waiting))
        if routed:
            occupied = {queue: now for queue in routed if backlog.waiting.get(queue)}
            if occupied:
                client.zadd(keys.routed, occupied, xx=True)
            client.zremrangebyscore(keys.routed, "-inf", now - ROUTED_S)

    def events(self, after: str, limit: int = 10_000, until: str = "") -> tuple[str, list[Event]]:
        """Events after the cursor and up to `until`, oldest first, and the new cursor; what cannot be read is
        passed over."""
        client, keys = self._connection.client, self._connection.keys
        start, broken = f"({after}" if after else "-", list[SetAside]()
        if after and not _CURSOR.fullmatch(after):
            broken.append(aside("events", "a cursor that is none: reading from the oldest", after))
            start, after = "-", ""
        with _answering("read events"):
            try:
                entries = client.xrange(keys.events, min=start, max=until or "+", count=limit)
            except ResponseError as error:
                entries = []
                broken.append(aside(f"key {keys.events}", f"unreadable: {error}"))
            found: list[Event] = []
            for ident, fields in entries:
                after = ident.decode()
                try:
                    found.append(read_event(fields.get(b"e", b""), int(after.split("-")[0]) / 1000))
                except StoreError as error:
                    broken.append(aside(f"event {after}", str(error), fields.get(b"e", b"")))
            if broken:
                self._set_aside(broken[: asides.KEPT])
        return after, found

    def publish_orders(self, orders: Sequence[Order], ttl_s: float) -> None:
        """Write each class's order, to be followed for `ttl_s`; one with a NaN in it is set aside."""
        client, keys = self._connection.client, self._connection.keys
        writer, broken = OrderWriter(), list[SetAside]()
        with _answering("publish orders"), client.pipeline(transaction=False) as pipe:
            for order in orders:
                try:
                    document = writer.document(order)
                except StoreError as error:
                    broken.append(aside(f"order of {order.hardware_class}", str(error)))
                else:
                    pipe.set(keys.order(order.hardware_class), document, px=max(1, round(ttl_s * 1000)))
            pipe.execute()
            if broken:
                self._set_aside(broken)

    def load_memory(self) -> Mapping[str, Any] | None:
        """The last document; one that cannot be read is copied to the asides and removed."""
        with _answering("load the memory"):
            return self._memory.load(self._set_aside)

    def save_memory(self, document: Mapping[str, Any], fence: int, *, since: bool = False) -> bool:
        """Keep `document` under `fence`, with `since` beside the whole one, until that is written anew;
        `False` when another has taken the lease since, whether or not it has written yet."""
        with _answering("save the memory"):
            return (self._memory.save_since if since else self._memory.save)(document, fence)

    def _set_aside(self, found: Sequence[SetAside]) -> None:
        asides.push(self._connection.client, self._connection.keys, found, self._now())
        self._since = [*self._since, *found][-asides.KEPT :]

    def _now(self) -> float:
        seconds, micros = self._connection.client.time()
        return float(seconds + micros / 1e6)


def _of_another_type(named: dict[str, Any], *more: Any) -> list[SetAside]:
    """What is set aside of these answers, whose places are left empty; raises what is no fault of a key."""
    broken = []
    for key, answer in named.items():
        if isinstance(answer, ResponseError):
            broken.append(aside(f"key {key}", f"of another type: {answer}"))
            named[key] = {}
    for answer in (*named.values(), *more):
        if isinstance(answer, Exception) and not isinstance(answer, ResponseError):
            raise answer
    return broken


@contextmanager
def _answering(what: str) -> Iterator[None]:
    """Errors of redis-py as `StoreError`."""
    try:
        yield
    except (RedisError, OSError) as error:
        raise StoreError(f"cannot {what}: {error}") from error
