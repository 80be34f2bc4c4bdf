"""A Redis that can be stopped and started again on the same port, with all it was told."""

from __future__ import annotations

import shutil
import socket
import subprocess
from pathlib import Path

import redis
from redis.exceptions import RedisError

from balancer.adapters.embedded_redis import SERVERS
from tests.waiting import wait_until


class LastingRedis:
    """A server with an append-only file in `folder`; `stop` and `start` as often as one likes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.binary = next(path for name in SERVERS if (path := shutil.which(name)))
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> LastingRedis:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        options = {
            "port": self.port,
            "bind": "127.0.0.1",
            "dir": self.folder,
            "appendonly": "yes",
            "appendfsync": "always",
            "save": "",
            "logfile": self.folder / "redis.log",
        }
        line = [word for key, value in options.items() for word in (f"--{key}", str(value))]
        self._process = subprocess.Popen([self.binary, *line], start_new_session=True)
        wait_until(self.answers, "Redis answers")

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(timeout=60)
        self._process = None

    def answers(self) -> bool:
        try:
            with redis.Redis.from_url(self.url) as client:
                return bool(client.ping())
        except (RedisError, OSError):
            return False

    def cut_all(self) -> None:
        """Close the connection of every client."""
        with redis.Redis.from_url(self.url) as client:
            for kind in ("normal", "pubsub"):
                client.client_kill_filter(_type=kind, skipme=True)
