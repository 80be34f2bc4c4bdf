"""A wire between one worker and its broker: a process that passes bytes on both ways.

Stopped by SIGSTOP it is a partition: connections stay open and nothing comes through. Killed, it is
a cut wire.
"""

from __future__ import annotations

import selectors
import signal
import socket
import subprocess
import sys
from pathlib import Path


class Wire:
    """The controller's end."""

    def __init__(self, target: int) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.partition", str(self.port), str(target)],
            cwd=Path(__file__).parents[2],
        )

    def hold(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def mend(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        self._process.kill()
        self._process.wait(timeout=10)


def serve(port: int, target: int) -> None:
    """Pass bytes on until this process is killed."""
    listener = socket.create_server(("127.0.0.1", port))
    watched = selectors.DefaultSelector()
    watched.register(listener, selectors.EVENT_READ, None)
    while True:
        for key, _ in watched.select():
            if key.data is None:
                connect(watched, listener, target)
            else:
                pass_on(watched, key.fileobj, key.data)


def connect(watched: selectors.BaseSelector, listener: socket.socket, target: int) -> None:
    near, _ = listener.accept()
    try:
        far = socket.create_connection(("127.0.0.1", target))
    except OSError:
        near.close()
        return
    for one in (near, far):
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    watched.register(near, selectors.EVENT_READ, far)
    watched.register(far, selectors.EVENT_READ, near)


def pass_on(watched: selectors.BaseSelector, source: object, target: socket.socket) -> None:
    assert isinstance(source, socket.socket)
    if source.fileno() < 0:
        return
    try:
        data = source.recv(1 << 16)
        if data:
            target.sendall(data)
            return
    except OSError:
        data = b""
    for one in (source, target):
        try:
            watched.unregister(one)
        except (KeyError, ValueError):
            continue
        one.close()


if __name__ == "__main__":
    serve(int(sys.argv[1]), int(sys.argv[2]))
