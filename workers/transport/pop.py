"""The one command that is under way on a channel's connection: a pop, or a wait for the bell.

A pop is one script, sent on the channel's own connection and read when the answer is there, so that
the event loop never waits for Redis. Where a pop finds nothing, the worker is entered as waiting in
the same step, and its connection blocks on a list of its own until somebody rings, or until it is
time to look again: publishers on the stock transport do not ring.
"""

from __future__ import annotations

import os
import random
import secrets
import time
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from queue import Empty
from typing import Any, Final, Literal

from celery.utils.log import get_logger
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, ReadOnlyError, ResponseError

from balancer.adapters.redis_errors import refused_for_now
from balancer.adapters.redis_fence import RUNNING_TTL_S
from balancer.adapters.scripts import script_text
from workers import lease
from workers.transport.acks import PAUSE_S, Ack
from workers.transport.fleet import Fleet, group_of
from workers.transport.qos import give_back_orphans

logger = get_logger(__name__)

#: Messages of one pop, at most, and where the consumer has no limit.
MOST: Final = 64
UNLIMITED: Final = 16

#: A fleet's waiting workers look about so often together (1/s), and one of them never more and never
#: less often than these (s): a push that rings no bell is found that soon.
LOOKS_A_SECOND: Final = 100.0
SOONEST_S: Final = 0.05
LATEST_S: Final = 1.0

#: A worker whose order refuses every queue judges again after this (s).
REFUSED_S: Final = 0.1

#: How long a channel that closes waits for the answer to its pop (s).
ANSWER_S: Final = 2.0


