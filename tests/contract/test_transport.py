"""The balanced transport as kombu uses it, over a real Redis: consumers and producers without workers."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import kombu
import pytest
import redis
from celery import Celery
from kombu import Connection, Consumer, Exchange, Producer, Queue
from kombu.transport import redis as kombu_redis

import workers.transport.channel as transport
from balancer.adapters.redis_connection import connect
from balancer.adapters.scripts import script_text
from balancer.errors import TransportError
from tests.contract.servers import sentinel, tls_server
from tests.waiting import wait_until


def queue(name: str, **options: Any) -> Queue:
    return Queue(name, Exchange("", type="direct"), routing_key=name, **options)


@contextmanager
def channel(url: str, **options: Any) -> Iterator[Any]:
    with Connection(url, transport_options=options) as connection:
        yield connection.channel()


@pytest.fixture
def broker(redis_url: str) -> str:
    return f"balanced-{redis_url}"


class Box:
    """A consumer that keeps what it gets."""

    def __init__(self, channel: Any, *queues: str, no_ack: bool = False, ack: bool = True) -> None:
        self.channel = channel
        self.got: list[Any] = []
        self.messages: list[Any] = []
        self.ack = ack and not no_ack
        asked = [queue(name) for name in queues]
        self.consumer = Consumer(channel, asked, callbacks=[self.take], no_ack=no_ack)

    def take(self, body: Any, message: Any) -> None:
        self.got.append(body)
        self.messages.append(message)
        if self.ack:
            message.ack()

    def drain(self, count: int, timeout_s: float = 5.0) -> list[Any]:
        """Turn until there are `count` messages."""
        connection = self.channel.connection.client

        def enough() -> bool:
            try:
                connection.drain_events(timeout=0.1)
            except TimeoutError:
                return len(self.got) >= count
            return len(self.got) >= count

        wait_until(enough, f"{count} messages; so far {self.got}", timeout_s)
        return self.got


def publish(channel: Any, name: str, body: Any, **options: Any) -> None:
    Producer(channel).publish(body, exchange="", routing_key=name, declare=[queue(name)], **options)


def wait_in_ring(box: Box, client: redis.Redis) -> None:
    """Turn until the consumer waits for the bell."""
    connection = box.channel.connection.client

    def waits() -> bool:
        with pytest.raises(TimeoutError):
            connection.drain_events(timeout=0.05)
        sent = box.channel.popping.sent
        return sent is not None and sent.kind == "ring"

    wait_until(waits, "it waits")


def under_way(channel: Any, client: redis.Redis) -> None:
    """Send a pop that takes a message, and read no answer yet."""
    client.script_load(script_text("pop")[0])
    channel.connection.cycle.on_poll_start()
    wait_until(lambda: client.hlen("unacked") == 1, "the pop has taken it")


def test_messages_come_by_priority_one_for_each_turn(broker: str) -> None:
    with channel(broker) as one:
        for priority in (9, 0, 6, 3):
            publish(one, "q", priority, priority=priority)
        box = Box(one, "q")
        with box.consumer:
            one.connection.client.drain_events(timeout=2)
            assert box.got == [0]
            assert box.drain(4) == [0, 3, 6, 9]


def test_an_ack_ends_a_delivery_and_what_is_left_goes_back_in_its_order(
    broker: str, redis_client: redis.Redis
) -> None:
    with channel(broker) as one:
        for number in range(3):
            publish(one, "q", number)
        box = Box(one, "q", ack=False)
        with box.consumer:
            box.drain(3)
            assert redis_client.hlen("unacked") == 3
            box.messages[1].ack()
            assert redis_client.hlen("unacked") == 2
    assert redis_client.hlen("unacked") == 0
    with channel(broker) as two, Box(two, "q").consumer as consumer:
        box = consumer.callbacks[0].__self__
        assert sorted(box.drain(2)) == [0, 2]


def test_a_waiting_consumer_is_rung_by_a_publisher_on_the_same_scheme(
    broker: str, redis_client: redis.Redis
) -> None:
    with channel(broker) as one, channel(broker) as two:
        box = Box(one, "q")
        with box.consumer:
            wait_in_ring(box, redis_client)
            publish(two, "q", "hello")
            assert redis_client.keys("balancer:idle:*") == []
            assert box.drain(1) == ["hello"]


def test_a_waiting_consumer_finds_by_itself_what_a_stock_publisher_sent(
    broker: str, redis_url: str, redis_client: redis.Redis
) -> None:
    with channel(broker) as one, channel(redis_url) as two:
        box = Box(one, "q")
        with box.consumer:
            wait_in_ring(box, redis_client)
            publish(two, "q", "hello", priority=6)
            assert box.drain(1) == ["hello"]


def test_a_stock_consumer_takes_what_a_publisher_of_ours_sent(broker: str, redis_url: str) -> None:
    with channel(redis_url) as one, channel(broker) as two:
        publish(two, "q", "hello", priority=9)
        box = Box(one, "q")
        with box.consumer:
            assert box.drain(1) == ["hello"]


def test_what_needs_no_ack_leaves_nothing_behind(broker: str, redis_client: redis.Redis) -> None:
    with channel(broker) as one:
        publish(one, "q", 1)
        box = Box(one, "q", no_ack=True)
        with box.consumer:
            assert box.drain(1) == [1]
            assert not redis_client.exists("unacked", "unacked_index")


def test_one_message_is_got_by_direct_access(broker: str, redis_client: redis.Redis) -> None:
    with channel(broker) as one:
        assert one.basic_get("q") is None
        publish(one, "q", 1)
        publish(one, "q", 2)
        message = one.basic_get("q")
        assert message.payload == 1
        assert redis_client.hlen("unacked") == 1
        message.ack()
        assert one.basic_get("q", no_ack=True).payload == 2
        assert not redis_client.exists("unacked", "q")


def test_a_queue_that_expires_lives_as_long_as_it_is_used(broker: str, redis_client: redis.Redis) -> None:
    with channel(broker) as one:
        Producer(one).publish(1, exchange="", routing_key="q", declare=[queue("q", expires=60)])
        assert 0 < redis_client.pttl("q") <= 60_000
        publish(one, "other", 1)
        assert redis_client.pttl("other") == -1


def test_a_requeued_message_comes_again(broker: str, redis_client: redis.Redis) -> None:
    with channel(broker) as one:
        publish(one, "q", 1)
        box = Box(one, "q", ack=False)
        with box.consumer:
            box.drain(1)
            box.messages[0].requeue()
            box.drain(2)
            box.messages[1].reject()
        assert not redis_client.exists("unacked", "q")


def test_what_was_given_back_is_not_ended_by_who_had_it(broker: str, redis_client: redis.Redis) -> None:
    with channel(broker) as one, channel(broker) as two:
        publish(one, "q", 1)
        late, heir = Box(one, "q", ack=False), Box(two, "q", ack=False)
        with late.consumer:
            late.drain(1)
        one.qos.restore_unacked()
        with heir.consumer:
            heir.drain(1)
            one.basic_ack(late.messages[0].delivery_tag)
            one.basic_reject(late.messages[0].delivery_tag, requeue=True)
            assert (redis_client.llen("q"), redis_client.hlen("unacked")) == (0, 1)
            heir.messages[0].ack()
            wait_until(lambda: not redis_client.hlen("unacked"), "its own ack ends it")


def test_what_has_ended_here_is_not_given_back(broker: str, redis_client: redis.Redis) -> None:
    """Its ack is on the way when the connection is lost."""
    with channel(broker) as one:
        publish(one, "q", 1)
        box = Box(one, "q", ack=False)
        with box.consumer:
            box.drain(1)
        one.qos.drop(box.messages[0].delivery_tag)
        one.qos.restore_unacked()
        assert (redis_client.llen("q"), redis_client.hlen("unacked")) == (0, 1)


def test_a_cancelled_consumers_message_under_way_goes_back(broker: str, redis_client: redis.Redis) -> None:
    with channel(broker) as one:
        box, other = Box(one, "q"), Box(one, "r")
        box.consumer.consume()
        other.consumer.consume()
        publish(one, "q", 1)
        under_way(one, redis_client)
        box.consumer.cancel()
        publish(one, "r", 2)
        assert other.drain(1) == [2]
        assert box.got == []
        assert redis_client.llen("q") == 1


def test_a_channel_that_closes_with_a_pop_under_way_gives_back(
    broker: str, redis_client: redis.Redis
) -> None:
    with channel(broker) as one:
        box = Box(one, "q")
        box.consumer.consume()
        publish(one, "q", 1)
        under_way(one, redis_client)
        one.close()
    assert box.got == []
    assert (redis_client.llen("q"), redis_client.hlen("unacked")) == (1, 0)


def test_a_channel_that_closes_while_it_waits_is_not_rung_any_more(
    broker: str, redis_client: redis.Redis
) -> None:
    with channel(broker) as one:
        box = Box(one, "q")
        box.consumer.consume()
        wait_in_ring(box, redis_client)
    assert redis_client.keys("balancer:idle:*") == []


def test_a_server_that_forgot_its_scripts_is_sent_their_text(broker: str, redis_client: redis.Redis) -> None:
    with channel(broker) as one, channel(broker) as two:
        box = Box(one, "q")
        with box.consumer:
            for number in range(4):
                redis_client.script_flush()
                publish(two, "q", number)
                redis_client.script_flush()
                box.drain(number + 1)
        assert box.got == [0, 1, 2, 3]
        assert redis_client.hlen("unacked") == 0


def test_a_connection_that_is_cut_is_made_again_and_nothing_is_lost(
    broker: str, redis_client: redis.Redis
) -> None:
    with channel(broker) as one:
        box = Box(one, "q")
        with box.consumer:
            wait_in_ring(box, redis_client)
            redis_client.client_kill_filter(_type="normal", skipme=True)
            with pytest.raises(one.connection_errors):
                box.drain(1)
            publish(one, "q", 1)
            assert box.drain(1) == [1]


def test_a_publisher_whose_channel_another_thread_has_closed_opens_a_new_one(broker: str) -> None:
    with Connection(broker) as connection:
        producer = Producer(connection)
        closed = producer.channel
        closed.close()
        assert closed.connection is None
        with pytest.raises(redis.ConnectionError, match="closed meanwhile"):
            closed.pool  # noqa: B018
        policy = {"max_retries": 2, "interval_start": 0}
        asked = queue("reopened")
        producer.publish(1, routing_key=asked.name, declare=[asked], retry=True, retry_policy=policy)
        assert producer.channel is not closed
    with channel(broker) as other, (box := Box(other, asked.name)).consumer:
        assert box.drain(1) == [1]


def test_a_batch_of_publishes_rings_too(broker: str, redis_client: redis.Redis) -> None:
    with channel(broker, global_keyprefix="shop:") as one, channel(broker, global_keyprefix="shop:") as two:
        box = Box(one, "q")
        with box.consumer:
            wait_in_ring(box, redis_client)
            batch = two.create_publish_batch(10)
            message = two.prepare_message("1", 0, "application/json", "utf-8")
            batch.publish(message, exchange="", routing_key="q")
            batch.flush()
            batch.close()
            assert redis_client.keys("shop:balancer:idle:*") == []
            assert box.drain(1) == [1]


def test_a_fanout_message_reaches_every_consumer(broker: str) -> None:
    exchange = Exchange("news", type="fanout")
    with channel(broker) as one, channel(broker) as two:
        boxes = [Box(one), Box(two)]
        for box, name in zip(boxes, ("a", "b"), strict=True):
            box.consumer.add_queue(Queue(name, exchange))
            box.consumer.consume()
        for box in boxes:
            box.drain(0)
        Producer(two).publish("x", exchange=exchange, declare=[exchange])
        assert [box.drain(1) for box in boxes] == [["x"], ["x"]]


def test_keys_bear_the_brokers_prefix_and_its_own_steps(broker: str, redis_client: redis.Redis) -> None:
    options = {"global_keyprefix": "shop:", "sep": "/", "priority_steps": [0, 2, 5]}
    with channel(broker, **options) as one, channel(broker, **options) as two:
        box = Box(one, "q")
        with box.consumer:
            wait_in_ring(box, redis_client)
            publish(two, "q", 1, priority=5)
            assert redis_client.llen("shop:q/5") == 1
            box.drain(1)
        stray = [key for key in redis_client.scan_iter() if not key.startswith(b"shop:")]
    assert stray == []


def test_it_speaks_tls(tmp_path: Path) -> None:
    with tls_server(tmp_path) as (url, cert), Connection(
        f"balanced-{url}?ssl_cert_reqs=required&ssl_ca_certs={cert}"
    ) as connection:
        one = connection.channel()
        publish(one, "q", 1)
        box = Box(one, "q")
        with box.consumer:
            assert box.drain(1) == [1]


def test_tls_without_options_is_as_kombus_own_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with tls_server(tmp_path) as (url, _), Connection(f"balanced-{url}") as connection:
        publish(connection.channel(), "q", 1)
    assert "certificate is not checked" in caplog.text


def test_it_follows_a_sentinel(redis_url: str, redis_client: redis.Redis, tmp_path: Path) -> None:
    options = redis_client.connection_pool.connection_kwargs
    with sentinel(options["port"], options["password"], tmp_path) as port:
        one_more = f"balanced-sentinel://:{options['password']}@127.0.0.1:{port}/0"
        urls = f"balanced-sentinel://:{options['password']}@127.0.0.1:{port}/0;{one_more}"
        with channel(urls, master_name="main") as one:
            publish(one, "q", 1)
            box = Box(one, "q")
            with box.consumer:
                assert box.drain(1) == [1]
        made = Celery("t", broker=urls, set_as_current=False)
        made.conf.broker_transport_options = {"master_name": "main"}
        connection = connect(made)
        assert connection.client.ping()
        connection.close()
        made.close()


@pytest.mark.parametrize(
    ("version", "lacks"), [((5, 8, 0), None), ((5, 7, 1), (kombu_redis.Channel, "_brpop_read"))]
)
def test_an_unknown_kombu_is_refused_with_the_way_out(
    broker: str, monkeypatch: pytest.MonkeyPatch, version: tuple[int, ...], lacks: Any
) -> None:
    monkeypatch.setattr(kombu, "VERSION", version)
    monkeypatch.setattr(kombu, "__version__", ".".join(map(str, version)))
    if lacks:
        monkeypatch.setitem(transport.NEEDED, lacks[0], ("_no_such_method",))
    with pytest.raises(TransportError, match=r"kombu 5\.\d\.\d is not one.*broker_url to redis://"):
        Connection(broker).connect()


def test_a_result_backend_may_have_the_brokers_url(broker: str) -> None:
    app = Celery("t", broker=broker, backend=broker, set_as_current=False)
    assert app.backend.client.ping()
    assert type(app.backend).__name__ == "RedisBackend"
    app.close()


def test_a_thread_may_acknowledge(broker: str, redis_client: redis.Redis) -> None:
    with channel(broker) as one:
        publish(one, "q", 1)
        box = Box(one, "q", ack=False)
        with box.consumer:
            box.drain(1)
            thread = threading.Thread(target=box.messages[0].ack)
            thread.start()
            thread.join()
        assert redis_client.hlen("unacked") == 0
