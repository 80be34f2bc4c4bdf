"""Makes moves happen: queued messages by Lua, reserved ones by a command, running ones by a wish
and, where they are to be interrupted, a command that points at it.

Implements `ports.HandOver`. What moves here at once moves inside one script, so that a message
is always in exactly one list; a priority list's messages go to the same priority list of the
target. Answers of workers come back as events.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from redis.exceptions import RedisError

from balancer.adapters.asides import Asides, aside
from balancer.adapters.documents import read_lane
from balancer.adapters.message_head import END_BYTES, Head, read_head
from balancer.adapters.pace import Pace
from balancer.adapters.redis_connection import Connection
from balancer.adapters.scripts import Script
from balancer.errors import StoreError
from balancer.model import Move, SetAside
from balancer.routing import is_lane

#: Messages of each list that are searched for one with a certain id, from the one served next.
SEARCHED: Final = 2_000

#: Of these, read at once.
PAGE: Final = 250

#: Sends a command to one worker: its name and the arguments (`balancer_relinquish`, `balancer_preempt`).
Control = Callable[[str, dict[str, Any]], None]


class RedisHandOver:
    """`ports.HandOver` over Redis and a worker's remote control."""

    def __init__(self, connection: Connection, control: Control, preempt: Control | None = None) -> None:
        self._connection = connection
        self._control = control
        self._preempt = preempt
        self._asides = Asides()
        self._pace = Pace(size=100, low=20, high=2_000)

    def request(self, move: Move, timeout_s: float) -> int:
        """Ask for one move; returns how many messages moved at once. Raises `StoreError`."""
        try:
            self._note_target(move.target_queue)
            if move.kind == "queued":
                return self._move_one(move) if move.task_id else self._move_many(move)
            if move.kind == "running":
                self._want(move, timeout_s)
                if move.preempt and self._preempt is not None:
                    self._command(move, self._preempt)
            else:
                self._command(move, self._control)
        except (RedisError, OSError) as error:
            raise StoreError(f"move {move.move_id} could not be asked for: {error}") from error
        return 0

    def cancel(self, move: Move) -> None:
        """Take the wish for a running task back.

        A command that was sent cannot be unsaid: the fence judges it. Raises `StoreError`.
        """
        if move.kind != "running":
            return
        try:
            self._connection.script("cancel_want")([self._connection.keys.want(move.task_id)], [move.move_id])
        except (RedisError, OSError) as error:
            raise StoreError(f"move {move.move_id} could not be cancelled: {error}") from error

    def return_stranded(self, queues: Sequence[str]) -> int:
        """Send what waits in `queues`, which nobody serves any more, to the front of the queues that it was
        published to: lanes, or the operator's own.

        Lanes themselves are left alone. A message of no known lane stays, and is set aside in the list.
        """
        try:
            lanes = self._lanes_by_profile()
            stays: list[SetAside] = []
            moved = 0
            for queue in queues:
                if not is_lane(queue):
                    for place, source in enumerate(self._connection.keys.queue_lists(queue)):
                        moved += self._return_list(queue, source, place, lanes, stays)
            seconds, _ = self._connection.client.time()
            self._asides.tell(self._connection.client, self._connection.keys, stays, float(seconds))
        except (RedisError, OSError) as error:
            raise StoreError(f"stranded messages could not be returned: {error}") from error
        return moved

    def _note_target(self, queue: str) -> None:
        """So that looks at the fleet see a direct queue that is about to fill."""
        if not is_lane(queue):
            self._connection.script("note_routed")([self._connection.keys.routed], [queue])

    def _want(self, move: Move, timeout_s: float) -> None:
        key = self._connection.keys.want(move.task_id)
        with self._connection.client.pipeline(transaction=True) as pipe:
            pipe.delete(key)
            pipe.hset(key, mapping={"move": move.move_id, "queue": move.target_queue})
            pipe.pexpire(key, max(1, round(timeout_s * 1000)))
            pipe.execute()

    def _command(self, move: Move, control: Control) -> None:
        arguments = {"move_id": move.move_id, "task_id": move.task_id, "queue": move.target_queue}
        try:
            control(move.source, arguments)
        except Exception as error:  # whatever the broker's client raises: the move was not asked for
            raise StoreError(f"worker {move.source} could not be told: {error}") from error

    def _move_many(self, move: Move) -> int:
        """Move `move.count` messages, those served last, each priority list to its own.

        Their order is kept; only behind messages that wait in the target it is kept batch by batch.
        """
        if move.source == move.target_queue:
            return 0
        script, keys = self._connection.script("move_queued"), self._connection.keys
        lists = list(zip(keys.queue_lists(move.source), keys.queue_lists(move.target_queue), strict=True))
        moved = 0
        for source, target in reversed(lists):
            place = "auto"
            while moved < move.count:
                left = move.count - moved
                asked = min(self._pace.size, left)
                count, where = self._timed(asked, script, [source, target],
                                           [asked, place, keys.ours(""), keys.sep, left])
                place = where.decode()
                moved += count
                if count < asked:
                    break
        return moved

    def _move_one(self, move: Move) -> int:
        """Move the message of `move.task_id`, if it is still among the next ones of its queue."""
        if move.source == move.target_queue:
            return 0
        script, keys = self._connection.script("move_chosen"), self._connection.keys
        for source, target in zip(keys.queue_lists(move.source), keys.queue_lists(move.target_queue),
                                  strict=True):
            for raw in self._next_messages(source):
                if _is_of(raw, move.task_id):
                    return int(script([source, target], ["back", -1, keys.ours(""), keys.sep, raw]))
        return 0

    def _next_messages(self, key: str) -> Iterator[bytes]:
        """Messages of a list from the one served next, `SEARCHED` at most."""
        for begin in range(0, SEARCHED, PAGE):
            page = self._connection.client.lrange(key, -begin - PAGE, -begin - 1)
            yield from reversed(page)
            if len(page) < PAGE:
                return

    def _return_list(self, queue: str, source: str, place: int, lanes: Mapping[str, str],
                     stays: list[SetAside]) -> int:
        """Empty one list of `queue`, from the message served last, so that the order is kept."""
        script, keys = self._connection.script("move_chosen"), self._connection.keys
        moved = left = 0
        waiting = self._connection.client.llen(source)
        while moved + left < waiting:
            messages = self._connection.client.lrange(source, left, left + self._pace.size - 1)
            chosen, targets = [], []
            for raw in messages:
                head = _head(raw)
                lane = (head.home or lanes.get(head.profile)) if head else None
                if lane is None:
                    stays.append(aside(f"queue {queue}", "a message of no known lane stays", raw))
                    left += 1
                else:
                    chosen.append(raw)
                    targets.append(keys.queue_lists(lane)[place])
            if chosen:
                moved += self._timed(len(chosen), script, [source, *targets],
                                     ["front", 1, keys.ours(""), keys.sep, *chosen])
            waiting = waiting if messages else 0
        return moved

    def _lanes_by_profile(self) -> dict[str, str]:
        lanes: dict[str, str] = {}
        for queue, raw in self._connection.client.hgetall(self._connection.keys.lanes).items():
            try:
                lanes[read_lane(raw).profile] = queue.decode()
            except (StoreError, UnicodeDecodeError):
                continue  # a look at the fleet sets it aside
        return lanes

    def _timed(self, asked: int, script: Script, keys: Sequence[str], args: Sequence[Any]) -> Any:
        """Run a script and size the next batch by the time it took."""
        began = time.perf_counter()
        answer = script(keys, args)
        self._pace.record(asked, time.perf_counter() - began)
        return answer


def _head(raw: bytes) -> Head | None:
    return read_head(raw[-END_BYTES:]) or read_head(raw)


def _is_of(raw: bytes, task_id: str) -> bool:
    if task_id.encode() not in raw:
        return False
    head = _head(raw)
    return head is not None and head.task_id == task_id
