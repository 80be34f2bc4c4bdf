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
from workers.transport.acks import Ack

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


def taken(connection: Connection) -> Any:
    """A message that this worker has taken."""
    channel = connection.channel()
    queue = Queue("q", Exchange("", type="direct"), routing_key="q")
    Producer(channel).publish("work", exchange="", routing_key="q", declare=[queue])
    return channel.basic_get("q")


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
        message = taken(broker)
        tag = message.delivery_tag
        message.channel.qos._delivered.clear()  # as if Redis's answer had not been read yet
        assert connection.client.smembers(connection.keys.held(INSTANCE)) == {tag.encode()}
        run(ask, app)
        assert bool(connection.client.sismember(connection.keys.held(INSTANCE), tag)) == held
        assert bool(connection.client.hexists(connection.keys.unacked, tag)) == held


def test_what_the_worker_has_still_to_acknowledge_is_not_sent_in_another_name(app: Celery) -> None:
    connection = connect(app)
    with app.connection_for_write() as broker:
        message = taken(broker)
        channel, tag = message.channel, message.delivery_tag
        channel.outbox.put(Ack(tag=tag))
        in_another_thread(ask, app)
        assert channel.outbox.tags() == {tag}
        channel.flush_acks()
        assert channel.outbox.tags() == set()
        assert not connection.client.exists(connection.keys.held(INSTANCE), connection.keys.unacked)
