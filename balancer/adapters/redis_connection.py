"""A plain redis-py client and the key names of one fleet, taken from a Celery app's broker.

The connection's parameters come from a kombu channel, so that TLS, passwords, Sentinel, unix
sockets and `global_keyprefix` are as the operator set them for the broker; the client itself is
redis-py's own, because kombu's prefixing client prefixes only some commands. Used by every
adapter beside it and by the workers.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from typing import Any, Final

import redis
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import AuthenticationError, RedisError
from redis.retry import Retry
from redis.sentinel import SentinelManagedConnection

from balancer.adapters.redis_keys import Keys
from balancer.adapters.scripts import Script, load_script
from balancer.errors import BalancerError, StoreError

__all__ = ["Connection", "Script", "connect", "follow_master", "load_script"]

#: Tries after the first, s between them at most, and s that one answer may take.
RETRIES: Final = 4
BACKOFF_CAP_S: Final = 1.0
SOCKET_TIMEOUT_S: Final = 10.0
CONNECT_TIMEOUT_S: Final = 5.0

#: Connections of one process. kombu allows its channel ten, which a pool of fifty threads that all
#: save a checkpoint would run out of.
CONNECTIONS: Final = 1_000

#: kombu transports that keep queues as Redis lists, by the name of their channel's driver.
DRIVERS: Final = ("redis",)


class Connection:
    """One process's way to Redis. `client` answers in bytes; after a fork the child gets its own."""

    def __init__(self, open_client: Callable[[], tuple[redis.Redis, Keys]]) -> None:
        self._open = open_client
        self._pid = os.getpid()
        self._client, self.keys = open_client()

    @classmethod
    def of_client(cls, client: redis.Redis, keys: Keys | None = None) -> Connection:
        """Over a client that is there (tests, tools), with kombu's default key names."""
        return cls(lambda: (client, keys or Keys()))

    @classmethod
    def of_channel(cls, channel: Any, namespace: str) -> Connection:
        """To the Redis of a live kombu channel, over connections of its own: it outlives the channel."""
        keys, pool = Keys.from_channel(channel, namespace), channel._get_pool()
        return cls(lambda: (_harden(redis.Redis(connection_pool=pool)), keys))

    @property
    def client(self) -> Any:
        """The `redis.Redis` of this process. Raises `StoreError` where a forked child cannot connect.

        Typed loosely, because redis-py's own types say "bytes or text" whatever is set.
        """
        if self._pid != os.getpid():
            self._client, self.keys = self._open()
            self._pid = os.getpid()
        return self._client

    def script(self, name: str) -> Script:
        """The script `lua/<name>.lua` on this process's client."""
        return load_script(self.client, name)

    def close(self) -> None:
        self._client.close()


def connect(app: Any, url: str = "", *, namespace: str = "balancer") -> Connection:
    """A connection to the broker of `app`, or to `url` where the same Redis answers under another name.

    Raises `BalancerError` when the broker is not Redis or `url` is another Redis than the broker's,
    `StoreError` when it cannot be reached.
    """
    if not url:
        return Connection(lambda: _from_broker(app, namespace))
    client, keys = _from_broker(app, namespace)
    try:
        other = _harden(redis.Redis.from_url(url))
        _require_same_server(client, other, keys)
    finally:
        client.close()
    return Connection(lambda: (_harden(redis.Redis.from_url(url)), keys))


def _from_broker(app: Any, namespace: str) -> tuple[redis.Redis, Keys]:
    connection = app.connection_for_write()
    try:
        driver = getattr(connection.transport, "driver_type", "")
        if driver not in DRIVERS:
            raise BalancerError(
                f"the broker is {driver or 'unknown'}, and the balancer needs Redis: "
                "set broker_url to redis://…, rediss://… or sentinel://…, or to one of their balanced "
                "kinds (balanced-redis://…)"
            )
        channel = connection.channel()
        keys = Keys.from_channel(channel, namespace)
        # A pool of our own from the channel's parameters: the channel's is closed with it.
        pool = channel._get_pool()
    except BalancerError:
        raise
    except Exception as error:  # kombu raises the driver's errors and OSError, wrapped or bare
        where = f"the broker {connection.as_uri()}"
        if isinstance(error, AuthenticationError) or isinstance(error.__cause__, AuthenticationError):
            raise StoreError(_refused(where, "broker_url", error)) from error
        raise StoreError(f"no answer from {where}: {error}") from error
    finally:
        connection.release()
    return _harden(redis.Redis(connection_pool=pool)), keys


def _refused(where: str, option: str, error: BaseException) -> str:
    """What to say where Redis runs and does not let us in."""
    said = str(error).rstrip(".")
    wrong = ("wants a password, and there is none" if "required" in said else
             "refuses the password or the user that is written")
    return f"{where} {wrong} in the URL ({said}); correct {option}: …://USER:PASSWORD@HOST"


class _Following:
    """A connection behind a Sentinel that asks it again whenever it connects.

    redis-py asks only when a connection is taken out of its pool; one that loses its master in the middle
    of a command would try the dead one again and again.
    """

    def connect_check_health(self, check_health: bool = True, retry_socket_connect: bool = True) -> None:
        if retry_socket_connect:
            self.connect()  # type: ignore[attr-defined]
        else:
            super().connect_check_health(check_health, retry_socket_connect)  # type: ignore[misc]


def follow_master(pool: Any) -> None:
    """Have the connections of a pool that a Sentinel leads find the new master after a failover."""
    kind = pool.connection_class
    if issubclass(kind, SentinelManagedConnection) and not issubclass(kind, _Following):
        pool.connection_class = type(kind.__name__, (_Following, kind), {})
        for connection in list(getattr(pool, "_available_connections", ())):
            connection.__class__ = pool.connection_class


def _harden(client: redis.Redis) -> redis.Redis:
    """Answers in bytes, bounded waits, and a few tries with growing pauses on connection errors."""
    follow_master(client.connection_pool)
    client.connection_pool.max_connections = CONNECTIONS
    options = client.connection_pool.connection_kwargs
    options["decode_responses"] = False
    options["retry"] = Retry(ExponentialWithJitterBackoff(base=0.05, cap=BACKOFF_CAP_S), RETRIES)
    if options.get("socket_timeout") is None:
        options["socket_timeout"] = SOCKET_TIMEOUT_S
    if "path" not in options and options.get("socket_connect_timeout") is None:
        options["socket_connect_timeout"] = CONNECT_TIMEOUT_S
    return client


def _require_same_server(broker: redis.Redis, other: redis.Redis, keys: Keys) -> None:
    """Queues and fences change in one script, so both addresses must lead to one database."""
    nonce = secrets.token_hex(8)
    key = keys.ours("same", nonce)
    try:
        other.set(key, nonce, px=10_000)
        same = broker.get(key) == nonce.encode()
        other.delete(key)
    except AuthenticationError as error:
        raise StoreError(_refused("its Redis", "balancer_redis_url", error)) from error
    except (RedisError, OSError) as error:
        raise StoreError(f"no answer from balancer_redis_url: {error}") from error
    if not same:
        raise BalancerError(
            "balancer_redis_url leads to another Redis or database than the broker; the balancer "
            "changes queues and fences in one step, so leave it empty or name the broker's database"
        )
