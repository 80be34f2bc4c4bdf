"""The adapters' client is the broker's Redis as the app names it, prefix, TLS and all."""

from __future__ import annotations

import os
import pickle
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import Celery
from celery.bin.base import CLIContext
from click.testing import CliRunner

from balancer import cli, draining
from balancer.adapters.redis_connection import Connection, connect, load_script
from balancer.adapters.scripts import script_text
from balancer.errors import BalancerError, StoreError
from tests.contract.servers import sentinel, tls_server


def app(url: str, **conf: Any) -> Celery:
    made = Celery("t", broker=url, set_as_current=False)
    made.conf.update(broker_connection_retry_on_startup=False, **conf)
    return made


def test_it_reaches_the_brokers_database_in_bytes(redis_url: str, redis_client: redis.Redis) -> None:
    connection = connect(app(redis_url))
    redis_client.set("k", b"\xff")
    assert connection.client.get("k") == b"\xff"
    assert type(connection.client) is redis.Redis
    connection.close()


def test_a_worker_is_not_drained_through_a_broker_that_is_away() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # it does not listen, so nobody answers here
        made = app(f"redis://127.0.0.1:{taken.getsockname()[1]}/0")
        with pytest.raises(StoreError, match="no answer from the broker"):
            draining.drain(made, "w@h")


@pytest.mark.parametrize(("login", "says"), [
    (":wrong@", "refuses the password or the user that is written in the URL (invalid username-password"),
    ("", "wants a password, and there is none in the URL (Authentication required); correct broker_url"),
])
def test_a_wrong_password_is_said_to_be_wrong(redis_url: str, login: str, says: str) -> None:
    broker = app(f"redis://{login}{redis_url.partition('@')[2]}")
    with pytest.raises(StoreError) as refused:
        connect(broker)
    assert says in str(refused.value)
    place = CLIContext(app=broker, no_color=True, workdir=None)
    assert "Is it running" not in CliRunner().invoke(cli.balancer, ["status"], obj=place).output
    with pytest.raises(StoreError, match="correct balancer_redis_url"):
        connect(app(redis_url), str(broker.conf.broker_url))


def test_key_names_are_the_brokers(redis_url: str, redis_client: redis.Redis) -> None:
    options = {"global_keyprefix": "pre:", "sep": "|", "priority_steps": [0, 5], "unacked_key": "held"}
    made = app(redis_url, broker_transport_options=options)
    connection = connect(made, namespace="ns")
    made.send_task("x", queue="q", priority=7)
    assert connection.keys.queue_lists("q") == ("pre:q", "pre:q|5")
    assert redis_client.llen("pre:q|5") == 1
    assert (connection.keys.unacked, connection.keys.lanes) == ("pre:held", "pre:ns:lanes")
    connection.close()
    made.close()


def test_another_broker_is_refused_with_the_way_out() -> None:
    with pytest.raises(
        BalancerError, match=r"the broker is memory, and the balancer needs Redis.*broker_url"
    ):
        connect(app("memory://"))


def test_a_broker_that_does_not_answer_is_named_without_its_password() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(StoreError) as raised:
            connect(app(f"redis://:secret@127.0.0.1:{port}/0"))
    assert f"127.0.0.1:{port}" in str(raised.value)
    assert "secret" not in str(raised.value)


def test_an_own_url_must_lead_to_the_brokers_database(redis_url: str) -> None:
    connection = connect(app(redis_url), redis_url)
    assert connection.client.ping()
    connection.close()
    other = redis_url.rpartition("/")[0] + "/5"
    with pytest.raises(BalancerError, match="balancer_redis_url leads to another Redis or database"):
        connect(app(redis_url), other)


def test_a_forked_child_gets_a_connection_of_its_own(redis_url: str) -> None:
    connection = connect(app(redis_url))
    parent = connection.client.client_id()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writer, pickle.dumps((connection.client.client_id(), connection.client.ping())))
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as answers:
        theirs, pinged = pickle.loads(answers.read())
    os.waitpid(child, 0)
    assert pinged
    assert theirs != parent
    assert connection.client.client_id() == parent
    connection.close()


def test_it_survives_connections_that_the_server_closed(redis_url: str, redis_client: redis.Redis) -> None:
    connection = connect(app(redis_url))
    ident = connection.client.client_id()
    redis_client.execute_command("CLIENT", "KILL", "ID", ident)
    assert connection.client.ping()
    assert connection.client.client_id() != ident
    connection.close()


def test_fifty_threads_may_use_it_at_once(redis_url: str) -> None:
    connection = connect(app(redis_url))
    together = threading.Barrier(50)

    def wait_for_nothing(_: int) -> object:
        together.wait()
        return connection.client.blpop("nothing", timeout=0.2)

    with ThreadPoolExecutor(50) as threads:
        assert list(threads.map(wait_for_nothing, range(50))) == [None] * 50
    connection.close()


def test_waits_are_bounded(redis_url: str) -> None:
    connection = connect(app(redis_url))
    options = connection.client.connection_pool.connection_kwargs
    assert 0 < options["socket_timeout"] <= 30
    assert 0 < options["socket_connect_timeout"] <= 30
    assert options["retry"].get_retries() == 4
    connection.close()


def test_a_script_that_the_server_forgot_is_sent_again(connection: Connection) -> None:
    script = load_script(connection.client, "cancel_want")
    assert script([connection.keys.want("t")], ["m"]) == 0
    connection.client.script_flush()
    connection.client.hset(connection.keys.want("t"), "move", "m")
    assert script([connection.keys.want("t")], ["m"]) == 1


def test_every_script_tells_its_keys_arguments_and_answer() -> None:
    folder = Path(__file__).parents[2] / "balancer" / "adapters" / "lua"
    names = sorted(path.stem for path in folder.glob("*.lua"))
    assert "publish" in names
    for name in names:
        head = "".join(line for line in script_text(name)[0].splitlines(True) if line.startswith("--"))
        assert all(word in head for word in ("KEYS", "ARGV", "Returns")), name


def test_tls_as_the_broker_has_it(tmp_path: Path) -> None:
    with tls_server(tmp_path) as (url, certificate):
        made = app(url, broker_use_ssl={"ssl_cert_reqs": "required", "ssl_ca_certs": str(certificate)})
        connection = connect(made)
        assert connection.client.ping()
        connection.close()
        made.close()


def test_a_master_that_a_sentinel_names(redis_url: str, redis_client: redis.Redis, tmp_path: Path) -> None:
    options = redis_client.connection_pool.connection_kwargs
    with sentinel(options["port"], options["password"], tmp_path) as port:
        url = redis_url.replace("redis://", "sentinel://").replace(str(options["port"]), str(port))
        made = app(url, broker_transport_options={"master_name": "main"})
        connection = connect(made)
        connection.client.set("k", "v")
        assert redis_client.get("k") == b"v"
        assert load_script(connection.client, "cancel_want")([connection.keys.want("t")], ["m"]) == 0
        connection.close()
        made.close()