def period_s(waiting: int, most_s: float = LATEST_S) -> float:
    """How long one of `waiting` workers waits for the bell, so that they do not look all at once (s)."""
    wait_s = min(LATEST_S, max(SOONEST_S, waiting / LOOKS_A_SECOND))
    return min(most_s, wait_s) * random.uniform(0.8, 1.2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """A command that was sent and not answered: "pop" with its KEYS and ARGV, or "ring"."""

    kind: Literal["pop", "ring"]
    queues: tuple[str, ...] = ()
    group: str = ""
    acks: tuple[Ack, ...] = ()
    arguments: tuple[Any, ...] = ()
    #: How often this worker's lease had lapsed when it asked: what it claims now is noted with this.
    lapses: int = -1


class Popping:
    """What happens on one channel's connection; all of it on the consuming thread."""

    def __init__(self, channel: Any, fleet: Fleet) -> None:
        self.channel = channel
        self.fleet = fleet
        #: The process whose connection it is (its id): a fork has but a copy.
        self.process = os.getpid()
        self.sent: Sent | None = None
        #: The group this consumer is entered in as waiting, "" none.
        self.group = ""
        self.rest_until = 0.0
        #: Whether an answer may have been lost: what it brought is held by us, and unknown here.
        self.lost = bool(fleet.instance)

    def start(self) -> None:
        """Send the next pop, if the order names a queue; the acks that wait go with it."""
        channel = self.channel
        if time.monotonic() < self.rest_until:
            return
        try:
            queues = self._ready()
        except ResponseError as error:
            if not refused_for_now(error):
                raise
            self._rest(error)
            return
        if not queues:
            self.rest_until = time.monotonic() + REFUSED_S
            return
        # Where the order rests on an earlier look, nothing found proves nothing: no wait yet.
        waits = not getattr(channel._queue_cycle, "reused", False)
        group, acks = group_of(queues), tuple(channel.outbox.take())
        unacknowledged = frozenset(channel.unacknowledged.intersection(queues))
        arguments = self._arguments(queues, group, acks, unacknowledged, channel.credit(), waits)
        self.sent = Sent(
            kind="pop", queues=queues, group=group, acks=acks, arguments=arguments, lapses=lease.lapses()
        )
        self._send("EVALSHA", script_text("pop")[1], *arguments)

    def _ready(self) -> tuple[str, ...]:
        """The queues to ask; before that, what was lost sight of goes back. Raises what Redis raises."""
        channel = self.channel
        if self.lost and give_back_orphans(channel):
            self.lost = False
        queues = tuple(channel._queue_cycle.consume(len(channel.active_queues)))
        if not queues:
            self.leave()
        return queues

    def _rest(self, error: ResponseError) -> None:
        logger.warning("Redis refuses the pop and is asked again: %s", error)
        self.rest_until = time.monotonic() + PAUSE_S

    def read(self) -> tuple[Sent | None, list[Any]]:
        """The answer that is there: to which pop, and the messages as `pop.lua` tells them.

        Raises what the connection raises; what was sent is then forgotten by `forget`.
        """
        channel, sent = self.channel, self.sent
        connection = channel.client.connection
        try:
            command = "BLPOP" if sent is not None and sent.kind == "ring" else "EVALSHA"
            answer = channel.client.parse_response(connection, command)
        except NoScriptError:
            # Nothing was done: this server does not know the script (a restart, a failover, a flush).
            self._send("EVAL", script_text("pop")[0], *(sent.arguments if sent else ()))
            return sent, []
        except ReadOnlyError as error:
            connection.disconnect()
            raise RedisConnectionError(f"this Redis is no master any more: {error}") from error
        except ResponseError as error:
            self.forget()
            self._rest(error)
            return sent, []
        except channel.connection_errors:
            connection.disconnect()
            raise
        self.sent, channel._in_poll = None, None
        return sent, self._popped(sent, answer) if sent is not None and sent.kind == "pop" else []

    def forget(self) -> None:
        """No answer will come any more: the acks go again, and what a pop took is looked for."""
        if self.sent is not None and self.sent.kind == "pop":
            self.channel.outbox.lost(self.sent.acks)
            self.lost = bool(self.fleet.instance)
        self.sent, self.channel._in_poll, self.group = None, None, ""

    def _popped(self, sent: Sent, answer: Any) -> list[Any]:
        messages, waiting, _ended = answer
        self.channel.outbox.arrived(sent.acks)
        self.group = sent.group if waiting else ""
        if waiting:
            self.sent = Sent(kind="ring")
            most_s = self.channel.brpop_timeout or LATEST_S
            self._send("BLPOP", self.fleet.ring, f"{period_s(waiting, most_s):.3f}")
        elif not messages and hasattr(self.channel._queue_cycle, "look_again"):
            self.channel._queue_cycle.look_again()
        return messages  # type: ignore[no-any-return]

    def _send(self, *command: Any) -> None:
        connection = self.channel.client.connection
        self.channel._in_poll, self.channel._brpop_sent_at = connection, time.monotonic()
        connection.send_command(*command)

    def one(self, queue: str, no_ack: bool) -> tuple[Sent, list[Any]]:
        """Take one message of a queue now, outside of what is under way on the connection."""
        sent = Sent(kind="pop", queues=(queue,), lapses=lease.lapses())
        unacknowledged = frozenset((queue,)) if no_ack else frozenset[str]()
        numkeys, *arguments = self._arguments((queue,), "", (), unacknowledged, 1, False)
        messages, _, _ = self.fleet.connection.script("pop")(arguments[:numkeys], arguments[numkeys:])
        return sent, messages

    def leave(self) -> None:
        """Be no more among those that wait for the bell."""
        if self.group:
            connection = self.fleet.connection
            connection.client.srem(connection.keys.ours("idle", self.group), self.fleet.bell)
            self.group = ""

    def close(self) -> None:
        """End what is under way: a wait is cut off, and what a pop brings goes back to its queue."""
        channel = self.channel
        with suppress(*channel.connection_errors, ResponseError):
            # One that does not answer by now (the server hangs, the socket is dead) is looked for later.
            if self.sent is not None and self.sent.kind == "pop" and channel._in_poll.can_read(ANSWER_S):
                with suppress(Empty):
                    channel._brpop_read()
            self.leave()
        if self.sent is not None and channel._in_poll:
            channel._in_poll.disconnect()

    def _arguments(
        self,
        queues: tuple[str, ...],
        group: str,
        acks: tuple[Ack, ...],
        unacknowledged: frozenset[str],
        most: int,
        waits: bool,
    ) -> tuple[Any, ...]:
        """Number of keys, KEYS and ARGV of `pop.lua`."""
        fleet = self.fleet
        keys = fleet.connection.keys
        asked: list[str] = []
        for queue in queues:
            asked += keys.prefix + queue, "1" if queue in unacknowledged else ""
        return (
            6, keys.unacked, keys.unacked_index, keys.held(fleet.instance), keys.events, keys.alive,
            keys.cancelled, fleet.base, most, "1" if waits else "", time.time(), fleet.instance, fleet.worker,
            secrets.token_hex(8), fleet.heartbeat_ttl_s, RUNNING_TTL_S, fleet.fence_ttl_s, fleet.bell, group,
            self.group, keys.sep, len(keys.priority_steps), len(queues), len(acks), *keys.priority_steps,
            *asked, *chain.from_iterable(ack.arguments() for ack in acks),
        )  # fmt: skip
