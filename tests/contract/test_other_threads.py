"""A worker's other threads wait for answers on the balanced transport, and touch nothing that it takes."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery import Celery
from kombu import Connection, Exchange, Producer, Queue

from balancer.adapters.redis_connection import connect
from balancer.settings import from_sources
from workers import identity
from workers.receipts import Receiver

INSTANCE = f"h:{os.getpid()}:1"


@pytest.fixture
def app(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Celery]:
    """The app of a worker whose main process, and thread, this is."""
    app = Celery("threads", broker=f"balanced-{redis_url}", backend=redis_url, set_as_current=False)
    monkeypatch.setenv(identity.INSTANCE, INSTANCE)
    monkeypatch.setenv(identity.NAME, "w@h")
    connection = connect(app)
    seconds, micros = connection.client.time()
    connection.client.zadd(connection.keys.alive, {INSTANCE: seconds + micros / 1e6})
    Receiver.current = Receiver(app, connection, from_sources({}, {}, {}), instance=INSTANCE, worker="w@h")
    yield app
    Receiver.current = None
    app.close()


def taken(connection: Connection) -> str:
    """Take a message as that worker does, forgotten as if Redis's answer had not been read yet; its tag."""
    channel = connection.channel()
    queue = Queue("q", Exchange("", type="direct"), routing_key="q")
    Producer(channel).publish("work", exchange="", routing_key="q", declare=[queue])
    message = channel.basic_get("q")
    channel.qos._delivered.clear()
    return str(message.delivery_tag)


def ask(app: Celery) -> None:
    """Wait for workers' answers, over a connection of its own."""
    with app.connection_for_write() as own:
        app.control.inspect(timeout=0.3, connection=own).ping()


def in_another_thread(do: Callable[[Any], None], app: Any) -> None:
    thread = threading.Thread(target=do, args=(app,))
    thread.start()
    thread.join()


@pytest.mark.parametrize(("run", "held"), [(in_another_thread, True), (lambda do, app: do(app), False)],
                         ids=["another thread", "the worker's own"])
def test_only_the_thread_that_takes_messages_gives_back_what_was_lost_sight_of(
    app: Celery, run: Callable[..., None], held: bool
) -> None:
    connection = connect(app)
    with app.connection_for_write() as broker:
        tag = taken(broker)
        assert connection.client.smembers(connection.keys.held(INSTANCE)) == {tag.encode()}
        run(ask, app)
        assert bool(connection.client.sismember(connection.keys.held(INSTANCE), tag)) == held
        assert bool(connection.client.hexists(connection.keys.unacked, tag)) == held
