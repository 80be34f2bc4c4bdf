"""Redis servers of other kinds than the session's: with TLS, and watched by a Sentinel."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from balancer.adapters.embedded_redis import find
from tests.waiting import wait_until


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def server(port: int, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """A server that ends with the block; it listens, or has given up."""
    process = subprocess.Popen([find().binary, *arguments], stdout=subprocess.DEVNULL)
    try:
        wait_until(lambda: process.poll() is not None or listens(port), "the server listens or gave up")
        yield process
    finally:
        process.terminate()
        process.wait()


def certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1, signed by itself, and its key."""
    cert, key = folder / "cert.pem", folder / "key.pem"
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *names]
    subprocess.run([*command, "-keyout", str(key), "-out", str(cert)], check=True, capture_output=True)
    return cert, key


@contextmanager
def tls_server(folder: Path) -> Iterator[tuple[str, Path]]:
    """The URL of a server that speaks only TLS, and its certificate."""
    cert, key = certificate(folder)
    port = free_port()
    options = {"port": "0", "tls-port": str(port), "bind": "127.0.0.1", "save": "", "dir": str(folder)}
    options |= {"tls-cert-file": str(cert), "tls-key-file": str(key), "tls-ca-cert-file": str(cert)}
    options["tls-auth-clients"] = "no"
    with server(port, *(part for name, value in options.items() for part in (f"--{name}", value))) as process:
        if process.poll() is not None:
            pytest.skip("this server was built without TLS")
        yield f"rediss://127.0.0.1:{port}/0", cert


@contextmanager
def sentinel(master_port: int, password: str, folder: Path) -> Iterator[int]:
    """The port of a Sentinel that watches the server on `master_port` under the name "main"."""
    port, file = free_port(), folder / "sentinel.conf"
    file.write_text(
        f"port {port}\nbind 127.0.0.1\ndir {folder}\n"
        f"sentinel monitor main 127.0.0.1 {master_port} 1\nsentinel auth-pass main {password}\n"
    )
    with server(port, str(file), "--sentinel"):
        yield port
