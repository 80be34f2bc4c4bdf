"""What a consumer on the balanced transport holds and acknowledges.

What `pop.lua` delivered is entered in Redis already, so appending it is a note in this process. On
an event loop an ack waits for the turn's end, where it rides on the next pop, or goes with all the
others of that turn.
"""

from __future__ import annotations

import weakref
from typing import Any, Final

from celery.utils.log import get_logger
from celery.worker import state as worker_state
from kombu.transport import virtual

from balancer.adapters.redis_recovery import Recovery
from workers.receipts import BalancedQoS, running_tags
from workers.transport.acks import Ack
from workers.transport.fleet import Fleet

logger = get_logger(__name__)

#: Every live consumer's holdings in this process: what is in none of them was lost sight of.
HOLDING: Final[weakref.WeakSet[Any]] = weakref.WeakSet()


class AtomicQoS(BalancedQoS):
    """The worker's QoS over deliveries that the pop entered and claimed."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.receipts = {}
        #: Tag → token of what a pop has entered and what is about to be appended.
        self.entered: dict[str, str | None] = {}
        HOLDING.add(self)

    def append(self, message: Any, delivery_tag: str) -> None:
        if delivery_tag not in self.entered:
            super().append(message, delivery_tag)
            return
        token = self.entered.pop(delivery_tag)
        if token is None:
            virtual.QoS.append(self, message, delivery_tag)
        else:
            self.keep(message, delivery_tag, token)

    def ack(self, delivery_tag: str) -> None:
        receipt = self.receipts.get(delivery_tag)
        if receipt is None:
            if self.holds(delivery_tag):
                self.end(Ack(tag=delivery_tag))
            return
        refused = "1" if receipt.refused else ""
        self.end(Ack(tag=delivery_tag, task_id=receipt.task_id, token=receipt.token, event=receipt.event,
                     refused=refused))  # fmt: skip

    def holds(self, tag: str) -> bool:
        """Whether a delivery is in this consumer's hands. Of one that was given back, or has ended, the
        entry in Redis may be another's: a message keeps its tag."""
        return tag in self._delivered and tag not in self._dirty

    def end(self, ack: Ack) -> None:
        """Acknowledge a delivery, at once or with the turn of the event loop that this is."""
        self.channel.outbox.put(ack)
        self.drop(ack.tag)
        if not self.channel.turning():
            self.channel.flush_acks()

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        if delivery_tag in self.receipts:
            super().reject(delivery_tag, requeue)
        elif not self.holds(delivery_tag):
            return
        elif requeue:
            self.restore_by_tag(delivery_tag, leftmost=True)
            self.drop(delivery_tag)
        else:
            self.end(Ack(tag=delivery_tag))

    def restore_by_tag(self, tag: str, client: Any = None, leftmost: bool = False) -> None:
        super().restore_by_tag(tag, client, leftmost)
        fleet = self.channel.fleet
        if fleet.instance:
            fleet.connection.client.srem(fleet.connection.keys.held(fleet.instance), tag)


def ends() -> bool:
    """Whether this worker was told to stop: its event loop does not turn any more."""
    # An exit code of 0 says so, too.
    told = worker_state.should_stop, worker_state.should_terminate
    return any(one is not None and one is not False for one in told)


def known_tags() -> set[str]:
    """Deliveries that anybody in this process knows of."""
    known = running_tags()
    for qos in list(HOLDING):
        known.update(str(tag) for tag in list(qos._delivered))
        known.update(list(qos.entered))
    return known


def popping_elsewhere(channel: Any) -> bool:
    """Whether another channel of this process has a pop under way, whose deliveries nobody knows yet."""
    others = (qos.channel for qos in list(HOLDING) if qos.channel is not channel)
    sent = (other.popping.sent for other in others if "popping" in other.__dict__)
    return any(one is not None and one.kind == "pop" for one in sent)


def give_back_orphans(channel: Any) -> bool:
    """Put back what this worker holds in Redis and nobody here knows of: an answer was lost on its way.

    `False` where that cannot be told now. Raises what Redis raises.
    """
    fleet: Fleet = channel.fleet
    if popping_elsewhere(channel):
        return False
    recovery = Recovery(
        fleet.connection,
        heartbeat_ttl_s=fleet.heartbeat_ttl_s,
        deaths_limit=1_000_000,  # nobody died
        fence_ttl_s=fleet.fence_ttl_s,
    )
    given = recovery.give_back_orphans(fleet.instance, known_tags() | channel.outbox.tags())
    if given:
        logger.warning("%d deliveries whose answer was lost went back to their queues", given.returned)
    return True
