"""The bootstep that has a worker claim its deliveries as it takes them.

On a kombu whose Redis transport we know; on any other the pool's processes claim what they run, as
they do where a message comes without a claim.
"""

from __future__ import annotations

import gc
from typing import Any, Final

import kombu
from celery import bootsteps
from celery.utils.log import get_logger
from kombu.transport import redis as kombu_redis
from redis.exceptions import RedisError

from balancer import wiring
from balancer.adapters.redis_connection import connect
from balancer.adapters.redis_recovery import recover_orphans
from balancer.errors import BalancerError
from workers import lease
from workers.receipts import BalancedQoS, Receiver, running_tags
from workers.reporter import Reporter

logger = get_logger(__name__)

#: Versions of kombu whose `QoS` this was written for.
KNOWN: Final = ("5.7.",)


#: How a worker publishes callbacks and retries while the broker is away; a client gives up sooner.
PATIENT: Final = {"max_retries": 12, "interval_start": 0, "interval_step": 0.2, "interval_max": 1}


class Receiving(bootsteps.StartStopStep):  # type: ignore[misc]
    """Puts our QoS on the worker's channel, again after each lost connection."""

    requires = (Reporter,)

    def __init__(self, consumer: Any, **options: Any) -> None:
        super().__init__(consumer, **options)
        self.settings = wiring.settings_of(consumer.app)
        # Before the pool starts, so that its processes inherit it.
        lease.Lease.current = lease.Lease(self.settings.heartbeat_ttl)
        if not consumer.app.conf.value_set_for("task_publish_retry_policy"):
            # A next link that cannot be published fails its task; a Redis that restarts takes seconds.
            consumer.app.conf.task_publish_retry_policy = PATIENT
        Receiver.current = None
        # What is here now stays as it is for good: left to the collector, each process of the pool would
        # write into every page of it, and so get a copy of its own.
        gc.collect()
        gc.freeze()

    def start(self, consumer: Any) -> None:
        qos = consumer.task_consumer.channel.qos
        known = kombu.__version__.startswith(KNOWN) and type(qos) is kombu_redis.QoS
        if not (known or isinstance(qos, BalancedQoS)):
            logger.info(
                "balancer: kombu %s with %s is not known; tasks are claimed as they begin, which costs more",
                kombu.__version__,
                type(qos).__qualname__,
            )
            return
        if Receiver.current is None:
            Receiver.current = self._receiver(consumer)
        if known:
            BalancedQoS.take_over(qos)
            self._give_back_orphans(Receiver.current)

    def _give_back_orphans(self, receiver: Receiver) -> None:
        """Put back what this worker holds in Redis and lost sight of with its last connection.

        Its claims would keep every other worker off those tasks for as long as this one lives.
        """
        try:
            tally = recover_orphans(
                receiver.connection,
                receiver.instance,
                running_tags(),
                heartbeat_ttl_s=self.settings.heartbeat_ttl,
            )
        except (RedisError, BalancerError) as error:
            logger.warning("what this worker lost sight of is left to be found: %s", error)
            return
        if tally:
            logger.warning("%d deliveries that were lost sight of are back in their queues", tally.returned)

    def shutdown(self, consumer: Any) -> None:
        """The receiver stays: what is still running is acknowledged by it."""

    def _receiver(self, consumer: Any) -> Receiver:
        connection = connect(consumer.app, namespace=self.settings.namespace)
        instance = self._instance(consumer)
        # Alive from the first delivery on, which may come before the first report.
        seconds, micros = connection.client.time()
        connection.client.zadd(connection.keys.alive, {instance: f"{seconds}.{micros:06d}"}, nx=True)
        return Receiver(consumer.app, connection, self.settings, instance=instance, worker=consumer.hostname)

    @staticmethod
    def _instance(consumer: Any) -> str:
        assert Reporter.current is not None
        return Reporter.current.instance
