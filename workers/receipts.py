"""Deliveries of balanced tasks as this worker takes and ends them: one script each, with the claim.

`BalancedQoS` stands in kombu's place on the worker's channel: a message that has our header is entered
and claimed by `receive.lua`, acknowledged by `ack.lua`, given back by `reject.lua`; every other takes
kombu's own way. The claim goes to the pool in the delivered header only, never back to Redis.
"""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any, Final, TypeVar

from celery import Celery
from celery.utils.log import get_logger
from celery.worker import state as worker_state
from kombu.transport import redis as kombu_redis
from kombu.transport.virtual import QoS as VirtualQoS
from kombu.utils.encoding import bytes_to_str
from kombu.utils.json import dumps, loads
from redis.exceptions import ResponseError

from balancer.adapters.redis_connection import Connection
from balancer.adapters.redis_errors import refused_for_now
from balancer.adapters.redis_fence import ABANDONED_TTL_S, RUNNING_TTL_S, Verdict
from balancer.adapters.redis_line import Line
from balancer.settings import Settings
from workers import lease
from workers.pulse import AGAIN_S, Pulse

logger = get_logger(__name__)

T = TypeVar("T")

#: Verdicts with which a copy of a message is not delivered any further.
REFUSED: Final = ("held", "stale", "done")

#: What an ack tells where the run's process has stored its end: it is never the commit then.
STORED: Final = "stored"

#: What of the header the message says; the rest is said in a worker and means nothing elsewhere.
PUBLISHED: Final = ("at", "v", "profile", "group", "size", "epoch", "begun", "home")


@dataclass(slots=True, kw_only=True)
class Receipt:
    """A delivery that was claimed when it was taken, until it is acknowledged or given back."""

    task_id: str
    token: str
    #: What the ack tells when it commits the run: the document of a `RunFinished`; or `STORED`.
    event: str = ""
    #: The fence refused the run: its ack commits nothing.
    refused: bool = False
    #: Given back, it is served next.
    front: bool = False


class Receiver:
    """Claims, ends and gives back deliveries for one worker."""

    #: The receiver of this process's worker, once it has one.
    current: Receiver | None = None

    def __init__(
        self, app: Celery, connection: Connection, settings: Settings, *, instance: str, worker: str
    ) -> None:
        self.connection = connection
        self.line = Line(connection)
        self.tasks = app.tasks
        self.fence_ttl_s = max(1, int(settings.fence_ttl))
        #: Task id → tag of what is claimed and not ended here, also by a channel that was lost.
        self.holding: dict[str, str] = {}
        self._nonces = (f"{first}.{number:x}" for first in [secrets.token_hex(6)] for number in count())
        self._who = (instance, settings.heartbeat_ttl, worker)
        #: The thread in which the worker takes messages (`threading.get_ident`).
        self.thread = threading.get_ident()

    @property
    def instance(self) -> str:
        return self._who[0]

    def takes(self, message: Any) -> bool:
        """Whether a message is one of ours, for a task that is balanced in this worker."""
        headers = message.headers
        return (
            type(headers) is dict
            and type(headers.get("balancer")) is dict
            and type(headers.get("id")) is str
            and bool(getattr(self.tasks.get(headers.get("task")), "balanced", False))
        )

    def receive(self, message: Any, tag: str) -> tuple[Verdict, str]:
        """Enter a delivery and claim its task; the message is marked with what came of it."""
        instance, ttl_s, worker = self._who
        headers, keys = message.headers, self.connection.keys
        task_id, lapses = headers["id"], lease.lapses()
        verdict, token, _same, kept, suspect = self.line.run(
            "receive",
            (
                keys.fence(task_id),
                keys.alive,
                keys.state(task_id),
                keys.events,
                keys.cancelled,
                keys.unacked,
                keys.unacked_index,
                keys.held(instance),
            ),
            (
                generation_of(headers),
                instance,
                tag,
                ttl_s,
                worker,
                next(self._nonces),
                RUNNING_TTL_S,
                task_id,
                entry_of(message),
                time.time(),
                "" if self.knows(task_id) else "1",
            ),
        )
        mark(
            message,
            verdict.decode(),
            token.decode(),
            lapses=lapses,
            kept=kept.decode(),
            suspect=bool(suspect),
        )
        return verdict.decode(), token.decode()

    def knows(self, task_id: str) -> bool:
        """Whether this worker has a delivery of this task in hand; if not, a claim of its own is void."""
        return task_id in self.holding or task_id in worker_state.requests

    def ack_arguments(self, tag: str, receipt: Receipt) -> tuple[tuple[str, ...], tuple[Any, ...]]:
        """KEYS and ARGV of `ack.lua`."""
        keys, task_id, instance = self.connection.keys, receipt.task_id, self._who[0]
        return (
            keys.fence(task_id),
            keys.state(task_id),
            keys.want(task_id),
            keys.events,
            keys.unacked,
            keys.unacked_index,
            keys.held(instance),
        ), (receipt.token, tag, instance, self.fence_ttl_s, receipt.event, "1" if receipt.refused else "")

    def give_up(self, channel: Any, tag: str, receipt: Receipt, *, requeue: bool, front: bool) -> None:
        """Drop a delivery, or put its message back so that any worker may claim it."""
        keys, task_id, instance = self.connection.keys, receipt.task_id, self._who[0]
        message, lists = put_back(self.connection, channel, tag, receipt) if requeue else ("", [])
        self.line.run(
            "reject",
            (
                keys.fence(task_id),
                keys.unacked,
                keys.unacked_index,
                keys.held(instance),
                keys.state(task_id),
                keys.want(task_id),
                *lists,
            ),
            (
                receipt.token,
                tag,
                instance,
                self.fence_ttl_s,
                ABANDONED_TTL_S,
                message,
                "front" if front else "back",
                keys.ours(""),
                keys.sep,
            ),
        )


