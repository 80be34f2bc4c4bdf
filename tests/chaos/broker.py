"""The Redis of a chaos run: killed, frozen and cut off, and its append-only file kept as the journal.

The file holds every write in order. It is written anew now and then so that a restart loads little;
what Redis then deletes stays in `kept`, as a second name of the same file.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Final

import redis

from tests.system.lasting_redis import LastingRedis
from tests.waiting import wait_until

#: A journal longer than this (bytes) is written anew before the next restart.
REWRITE_BYTES: Final = 150_000_000


class ChaosRedis(LastingRedis):
    """A server with an append-only file that can be killed, frozen, cut off, and read afterwards."""

    def start(self) -> None:
        super().start()
        with redis.Redis.from_url(self.url) as client:
            client.config_set("auto-aof-rewrite-percentage", 0)
        self.keep()

    def kill(self) -> None:
        """kill -9; what it had answered is in the file."""
        self.keep()
        process = self._process
        if process is not None:
            process.kill()
            process.wait(timeout=20)
        self._process = None

    def freeze(self) -> None:
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        if self._process is not None:
            os.kill(self._process.pid, number)

    def shorten(self) -> None:
        """Write the file anew when it has grown long, so that the next start need not load it all."""
        live = self.folder / "appendonlydir"
        if sum(path.stat().st_size for path in live.glob("*.incr.aof")) < REWRITE_BYTES:
            return
        with redis.Redis.from_url(self.url) as client:
            client.bgrewriteaof()
            wait_until(
                lambda: not client.info("persistence")["aof_rewrite_in_progress"], "the file is anew", 120
            )
        self.keep()

    def keep(self) -> None:
        """Keep what has been written so far from being deleted."""
        pieces(self.folder)

    def journal(self) -> list[Path]:
        """The pieces of everything that was ever written, in order."""
        return pieces(self.folder)


def pieces(folder: Path) -> list[Path]:
    """The append-only file of the server in `folder`, in order: each piece gets a second name that Redis
    does not know, and so outlives it."""
    kept = folder / "kept"
    kept.mkdir(exist_ok=True)
    for path in (folder / "appendonlydir").glob("*.incr.aof"):
        if not (kept / path.name).exists():
            os.link(path, kept / path.name)
    return sorted(kept.glob("*.incr.aof"), key=lambda path: int(path.name.split(".")[2]))
