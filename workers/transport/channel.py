"""A Redis transport for kombu whose pop is atomic: a message is never in nobody's hands.

`balanced-redis://`, `balanced-rediss://` and `balanced-sentinel://` in a broker URL. It is kombu's
own transport but for taking a message (`pop.lua`, in place of BRPOP and a transaction), publishing
one (`put.lua`, which wakes a waiting worker) and acknowledging. It rests on private methods of
kombu, so it refuses a kombu that it does not know. See docs/transport.md.
"""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from functools import cached_property
from queue import Empty
from ssl import CERT_NONE
from typing import Any, Final

import kombu
import redis
from celery.utils.log import get_logger
from kombu.transport import redis as kombu_redis
from kombu.utils.json import dumps

from balancer.adapters.redis_connection import load_script
from balancer.adapters.redis_errors import refusal_as_loss
from balancer.adapters.redis_keys import Keys
from balancer.adapters.scripts import script_text
from balancer.errors import TransportError
from workers.pulse import Pulse
from workers.transport.acks import Outbox, outbox_of
from workers.transport.deliver import Delivering
from workers.transport.fleet import DEFAULTS, OPTION, Fleet
from workers.transport.poll import Poller
from workers.transport.pop import MOST, UNLIMITED, Popping
from workers.transport.qos import AtomicQoS, ends

logger = get_logger(__name__)

#: The kombu whose private methods these are.
KNOWN: Final = (5, 7)

#: What our schemes begin with, before kombu's own.
PREFIX: Final = "balanced-"

#: One at a time shows kombu the addresses of sentinels under its own scheme.
_ALTERNATES: Final = threading.Lock()

#: What of it is overridden or called.
NEEDED: Final = {
    kombu_redis.Channel: ("_brpop_start", "_brpop_read", "_poll_error", "_on_connection_disconnect", "_put",
                          "_q_for_pri", "_get_pool", "_flush_brpop_reauth", "_update_queue_cycle"),
    kombu_redis.MultiChannelPoller: ("_update_brpop_polling", "_register_BRPOP", "on_poll_start",
                                     "on_readable"),
    kombu_redis.QoS: ("restore_by_tag", "_remove_from_indices"),
    kombu_redis.SentinelChannel: ("_sentinel_managed_pool",),
}  # fmt: skip


def require_known_kombu() -> None:
    """Raises `TransportError` on a kombu whose private methods this transport does not know."""
    missing = [f"{cls.__name__}.{name}" for cls, names in NEEDED.items() for name in names
               if not hasattr(cls, name)]  # fmt: skip
    if tuple(kombu.VERSION[:2]) == KNOWN and not missing:
        return
    known = ".".join(str(part) for part in KNOWN)
    raise TransportError(
        f"kombu {kombu.__version__} is not one that the balanced transport knows ({known}.x"
        + (f"; it lacks {', '.join(missing)}" if missing else "")
        + "): set broker_url to redis://…, rediss://… or sentinel://…, the stock transport, which needs no "
        f"such knowledge, or install kombu {known}.x"
    )