class BalancedQoS(kombu_redis.QoS):  # type: ignore[misc]
    """kombu's QoS, but what is balanced is claimed with its delivery and committed with its ack."""

    #: Tag → receipt of the claimed deliveries of this channel.
    receipts: dict[str, Receipt]

    @classmethod
    def take_over(cls, qos: Any) -> None:
        """Make a live QoS of kombu's one of ours; its counts, and what was bound to it, stay as they are."""
        qos.receipts = {}
        qos.__class__ = cls

    def append(self, message: Any, delivery_tag: str) -> None:
        receiver = Receiver.current
        if receiver is None or not receiver.takes(message):
            super().append(message, delivery_tag)
            return
        verdict, token = entered(lambda: receiver.receive(message, delivery_tag))
        if verdict not in REFUSED:
            self.keep(message, delivery_tag, token)

    def keep(self, message: Any, tag: str, token: str) -> None:
        """Count a delivery that was claimed (or is told as cancelled) as in hand."""
        task_id = message.headers["id"]
        self.receipts[tag] = Receipt(task_id=task_id, token=token)
        if Receiver.current is not None:
            Receiver.current.holding[task_id] = tag
        VirtualQoS.append(self, message, tag)

    def drop(self, tag: str) -> None:
        """Forget a delivery here; what the broker keeps of it is left as it is."""
        receipt = self.receipts.pop(tag, None)
        holding = Receiver.current.holding if Receiver.current is not None else {}
        if receipt is not None and holding.get(receipt.task_id) == tag:
            del holding[receipt.task_id]
        VirtualQoS.ack(self, tag)

    def ack_arguments(self, tag: str) -> tuple[tuple[str, ...], tuple[Any, ...]] | None:
        """KEYS and ARGV of `ack.lua` for a claimed delivery, `None` for any other."""
        receipt, receiver = self.receipts.get(tag), Receiver.current
        return receiver.ack_arguments(tag, receipt) if receipt is not None and receiver is not None else None

    def ack(self, delivery_tag: str) -> None:
        arguments = self.ack_arguments(delivery_tag)
        if arguments is None or Receiver.current is None:
            try:
                super().ack(delivery_tag)
            except AttributeError as error:
                # kombu's word for a channel that was closed; as such it would end the worker.
                raise ConnectionError(f"delivery {delivery_tag}: its channel is closed") from error
            return
        line = Receiver.current.line
        self._surely(delivery_tag, lambda: line.run("ack", *arguments))

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        receipt, receiver = self.receipts.get(delivery_tag), Receiver.current
        if receipt is None or receiver is None:
            super().reject(delivery_tag, requeue)
            return
        self._surely(delivery_tag, lambda: receiver.give_up(
            self.channel, delivery_tag, receipt, requeue=requeue, front=receipt.front))

    def _surely(self, tag: str, end: Callable[[], Any]) -> None:
        """End a claimed delivery; where Redis refuses that for now, again until it does not: nobody else
        would, and the delivery would take up a place of this worker for good."""
        try:
            end()
        except ResponseError as error:
            pulse = Pulse.current
            if pulse is None or not refused_for_now(error):
                raise
            logger.warning("delivery %s ends as soon as Redis lets it: %s", tag, error)
            pulse.again(lambda: self._surely(tag, end) if tag in self.receipts else None)
            return
        self.drop(tag)

    def restore_visible(self, *args: Any, **kwargs: Any) -> None:
        """As in kombu; where Redis refuses it for now the next look does it."""
        try:
            super().restore_visible(*args, **kwargs)
        except ResponseError as error:
            if not refused_for_now(error):
                raise
            logger.debug("no look at what was held too long: %s", error)

    def restore_unacked(self, client: Any = None) -> None:
        """Put back what waits, as the connection closes; what runs goes on and is acknowledged later.

        Where Redis is away, what could not be put back is at least not thought to be in hand any more.
        """
        self._flush()  # what has ended here, its ack still on the way, waits for nobody
        running = running_tags()
        for tag in list(self._delivered):
            try:
                self._restore(tag, running, client)
            except Exception as error:
                # A closed channel fails in many ways; the worker must outlive it, and what it held is
                # found in Redis when it has another.
                logger.warning("delivery %s could not be put back yet: %r", tag, error)
            if tag in self.receipts and tag not in running:
                self.drop(tag)
        self._delivered.clear()

    def _restore(self, tag: str, running: set[str], client: Any) -> None:
        receipt, receiver = self.receipts.get(tag), Receiver.current
        if receipt is None or receiver is None:
            with self.channel.conn_or_acquire(client) as one:
                self.restore_by_tag(tag, client=one)
        elif tag not in running:
            receiver.give_up(self.channel, tag, receipt, requeue=True, front=True)


