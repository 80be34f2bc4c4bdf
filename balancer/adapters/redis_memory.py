"""What the balancer remembers, in Redis: one hash, of which each write sends what is new.

Fields `document`, `since`, `fence` and `stamp` (of the last whole write), and `column:<name>` for each long
column that the document names. Part of `redis_store`.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from redis.exceptions import ResponseError

from balancer.adapters.asides import aside
from balancer.adapters.documents import read, write
from balancer.adapters.memory_text import memory_text, whole
from balancer.adapters.redis_connection import Connection
from balancer.decide.packed import Packed
from balancer.errors import StoreError
from balancer.model import SetAside

#: Characters kept of a document that cannot be read.
DETAIL: Final = 65_536

#: How the fields of columns begin.
COLUMN: Final = "column:"

#: What `save_memory.lua` says where the columns that are kept are not those of this writer's last write.
OTHERS: Final = 2


class MemoryKeeper:
    """Reads and writes the memory. Knows which columns its last write left there."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._stamp = ""
        self._made = 0
        #: What lies there by the identity of the text, which is held here.
        self._kept: dict[int, tuple[str, Packed]] = {}

    def load(self, set_aside: Callable[[Sequence[SetAside]], None]) -> Mapping[str, Any] | None:
        """The last document; one that cannot be read is copied to the asides and removed. Raises errors of
        redis-py."""
        client, key, raw = self._connection.client, self._connection.keys.memory, None
        try:
            fields = client.hgetall(key)
            raw, since = fields.get(b"document"), fields.get(b"since")
            kept = None if raw is None else _document(raw, fields)
            return kept if since is None else {**(kept or {}), "since": read(since, "memory since")}
        except ResponseError as error:
            reason = f"of another type: {error}"
        except StoreError as error:
            reason = str(error)
        set_aside([aside("memory", reason, raw or b"", DETAIL)])
        self._connection.script("drop_memory")([key], [raw or b""])
        return None

    def save(self, document: Mapping[str, Any], fence: int) -> bool:
        """Keep the whole `document` under `fence`; `False` when another has taken the lease since. Sent are
        the columns that are new since the last write, and all of them where another has written."""
        kept: dict[int, tuple[str, Packed]] = {}
        text, columns = memory_text(document, lambda column: self._named(column, kept))
        stamp = secrets.token_hex(8)
        new = {id(column): column for column in columns if id(column) not in self._kept}
        gone = [COLUMN + name for place, (name, _) in self._kept.items() if place not in kept]
        answer = OTHERS
        if self._stamp:
            answer = self._send(text, fence, stamp, self._stamp, _fields(new, kept), gone)
        if answer == OTHERS:
            answer = self._send(text, fence, stamp, "", _fields(kept, kept), ())
        if answer:
            self._stamp, self._kept = stamp, kept
        return bool(answer)

    def save_since(self, document: Mapping[str, Any], fence: int) -> bool:
        """Keep what came after the whole document, beside it, until that is written anew."""
        keys = self._connection.keys
        save = self._connection.script("save_since")
        return bool(save([keys.memory, keys.lease_fence], [write(document, "memory"), fence]))

    def _send(self, text: str, fence: int, stamp: str, onto: str, new: Sequence[str],
              gone: Sequence[str]) -> int:
        keys = self._connection.keys
        answer = self._connection.script("save_memory")(
            [keys.memory, keys.lease_fence], [text, fence, stamp, onto, len(new), *new, *gone])
        return int(answer)

    def _named(self, column: Packed, kept: dict[int, tuple[str, Packed]]) -> str:
        place = id(column)
        if place not in kept:
            name, _ = self._kept.get(place) or (str(self._made), column)
            self._made += place not in self._kept
            kept[place] = name, column
        return kept[place][0]


def _fields(columns: Mapping[int, Any], kept: Mapping[int, tuple[str, Packed]]) -> list[str]:
    """Field and text of each of these columns, one after the other."""
    return [part for place in columns for part in (COLUMN + kept[place][0], kept[place][1])]


def _document(raw: bytes, fields: Mapping[bytes, bytes]) -> Mapping[str, Any]:
    """The document with the columns of the other fields. Raises `StoreError` for what cannot be read."""
    document, begin = read(raw, "memory"), COLUMN.encode()
    columns = {name.removeprefix(begin).decode("ascii", "replace"): text.decode("ascii", "replace")
               for name, text in fields.items() if name.startswith(begin)}
    found: Mapping[str, Any] = whole(document, columns) if columns else document
    return found
