"""One entry of kombu's `unacked`: a message that a worker took and has not acknowledged.

Read, and rewritten as it must lie in a queue again, by whoever gives a dead worker's deliveries
back. The body is never touched. Pure but for the random part of a fresh tag.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from balancer.adapters.redis_fence import Delivery, rewrite
from balancer.errors import StoreError


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldMessage:
    """A delivery as `unacked` keeps it. `raw` is the whole entry."""

    raw: bytes
    message: Mapping[str, Any]
    exchange: str
    routing_key: str
    delivery: Delivery
    balanced: bool

    @property
    def task_id(self) -> str:
        return self.delivery.task_id

    @property
    def headers(self) -> Mapping[str, Any]:
        return self.message["headers"]  # type: ignore[no-any-return]

    @property
    def task(self) -> str:
        return str(self.headers.get("task") or "")

    @property
    def profile(self) -> str:
        header = self.headers.get("balancer")
        profile = header.get("profile") if isinstance(header, Mapping) else None
        return profile if isinstance(profile, str) and profile else self.task

    @property
    def home(self) -> str:
        """The queue of the operator's own that it was moved out of; "" where there is none."""
        header = self.headers.get("balancer")
        home = header.get("home") if isinstance(header, Mapping) else None
        return home if isinstance(home, str) else ""

    @property
    def published_at(self) -> float:
        """The publisher's clock (s); 0 where the message does not say, so that it comes first."""
        header = self.headers.get("balancer")
        at = header.get("at") if isinstance(header, Mapping) else None
        return float(at) if isinstance(at, int | float) else 0.0

    @property
    def priority(self) -> int:
        properties = self.message["properties"]
        priority = properties.get("priority")
        priority = properties["delivery_info"].get("priority") if priority is None else priority
        return priority if isinstance(priority, int) else 0

    @property
    def redelivered(self) -> bool:
        """Whether kombu restored it once: only then may two workers' entries bear one tag."""
        return bool(self.headers.get("redelivered"))

    def moved_to(self, queue: str, *, begun: bool = False) -> str | bytes:
        """The message with a fresh tag and the next epoch, as it lies in `queue`; what has `begun` does not
        expire any more."""
        return rewrite(self.raw, queue, self.delivery, begun=begun)[0]

    def again_in(self, queue: str) -> str:
        """The message with a fresh tag and its own epoch, as it lies in `queue`.

        A balanced one was committed: it answers, however late. What is not balanced keeps its exchange and
        routing key, and is marked as kombu marks it.
        """
        message: dict[str, Any] = json.loads(json.dumps(self.message))
        properties = message["properties"]
        properties["delivery_tag"] = f"{self.delivery.tag.split('~')[0]}~{secrets.token_hex(3)}"
        if self.balanced:
            properties["delivery_info"] |= {"exchange": "", "routing_key": queue}
            message["headers"]["balancer"]["begun"] = True
        else:
            message["headers"]["redelivered"] = properties["delivery_info"]["redelivered"] = True
        return json.dumps(message)


def read_held(tag: str, raw: bytes) -> HeldMessage:
    """The entry `raw` under `tag`. Raises `StoreError` where it is none that kombu writes.

    What names no task in its headers (protocol 1, or another consumer's) goes by its `correlation_id`.
    """
    try:
        message, exchange, routing_key = json.loads(raw)
        headers, properties = message["headers"], message["properties"]
        balancer = headers.get("balancer")
        epoch = balancer.get("epoch") if isinstance(balancer, dict) else 0
        delivery = Delivery(
            task_id=str(headers.get("id") or properties.get("correlation_id") or tag),
            nesting=int(headers.get("replaced_task_nesting") or 0),
            retries=int(headers.get("retries") or 0),
            epoch=epoch if isinstance(epoch, int) and 0 <= epoch < 10**6 else 0,
            tag=tag,
        )
        if not isinstance(properties["delivery_info"], dict):
            raise TypeError("delivery_info is no object")
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
        raise StoreError(f"the delivery {tag} is no message of kombu's: {error!r}") from error
    return HeldMessage(
        raw=raw, message=message, exchange=str(exchange or ""), routing_key=str(routing_key or ""),
        delivery=delivery, balanced=isinstance(balancer, dict),
    )


def read_queued(raw: bytes) -> HeldMessage:
    """A message as it lies in a queue. Raises `StoreError` where it is none that kombu writes."""
    try:
        message = json.loads(raw)
        properties = message["properties"]
        info = properties["delivery_info"]
        entry = json.dumps([message, info.get("exchange", ""), info.get("routing_key", "")])
        return read_held(str(properties["delivery_tag"]), entry.encode())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise StoreError(f"it is no message of kombu's: {error!r}") from error
