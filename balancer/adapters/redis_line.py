"""The short way to Redis for the few scripts that every task costs: packed by hand, on its own connection.

redis-py's own way through its pool, its retry and its packing takes several times as long as the
script. A script that is run here may be sent again when its answer was lost. Used by the workers at
receive and ack, and by the pool's processes at the end of a run.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Sequence
from typing import Any, Final

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, ReadOnlyError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from balancer.adapters.redis_connection import Connection
from balancer.adapters.scripts import script_text

#: Pauses (s) before a script is sent again whose answer did not come; after the last try it is the
#: caller's matter.
PAUSES_S: Final = (0.0, 0.05, 0.5, None)

Word = str | bytes | int | float


class Line:
    """Connections of one process, of the kind that a `Connection` makes. Safe from any thread."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._idle: list[Any] = []

    def run(self, name: str, keys: Sequence[Word], args: Sequence[Word]) -> Any:
        """The answer of `lua/<name>.lua`. Raises what redis-py raises."""
        text, sha = script_text(name)
        words = (len(keys), *keys, *args)
        for pause_s in PAUSES_S:
            try:
                try:
                    return self._ask("EVALSHA", sha, *words)
                except NoScriptError:
                    return self._ask("EVAL", text, *words)
            except (RedisConnectionError, RedisTimeoutError, OSError):
                if pause_s is None:
                    raise
                self.close()
                time.sleep(pause_s)
        raise AssertionError("unreachable")

    def close(self) -> None:
        """Close what is not in use; the next script opens anew."""
        while self._idle:
            with contextlib.suppress(IndexError):
                self._drop(self._idle.pop())

    def _ask(self, *words: Word) -> Any:
        try:
            socket = self._idle.pop()
        except IndexError:
            socket = self._connection.client.connection_pool.get_connection()
        try:
            socket.send_packed_command([packed(words)], check_health=False)
            answer = socket.read_response()
        except ReadOnlyError:
            # No master any more: another connection may lead to the new one.
            self._drop(socket)
            raise
        except ResponseError:
            self._idle.append(socket)
            raise
        except BaseException:
            # Cut off in the middle (a lost connection, a time limit): what comes next on it is another's.
            self._drop(socket)
            raise
        self._idle.append(socket)
        return answer

    def _drop(self, socket: Any) -> None:
        with contextlib.suppress(Exception):
            socket.disconnect()
            self._connection.client.connection_pool.release(socket)


def packed(words: Iterable[Word]) -> bytes:
    """A command as Redis reads it."""
    parts = [b""]
    for word in words:
        if type(word) is not bytes:
            word = (word if type(word) is str else str(word)).encode()
        parts.append(b"$%d\r\n%b\r\n" % (len(word), word))
    parts[0] = b"*%d\r\n" % (len(parts) - 1)
    return b"".join(parts)
