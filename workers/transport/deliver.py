"""From what a pop answered to messages in a consumer's hands.

The token of a claim travels in the delivered message only, never in Redis. What cannot be delivered
(its consumer is cancelled, the channel closes) goes back to the front of its queue.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any, Final

from celery.utils.log import get_logger
from kombu.utils.encoding import bytes_to_str
from kombu.utils.json import loads

from balancer.adapters.asides import aside, push
from workers.receipts import REFUSED, Receipt, Receiver, mark
from workers.transport.acks import Ack
from workers.transport.fleet import Fleet
from workers.transport.pop import Sent

logger = get_logger(__name__)

#: What `entered` says of a tag that it does not hold.
LOOSE: Final = object()


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """A message to hand over. `tag` is "" where its consumer acknowledges nothing, `token` that of the
    claim, `None` where there is none."""

    queue: str
    payload: Any
    tag: str
    token: str | None


class Delivering:
    """Delivers for one channel."""

    def __init__(self, channel: Any, fleet: Fleet) -> None:
        self.channel = channel
        self.fleet = fleet

    def deliver(self, sent: Sent | None, messages: Sequence[Sequence[Any]]) -> int:
        """Hand over what a pop brought; returns how many messages reached their consumer."""
        try:
            ready = list(self._ready(sent, messages)) if sent is not None else []
            return self._hand_over(ready)
        except BaseException:
            # What was not handed over is held by us and known to nobody: it is looked for at the next pop.
            self.channel.popping.lost = bool(self.fleet.instance)
            raise

    def _hand_over(self, ready: Sequence[Ready]) -> int:
        channel, delivered = self.channel, 0
        # Noted before any is handed over: a consumer that fails at the first must not hide the others.
        entered = channel.qos.entered
        entered.update((one.tag, one.token) for one in ready if one.tag)
        try:
            for one in ready:
                channel._queue_cycle.rotate(one.queue)
                if not one.tag or self._consumes(one.queue):
                    delivered += 1
                    channel.connection._deliver(one.payload, one.queue)
        finally:
            # What is to run first is put back last, to the front.
            left = [one for one in ready if entered.pop(one.tag, LOOSE) is not LOOSE]
            for one in reversed(left):
                self._give_back(one)
        return delivered

    def _give_back(self, one: Ready) -> None:
        qos, receiver = self.channel.qos, Receiver.current
        if one.token is None or receiver is None:
            qos.restore_by_tag(one.tag)
            return
        receipt = Receipt(task_id=one.payload["headers"]["id"], token=one.token)
        receiver.give_up(self.channel, one.tag, receipt, requeue=True, front=True)

    def got(self, sent: Sent, messages: Sequence[Sequence[Any]]) -> Any:
        """The message that a caller asked for, to be appended; `None` where there is none."""
        ready = next(self._ready(sent, messages), None)
        if ready is None:
            return None
        if ready.tag:
            self.channel.qos.entered[ready.tag] = ready.token
        return self.channel.Message(ready.payload, channel=self.channel)

    def _consumes(self, queue: str) -> bool:
        channel = self.channel
        return not channel._closing and queue in channel.connection._callbacks

    def _ready(self, sent: Sent, messages: Sequence[Sequence[Any]]) -> Iterator[Ready]:
        for number, raw, *told in messages:
            queue, taken = sent.queues[number], Taken.read(told)
            if taken.verdict == "unread":
                self._tell_unread(queue, raw)
                continue
            try:
                payload = loads(bytes_to_str(raw))
            except (ValueError, RecursionError):
                self._put_aside(queue, raw, taken.tag)
                continue
            if taken.verdict == "held":
                taken = self._judge(payload, taken)
            if taken.verdict not in REFUSED:
                token = None if taken.verdict == "none" else taken.token
                taken.mark(payload, sent.lapses)
                yield Ready(queue=queue, payload=payload, tag=taken.tag, token=token)

    def _judge(self, payload: Any, taken: Taken) -> Taken:
        """The fence says that this very worker has the task: it has, or it lost sight of it."""
        message = self.channel.Message(payload, channel=self.channel)
        receiver, task_id = Receiver.current, message.headers["id"]
        if receiver is None:
            return replace(taken, verdict="none")
        if not receiver.knows(task_id):
            # It may have ended here, its ack still on the way.
            self.channel.flush_acks()
            verdict, token = receiver.receive(message, taken.tag)
            header = message.headers["balancer"]
            return Taken(verdict=verdict, token=token, kept=header.get("kept", ""),
                         suspect=bool(header.get("suspect")), tag=taken.tag)  # fmt: skip
        logger.info("task %s: this worker has it already, this copy is dropped", task_id)
        if not taken.same:
            self.channel.qos.end(Ack(tag=taken.tag))
        return taken

    def _put_aside(self, queue: str, raw: bytes, tag: str) -> None:
        """A message that Lua could read and Python cannot."""
        keys = self.fleet.connection.keys
        with self.fleet.connection.client.pipeline(transaction=True) as pipe:
            pipe.rpush(keys.ours("unread", keys.prefix + queue), raw)
            if tag:
                pipe.hdel(keys.unacked, tag)
                pipe.zrem(keys.unacked_index, tag)
                pipe.srem(keys.held(self.fleet.instance), tag)
            pipe.execute()
        self._tell_unread(queue, raw)

    def _tell_unread(self, queue: str, raw: bytes) -> None:
        connection = self.fleet.connection
        place = connection.keys.ours("unread", connection.keys.prefix + queue)
        logger.error("a message in %s is none that kombu writes; it is kept in %s", queue, place)
        push(connection.client, connection.keys,
             [aside(f"queue {queue}", f"no message: kept in {place}", raw)], time.time())


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What a pop says of one message, beside the message."""

    verdict: str
    token: str
    kept: str
    suspect: bool
    tag: str
    #: Of what this worker holds already: its run stands on the entry of this tag.
    same: bool = False

    @classmethod
    def read(cls, told: Sequence[Any]) -> Taken:
        verdict, token, kept, suspect, tag = (
            part.decode() if isinstance(part, bytes) else part for part in told
        )
        held = verdict == "held"
        return cls(verdict=verdict, token=token, kept=kept, suspect=bool(suspect) and not held, tag=tag,
                   same=bool(suspect) and held)  # fmt: skip

    def mark(self, payload: Any, lapses: int) -> None:
        """Say in the message that is about to be delivered what came of the claim."""
        if self.verdict != "none":
            if type(payload["headers"]["balancer"]) is not dict:
                # A broken one that Lua cannot tell from a whole one; it says nothing.
                payload["headers"]["balancer"] = {}
            mark(SimpleNamespace(headers=payload["headers"]), self.verdict, self.token, lapses=lapses,
                 kept=self.kept, suspect=self.suspect)  # fmt: skip
