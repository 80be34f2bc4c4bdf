"""The lease that lets one balancer of a fleet work at a time. Implements `ports.Lease`.

A holder that slept past its lease is stopped by its fence: `RedisFleetStore.save_memory` refuses
what it writes from the moment on at which another has taken the lease.
"""

from __future__ import annotations

import secrets

from redis.exceptions import RedisError

from balancer.adapters.redis_connection import Connection
from balancer.errors import StoreError


class RedisLease:
    """A lease of `ttl_s` under the name `holder`, which tells a person who holds it.

    A few random letters are added to the name, so that two processes never pass for one.
    """

    def __init__(self, connection: Connection, holder: str, *, ttl_s: float) -> None:
        self._connection = connection
        self._ttl_ms = max(1, round(ttl_s * 1000))
        self.name = f"{holder}#{secrets.token_hex(3)}"

    def acquire(self) -> int | None:
        """The fence of the lease taken or renewed; `None` while another holds it. Raises `StoreError`."""
        keys = self._connection.keys
        try:
            fence = self._connection.script("acquire_lease")(
                [keys.lease, keys.lease_fence, keys.memory], [self.name, self._ttl_ms])
        except (RedisError, OSError) as error:
            raise StoreError(f"cannot take the lease: {error}") from error
        return None if fence is None else int(fence)

    def holder(self) -> str | None:
        """Who holds it now. Raises `StoreError`."""
        try:
            holder = self._connection.client.get(self._connection.keys.lease)
        except (RedisError, OSError) as error:
            raise StoreError(f"cannot see who holds the lease: {error}") from error
        return None if holder is None else holder.decode("utf-8", "replace")

    def release(self) -> None:
        """Give it back, if it is ours. Raises `StoreError`."""
        try:
            self._connection.script("release_lease")([self._connection.keys.lease], [self.name])
        except (RedisError, OSError) as error:
            raise StoreError(f"cannot give the lease back: {error}") from error
