"""Redis servers that die: one with an append-only file, and a master with a replica under a Sentinel."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis

from tests.chaos.broker import ChaosRedis, pieces
from tests.contract.servers import free_port, server
from tests.waiting import wait_until

#: The name of the master, as its Sentinel calls it.
MASTER = "main"

#: A master that is silent for so long is taken for dead (ms).
DOWN_AFTER_MS = 1000


class DyingRedis(ChaosRedis):
    """A server with an append-only file, killed with -9; `fsync` is its `appendfsync`."""

    def __init__(self, folder: Path, fsync: str) -> None:
        super().__init__(folder)
        self.fsync = fsync

    def start(self) -> None:
        super().start()
        with redis.Redis.from_url(self.url) as client:
            client.config_set("appendfsync", self.fsync)

    def written(self) -> int:
        """Bytes of its file now."""
        return self._file().stat().st_size

    def forget(self, since: int) -> None:
        """Cut its file off at a length it once had, as a machine that dies loses what it had not synced."""
        with self._file().open("r+b") as stream:
            stream.truncate(since)

    def _file(self) -> Path:
        return max(self.folder.glob("appendonlydir/*.incr.aof"))


class Watched:
    """A master and its replica, which keeps an append-only file, under one Sentinel; `port` is its."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports = (free_port(), free_port())
        self.port = free_port()
        self.processes: list[subprocess.Popen[bytes]] = []

    @property
    def url(self) -> str:
        return f"sentinel://127.0.0.1:{self.port}/0"

    def client(self, number: int) -> redis.Redis:
        return redis.Redis(port=self.ports[number])

    def synced(self) -> bool:
        """The replica follows, and its file holds all that comes from now on."""
        with self.client(1) as client:
            follows = client.info("replication").get("master_link_status") == "up"
            return follows and not client.info("persistence")["aof_rewrite_in_progress"]

    def journal(self) -> list[Path]:
        """What the replica was told, and wrote once it was the master."""
        return pieces(self.folder)

    def kill_master(self) -> None:
        """kill -9 of the first server."""
        self.processes[0].kill()

    def freeze_master(self) -> None:
        """Silence it, so that it comes back and still takes itself for the master, until it is told."""
        self.processes[0].send_signal(signal.SIGSTOP)

    def thaw_master(self) -> None:
        self.processes[0].send_signal(signal.SIGCONT)


@contextmanager
def watched(folder: Path) -> Iterator[Watched]:
    """Both servers and the Sentinel, which watches them until the block ends."""
    one = Watched(folder)
    common = ["--save", "", "--bind", "127.0.0.1", "--dir", str(folder), "--repl-diskless-sync-delay", "0"]
    config = folder / "sentinel.conf"
    config.write_text(
        f"port {one.port}\nbind 127.0.0.1\ndir {folder}\n"
        f"sentinel monitor {MASTER} 127.0.0.1 {one.ports[0]} 1\n"
        f"sentinel down-after-milliseconds {MASTER} {DOWN_AFTER_MS}\n"
        f"sentinel failover-timeout {MASTER} 5000\n"
    )
    replica = ["--replicaof", "127.0.0.1", str(one.ports[0]), "--appendonly", "yes"]
    with (
        server(one.ports[0], "--port", str(one.ports[0]), *common) as first,
        server(one.ports[1], "--port", str(one.ports[1]), *common, *replica) as second,
    ):
        one.processes = [first, second]
        wait_until(one.synced, "the replica follows")
        with server(one.port, str(config), "--sentinel"):
            with redis.Redis(port=one.port) as client:
                wait_until(
                    lambda: client.execute_command("SENTINEL", "REPLICAS", MASTER),
                    "the Sentinel knows the replica",
                )
            yield one
