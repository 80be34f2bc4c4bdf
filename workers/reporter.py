"""The bootstep that makes a worker part of the fleet: what it is, what it serves, its report.

Reads `--hardware`, tells the pool which worker it belongs to, subscribes the worker's own queues
and, as they come, the lanes it can serve.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, Final

from celery import bootsteps
from celery.utils.log import get_logger
from celery.worker import state as worker_state
from redis.exceptions import ResponseError

from balancer import wiring
from balancer.adapters import redis_beats
from balancer.adapters.documents import description_document
from balancer.adapters.record_codec import to_plain
from balancer.adapters.redis_connection import connect
from balancer.adapters.redis_errors import refused_for_now
from balancer.errors import StoreError
from balancer.model import Hardware
from balancer.routing import is_lane
from probes.detect import parse_hardware, resolve
from probes.sample import sampler_for
from workers import identity
from workers.balance import balance_declared
from workers.lanes import LaneFollower
from workers.publish import plain_queue
from workers.pulse import Pulse
from workers.recovery import Errands
from workers.renewal import due
from workers.report import Listeners, Report
from workers.visibility import timeout_of

logger = get_logger(__name__)

#: kombu's visibility timeout where nobody sets one (s).
BROKERS_TIMEOUT_S: Final = 3600.0


class Reporter(bootsteps.StartStopStep):  # type: ignore[misc]
    """Joins the fleet at start, leaves it at shutdown, and stays through lost connections."""

    requires = (Pulse, "celery.worker.consumer.tasks:Tasks")
    current: Reporter | None = None

    def __init__(self, consumer: Any, hardware: str | None = None, **options: Any) -> None:
        super().__init__(consumer, **options)
        # Again here: a worker imports its task modules after the app was finalized.
        balance_declared(consumer.app)
        self.settings = wiring.settings_of(consumer.app)
        self.instance = identity.new_instance()
        self.hardware: Hardware = resolve(parse_hardware(hardware or self.settings.hardware))
        self.report: Report | None = None
        labels = ",".join(f"{key}={value}" for key, value in self.hardware.labels)
        # Before the pool starts, so that its processes inherit it.
        identity.announce(
            instance=self.instance,
            name=consumer.hostname,
            hardware_class=self.hardware.hardware_class,
            labels=labels,
        )
        Reporter.current = self

    def start(self, consumer: Any) -> None:
        if self.report is None:
            with as_lost_connection():
                self.report = self._join(consumer)
        for queue in self.report.follower.own_queues():
            serve(consumer, queue)
        self.report.consumer = consumer
        self.report.start()

    def stop(self, consumer: Any) -> None:
        """A lost connection: the report goes on, it has its own."""

    def shutdown(self, consumer: Any) -> None:
        if self.report is not None:
            self.report.stop()
        LaneFollower.current = None

    def _join(self, consumer: Any) -> Report:
        connection = connect(consumer.app, namespace=self.settings.namespace)
        follower = LaneFollower(connection, self.hardware, consumer.hostname)
        LaneFollower.current = follower
        # Before the first delivery: what this worker holds is found by its name in the list of the living.
        redis_beats.enter(connection.client, connection.keys, self.instance)
        slots = follower.view.slots = max(1, int(consumer.pool.num_processes or 1))
        logger.info(
            "balancer: %s serves as %s%s, slots %d, telemetry %s",
            consumer.hostname,
            self.hardware.hardware_class,
            " (emulated)" if self.hardware.emulated else "",
            slots,
            self.hardware.telemetry,
        )
        return Report(
            follower=follower,
            describe=partial(describe, consumer, follower, self.instance, slots),
            instance=self.instance,
            sampler=sampler_for(self.hardware, lambda: min(1.0, len(worker_state.active_requests) / slots)),
            consumer=consumer,
            interval_s=self.settings.heartbeat_interval,
            listeners=Listeners(
                ttl_s=self.settings.heartbeat_ttl,
                lanes=partial(serve_soon, consumer),
                told=Errands(consumer, connection, self.settings).run,
                renewed=partial(
                    due,
                    timeout_s=self._visibility_timeout(consumer),
                    interval_s=self.settings.heartbeat_interval,
                ),
            ),
        )

    def _visibility_timeout(self, consumer: Any) -> float:
        """The shortest visibility timeout (s) that a worker which is set like this one may come to follow."""
        options = consumer.app.conf.broker_transport_options or {}
        known = (self.settings.visibility_timeout, options.get("visibility_timeout"), BROKERS_TIMEOUT_S)
        return min(float(seconds) for seconds in known if seconds)

    def status(self) -> dict[str, Any]:
        """What this worker is, follows and holds, for `celery inspect balancer_status`."""
        follower = LaneFollower.current
        if self.report is None or follower is None:
            return {"state": "starting"}
        running, reserved = self.report.held()
        order = follower.order
        return {
            "instance": self.instance,
            "hardware": {
                "class": self.hardware.hardware_class,
                **to_plain(replace(self.hardware, labels=())),
                "labels": dict(self.hardware.labels),
            },
            "emulated": self.hardware.emulated,
            "order_at": order.at if order is not None else None,
            "serves": follower.servable(),
            "running": [task.task_id for task in running],
            "reserved": [task.task_id for task in reserved],
            "health": follower.view.health,
            "visibility_timeout": timeout_of(self.report.consumer),
        }


@contextmanager
def as_lost_connection() -> Iterator[None]:
    """A Redis that does not answer while a worker starts is to Celery a connection to try again."""
    try:
        yield
    except StoreError as error:
        raise ConnectionError(str(error)) from error


def describe(consumer: Any, follower: LaneFollower, instance: str, slots: int) -> str:
    """What a worker is, as a document; the lanes it serves change and are not part of it."""
    queues = [name for name in list(consumer.app.amqp.queues.consume_from) if not is_lane(name)]
    return description_document(
        name=consumer.hostname,
        instance=instance,
        hardware=follower.hardware,
        slots=slots,
        pool=type(consumer.pool).__module__.rsplit(".", 1)[-1],
        queues=[*follower.own_queues(), *(name for name in queues if name not in follower.own_queues())],
    )


def serve_soon(consumer: Any, lanes: list[str]) -> None:
    """Have the event loop serve exactly these lanes. From any thread."""
    consumer.call_soon(serve_lanes, consumer, lanes)
    if Pulse.current is not None:
        Pulse.current.wake()


def serve(consumer: Any, queue: str) -> None:
    """Consume from a queue that is reached through the default exchange; does nothing if it does, and in
    a worker that drains."""
    if LaneFollower.current is not None and LaneFollower.current.view.draining:
        return
    if queue not in consumer.app.amqp.queues:
        consumer.app.amqp.queues.add(plain_queue(queue))
    if consumer.task_consumer is not None and not consumer.task_consumer.consuming_from(queue):
        consumer.add_task_queue(queue)


def is_closed(channel: Any) -> bool:
    """Whether a channel's connection is lost and closed; the next report finds the new one."""
    return channel is None or getattr(channel.connection, "client", None) is None


def serve_lanes(consumer: Any, lanes: list[str]) -> None:
    """Consume from exactly these lanes, beside the queues that are no lanes. On the event loop."""
    if consumer.task_consumer is None or is_closed(consumer.task_consumer.channel):
        return
    try:
        for queue in lanes:
            serve(consumer, queue)
    except ResponseError as error:
        if not refused_for_now(error):
            raise
        logger.warning("lanes that are new are served with a later report: Redis refuses it: %s", error)
    wanted = set(lanes)
    for queue in [q.name for q in consumer.task_consumer.queues if is_lane(q.name) and q.name not in wanted]:
        consumer.cancel_task_queue(queue)