def entered(enter: Callable[[], T]) -> T:
    """What `enter` returns, once Redis does not refuse it for now: what BRPOP has popped is nowhere else."""
    while True:
        try:
            return enter()
        except ResponseError as error:
            if not refused_for_now(error) or worker_state.should_terminate not in (None, False):
                raise
            logger.warning("a message that was taken is entered as soon as Redis lets it: %s", error)
            time.sleep(AGAIN_S)


def generation_of(headers: Mapping[str, Any]) -> str:
    """The generation of a message, as `Delivery.generation`; counts that are none are 0."""
    counts = headers.get("replaced_task_nesting"), headers.get("retries"), headers["balancer"].get("epoch")
    whole = [n if type(n) is int and 0 <= n < 10**6 else 0 for n in counts]
    return "{:06d}.{:06d}.{:06d}".format(*whole)


def entry_of(message: Any) -> str:
    """What `unacked` keeps of a delivery, as kombu writes it."""
    info = message.delivery_info
    entry = [message._raw, info["exchange"], info["routing_key"]]
    try:
        return json.dumps(entry)
    except TypeError:
        # kombu's reader makes dates and such of what kombu's writer marked.
        return str(dumps(entry))


def mark(
    message: Any, verdict: str, token: str, *, lapses: int, kept: str = "", suspect: bool = False
) -> None:
    """Tell the worker and its pool in the delivered header what came of the claim."""
    header = {name: value for name, value in message.headers["balancer"].items() if name in PUBLISHED}
    if verdict in ("taken", "answer"):
        header.update(claim=token, lapses=lapses)
    if verdict == "answer":
        header.update(kept=kept, begun=True)
    elif verdict != "taken":
        header["verdict"] = verdict
    if suspect:
        header["suspect"] = True
    message.headers["balancer"] = header


def put_back(connection: Connection, channel: Any, tag: str, receipt: Receipt) -> tuple[str, list[str]]:
    """The message of a delivery as it goes back to its queue, and the lists it goes into, as kombu does.

    Where its run has saved a checkpoint the next one goes on from there: it has begun in time.
    """
    raw = connection.client.hget(connection.keys.unacked, tag)
    if raw is None:
        return "", []
    message, exchange, routing_key = loads(bytes_to_str(raw))
    message["headers"]["redelivered"] = True
    claim, checkpointed = connection.client.hmget(
        connection.keys.fence(receipt.task_id), ["claim", "checkpointed"]
    )
    if checkpointed and claim == receipt.token.encode():
        message["headers"]["balancer"] = {**(message["headers"]["balancer"] or {}), "begun": True}
    message["properties"]["delivery_info"]["redelivered"] = True
    priority = channel._get_message_priority(message, reverse=False)
    queues = channel._lookup(exchange, routing_key)
    prefix = connection.keys.prefix
    return dumps(message), [prefix + channel._q_for_pri(queue, priority) for queue in queues]


def running_tags() -> set[str]:
    """Deliveries whose body is running and will end, whatever becomes of the connection."""
    if worker_state.should_terminate not in (None, False):
        return set()
    return {
        str(request.message.delivery_tag)
        for request in list(worker_state.active_requests)
        if not request.acknowledged and not request._already_cancelled
    }


def receipt_of(message: Any) -> Receipt | None:
    """The receipt of a claimed delivery, `None` for any other."""
    qos = getattr(message.channel, "_qos", None)
    return getattr(qos, "receipts", {}).get(message.delivery_tag)