class Atomic:
    """What a channel of ours does otherwise; mixed into kombu's Redis and Sentinel channels."""

    QoS = AtomicQoS
    #: What `workers.install` says of the fleet, under the transport option of this name.
    balancer: Any = None

    # Given by kombu's channel.
    connection: Any
    connection_errors: Any
    qos: Any
    pool: Any
    closed: bool
    _in_poll: Any
    _closing: bool
    _expires: Any

    @cached_property
    def keys(self) -> Keys:
        return Keys.from_channel(self, {**DEFAULTS, **(self.balancer or {})}["namespace"])

    @cached_property
    def fleet(self) -> Fleet:
        return Fleet.of_channel(self)

    @cached_property
    def outbox(self) -> Outbox:
        return outbox_of(self.connection.client.as_uri(), self.fleet)

    @cached_property
    def popping(self) -> Popping:
        return Popping(self, self.fleet)

    @cached_property
    def delivering(self) -> Delivering:
        return Delivering(self, self.fleet)

    @cached_property
    def unacknowledged(self) -> set[str]:
        """Queues whose consumer acknowledges nothing."""
        return set()

    def basic_consume(self, queue: str, no_ack: bool, *args: Any, **kwargs: Any) -> Any:
        (self.unacknowledged.add if no_ack else self.unacknowledged.discard)(queue)
        return super().basic_consume(queue, no_ack, *args, **kwargs)  # type: ignore[misc]

    def basic_get(self, queue: str, no_ack: bool = False, **_: Any) -> Any:
        """Get one message by direct access."""
        message = self.delivering.got(*self.popping.one(queue, no_ack))
        with self.conn_or_acquire() as client:  # type: ignore[attr-defined]
            self._maybe_update_queues_expire(client, queue)  # type: ignore[attr-defined]
        if message is not None and not no_ack:
            self.qos.append(message, message.delivery_tag)
        return message

    def _connparams(self, *args: Any, **kwargs: Any) -> Any:
        # A thread may still publish with a channel that another one has closed: told as what it is, kombu
        # tries again with a new one.
        if self.connection is None:
            raise redis.ConnectionError("the channel was closed meanwhile")
        return super()._connparams(*args, **kwargs)  # type: ignore[misc]

    def _put(self, queue: str, message: Any, **kwargs: Any) -> None:
        keys, place = self.keys, self._q_for_pri(queue, self._get_message_priority(message, reverse=False))  # type: ignore[attr-defined]
        batch = kwargs.get("_publish_batch")
        if batch is not None:
            super()._put(queue, message, **kwargs)  # type: ignore[misc]
            batch.add("eval", script_text("ring")[0], 1, keys.prefix + place, keys.ours(""), keys.sep)
            return
        expires = self._expires.get(queue)
        # kombu tries again what it knows to be a lost connection.
        with refusal_as_loss():
            load_script(redis.Redis(connection_pool=self.pool), "put")(
                [keys.prefix + place],
                [keys.ours(""), keys.sep, dumps(message), "" if expires is None else expires,
                 *(() if expires is None else keys.queue_lists(queue))],
            )

    def _brpop_start(self, timeout: float | None = None) -> None:
        self.popping.start()

    def _brpop_read(self, **_: Any) -> bool:
        try:
            if not self.delivering.deliver(*self.popping.read()):
                raise Empty()
            return True
        finally:
            self._flush_brpop_reauth()  # type: ignore[attr-defined]

    def _poll_error(self, type: str, **options: Any) -> Any:
        if type == "BRPOP":
            return self._brpop_read()
        return super()._poll_error(type, **options)  # type: ignore[misc]

    def _on_connection_disconnect(self, connection: Any) -> None:
        if self._in_poll is connection and "popping" in self.__dict__:
            self.popping.forget()
        super()._on_connection_disconnect(connection)  # type: ignore[misc]

    def credit(self) -> int:
        """Messages that the next pop may take."""
        if not self.fleet.instance or "can_consume" in vars(self.qos):
            return 1
        free = self.qos.can_consume_max_estimate()
        if free is None:
            return UNLIMITED if self.connection.cycle.loop is not None else 1
        return max(1, min(MOST, int(free)))

    def turning(self) -> bool:
        """Whether the event loop turns once more, so that an ack may wait for it. From any thread."""
        loop = self.connection.cycle.loop if self.connection is not None else None
        if loop is None or self._closing or self.closed or ends():
            return False
        if threading.get_ident() == loop._loop_thread:
            return True
        pulse = Pulse.current
        if pulse is not None:
            pulse.wake()
        return pulse is not None

    def flush_acks(self) -> None:
        """Send the acks that wait, now. What Redis refuses for now waits; raises what it raises otherwise."""
        if self.outbox.due():
            self.outbox.flush(self.fleet)

    def close(self) -> None:
        self._closing = True
        if "popping" in self.__dict__ and self.popping.process != os.getpid():
            # The copy that a forked process closes: what is under way on the socket is its parent's.
            self._in_poll = None
        elif "popping" in self.__dict__:
            self.popping.close()
            with suppress(*self.connection_errors):
                self.flush_acks()
        super().close()  # type: ignore[misc]


class Channel(Atomic, kombu_redis.Channel):  # type: ignore[misc]
    """A channel whose pop is atomic."""

    from_transport_options = (*kombu_redis.Channel.from_transport_options, OPTION)


class SentinelChannel(Atomic, kombu_redis.SentinelChannel):  # type: ignore[misc]
    """The same where a Sentinel says which server is the master."""

    from_transport_options = (*kombu_redis.SentinelChannel.from_transport_options, OPTION)

    def _sentinel_managed_pool(self, asynchronous: bool = False) -> Any:
        # kombu takes the addresses of sentinels from URLs of its own scheme only.
        client = self.connection.client
        with _ALTERNATES:
            given, client.alt = client.alt, [url.removeprefix(PREFIX) for url in client.alt]
            try:
                return super()._sentinel_managed_pool(asynchronous)
            finally:
                client.alt = given


class Transport(kombu_redis.Transport):  # type: ignore[misc]
    """`balanced-redis://`: kombu's Redis transport with an atomic pop."""

    Channel = Channel

    def __init__(self, client: Any, **options: Any) -> None:
        require_known_kombu()
        super().__init__(client, **options)
        self.cycle = Poller()

    def register_with_event_loop(self, connection: Any, loop: Any) -> None:
        self.cycle.loop = loop
        super().register_with_event_loop(connection, loop)


class SecureTransport(Transport):
    """`balanced-rediss://`: over TLS, as `rediss://` is."""

    def __init__(self, client: Any, **options: Any) -> None:
        if not client.ssl:
            logger.warning(
                "balanced-rediss:// without ssl options: the server's certificate is not checked, as kombu "
                "does for rediss://; set broker_use_ssl, or ?ssl_cert_reqs=required"
            )
            client.ssl = {"ssl_cert_reqs": CERT_NONE}
        super().__init__(client, **options)


class SentinelTransport(Transport):
    """`balanced-sentinel://`: the master that a Sentinel names."""

    default_port = kombu_redis.SentinelTransport.default_port
    Channel = SentinelChannel
