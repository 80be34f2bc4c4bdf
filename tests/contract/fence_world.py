"""One balanced task among workers that fall silent, die or are late: the real scripts, called as they do.

`take` is what the stock transport does (a pop, then `receive.lua`) or the atomic one (`pop.lua`). Each
script may be sent twice, as when its answer was lost; the second answer counts then.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, Final, Literal, TypeVar

from balancer.adapters.redis_connection import Connection
from balancer.adapters.redis_fence import RUNNING_TTL_S, Delivery, Fence
from balancer.adapters.redis_recovery import Recovery
from balancer.model import RunFinished
from tests.contract.messages import raw_message

TASK: Final = "00000000-0000-0000-0000-00000000000a"
LANE, OTHER = "bal.lane.p", "elsewhere"
TTL_S: Final = 10.0
FINISHED: Final = RunFinished(
    at=0.0,
    task_id=TASK,
    profile="p",
    worker="w",
    hardware_class="cpu",
    epoch=0,
    outcome="success",
    duration_s=1.0,
)
T = TypeVar("T")

Stage = Literal["waiting", "running", "committed", "retried", "refused"]


@cache
def fence_for(connection: Connection, owner: str) -> Fence:
    """One for each worker: it keeps a connection of its own."""
    return Fence(connection, owner=owner, worker=owner, fence_ttl_s=100, heartbeat_ttl_s=TTL_S)


@dataclass(slots=True, kw_only=True, eq=False)
class Holding:
    """What one worker remembers of a delivery of its own."""

    owner: str
    delivery: Delivery
    verdict: str
    stage: Stage = "waiting"

    @property
    def token(self) -> str:
        return self.delivery.claim


@dataclass(slots=True, kw_only=True)
class World:
    """The Redis, the workers' memories, and the ends that came through."""

    connection: Connection
    atomic: bool
    hands: list[Holding] = field(default_factory=list)
    ends: list[str] = field(default_factory=list)
    twice: bool = False
    tags: int = 0

    def fence(self, owner: str) -> Fence:
        return fence_for(self.connection, owner)

    def recovery(self) -> Recovery:
        return Recovery(self.connection, heartbeat_ttl_s=TTL_S, deaths_limit=0, fence_ttl_s=100)

    def sent(self, script: Callable[[], T]) -> T:
        """Run a script once, or twice as when the first answer was lost."""
        if self.twice:
            script()
        return script()

    def beat(self, owner: str, *, silent: bool = False) -> None:
        seconds, micros = self.connection.client.time()
        at = 1.0 if silent else seconds + micros / 1e6
        self.connection.client.zadd(self.connection.keys.alive, {owner: at})

    def record(self) -> dict[str, str]:
        raw = self.connection.client.hgetall(self.connection.keys.fence(TASK))
        return {name.decode(): value.decode() for name, value in raw.items()}

    # Messages.

    def publish(self, *, retries: int = 0, epoch: int = 0) -> None:
        """A message of the task as a client or `retry()` sends it, under a fresh tag."""
        self.tags += 1
        message = json.loads(raw_message(TASK, "p", at=1.0, queue=LANE))
        message["headers"]["retries"] = retries
        message["headers"]["balancer"]["epoch"] = epoch
        message["properties"]["delivery_tag"] = f"tag{self.tags}"
        self.connection.client.lpush(LANE, json.dumps(message))

    def waiting(self) -> list[bytes]:
        return [raw for queue in (LANE, OTHER) for raw in self.connection.client.lrange(queue, 0, -1)]

    def restore(self, tag: str) -> None:
        """kombu's restore after the visibility timeout: the same tag lies in its queue again."""
        client, keys = self.connection.client, self.connection.keys
        raw = client.hget(keys.unacked, tag)
        if raw is None:
            return
        message, _, queue = json.loads(raw)
        message["headers"]["redelivered"] = True
        client.hdel(keys.unacked, tag)
        client.zrem(keys.unacked_index, tag)
        client.rpush(queue, json.dumps(message))

    # What a worker does.

    def take(self, owner: str) -> None:
        """Take the next message of either queue and claim its task."""
        told = self._pop(owner) if self.atomic else self._pop_and_receive(owner)
        if told is None:
            return
        raw, verdict, token = told
        delivery = replace(delivery_of(raw), claim=token)
        if verdict in ("taken", "answer"):
            self.hands.append(Holding(owner=owner, delivery=delivery, verdict=verdict))
        elif verdict == "cancelled":
            self.fence(owner).close(delivery)
            self._ack(Holding(owner=owner, delivery=delivery, verdict=verdict), "", refused=False)
            self.ends.append("cancelled")  # as often as it is told so

    def knows(self, owner: str) -> bool:
        return any(holding.owner == owner for holding in self.hands)

    def _pop_and_receive(self, owner: str) -> tuple[bytes, str, str] | None:
        client = self.connection.client
        raw = client.rpop(LANE) or client.rpop(OTHER)
        return None if raw is None else (raw, *self._receive(owner, raw))

    def _receive(self, owner: str, raw: bytes) -> tuple[str, str]:
        keys, delivery, nonce = self.connection.keys, delivery_of(raw), secrets.token_hex(6)
        info = json.loads(raw)["properties"]["delivery_info"]
        entry = json.dumps([json.loads(raw), info["exchange"], info["routing_key"]])
        answer = self.sent(
            lambda: self.connection.script("receive")(
                [
                    keys.fence(TASK), keys.alive, keys.state(TASK), keys.events, keys.cancelled,
                    keys.unacked, keys.unacked_index, keys.held(owner),
                ],
                [
                    delivery.generation, owner, delivery.tag, TTL_S, owner, nonce, RUNNING_TTL_S, TASK,
                    entry, time.time(), "" if self.knows(owner) else "1",
                ],
            )
        )  # fmt: skip
        return answer[0].decode(), answer[1].decode()

    def _pop(self, owner: str) -> tuple[bytes, str, str] | None:
        keys, steps = self.connection.keys, self.connection.keys.priority_steps
        messages, _, _ = self.connection.script("pop")(
            [keys.unacked, keys.unacked_index, keys.held(owner), keys.events, keys.alive, keys.cancelled],
            [
                keys.ours(""), 1, "0", time.time(), owner, owner, secrets.token_hex(6), TTL_S, RUNNING_TTL_S,
                100, f"{owner}/1", "group", "", keys.sep, len(steps), 2, 0, *steps, LANE, "", OTHER, "",
            ],
        )  # fmt: skip
        if not messages:
            return None
        _, raw, verdict, token, *_ = messages[0]
        if verdict == b"held":
            return self._held(owner, raw)
        return raw, verdict.decode(), token.decode()

    def _held(self, owner: str, raw: bytes) -> tuple[bytes, str, str]:
        """The fence says that this very worker has the task: it has, or it lost sight of it."""
        if not self.knows(owner):
            return (raw, *self._receive(owner, raw))
        tag = delivery_of(raw).tag
        if self.record().get("tag") not in (None, tag):
            keys = self.connection.keys
            self.connection.client.hdel(keys.unacked, tag)
            self.connection.client.srem(keys.held(owner), tag)
        return raw, "held", ""

    def ack(self, holding: Holding) -> None:
        """Acknowledge; the ack commits a run that nothing else has committed."""
        commits = holding.stage == "running" and holding.verdict == "taken"
        known = self.record()
        event = document(FINISHED) if commits else ""
        answer = self._ack(holding, event, refused=holding.stage == "refused")
        if commits and answer == 1 and known:
            self.ends.append(holding.token)
        self.hands.remove(holding)

    def _ack(self, holding: Holding, event: str, *, refused: bool) -> int:
        keys = self.connection.keys
        return int(
            self.sent(
                lambda: self.connection.script("ack")(
                    [
                        keys.fence(TASK), keys.state(TASK), keys.want(TASK), keys.events, keys.unacked,
                        keys.unacked_index, keys.held(holding.owner),
                    ],
                    [
                        holding.token, holding.delivery.tag, holding.owner, 100, event,
                        "1" if refused else "",
                    ],
                )
            )
        )  # fmt: skip

    def finish(self, holding: Holding) -> None:
        """Commit and store the result in one step."""
        answer = self.sent(
            lambda: self.fence(holding.owner).finish(
                TASK,
                holding.token,
                key=f"celery-task-meta-{TASK}",
                document='{"status": "SUCCESS"}',
                expires_s=100,
                told=document(FINISHED),
                refused=document(replace(FINISHED, outcome="stale")),
            )
        )
        holding.stage = "committed" if answer == "stored" else "refused"
        if answer == "stored":
            self.ends.append(holding.token)

    def commit(self, holding: Holding, end: Literal["fin", "again"]) -> None:
        stale = replace(FINISHED, outcome="stale")
        ours = self.sent(
            lambda: self.fence(holding.owner).commit(
                TASK, holding.token, FINISHED, stale, end=end, kept=b"value" if end == "fin" else b""
            )
        )
        holding.stage = "committed" if ours else "refused"
        if ours and end == "fin":
            self.ends.append(holding.token)

    def leave(self, holding: Holding) -> None:
        """Hand the task to the other queue, running or reserved."""
        token = holding.token if holding.stage == "running" else None
        answer = self.sent(
            lambda: self.fence(holding.owner).relinquish(holding.delivery, OTHER, "m", token=token)
        )
        if answer == "moved":
            self.hands.remove(holding)
        elif token is not None:
            if answer == "gone":
                self.fence(holding.owner).release(TASK, holding.delivery.tag, token=token)
            holding.stage = "refused"

    def lose(self, holding: Holding) -> None:
        """Its pool process is gone: the claim is given back and the message with it."""
        self.sent(lambda: self.fence(holding.owner).release(TASK, holding.delivery.tag, lost=True))
        keys = self.connection.keys
        raw = self.connection.client.hget(keys.unacked, holding.delivery.tag)
        message = json.dumps(json.loads(raw)[0]) if raw else ""
        queues = [json.loads(raw)[2]] if raw else []
        self.sent(
            lambda: self.connection.script("reject")(
                [
                    keys.fence(TASK), keys.unacked, keys.unacked_index, keys.held(holding.owner),
                    keys.state(TASK), keys.want(TASK), *queues,
                ],
                [
                    holding.token, holding.delivery.tag, holding.owner, 100, 1000, message, "front",
                    keys.ours(""), keys.sep,
                ],
            )
        )  # fmt: skip
        self.hands.remove(holding)

    def forget(self, owner: str) -> None:
        """The worker is gone with all that it remembered."""
        self.hands = [holding for holding in self.hands if holding.owner != owner]

    def recover(self, owner: str) -> None:
        self.recovery().recover_unlocked(owner)


def document(event: Any) -> str:
    from balancer.adapters.documents import event_document

    return str(event_document(event))


def delivery_of(raw: bytes) -> Delivery:
    message = json.loads(raw)
    return Delivery(
        task_id=TASK,
        nesting=0,
        retries=message["headers"]["retries"],
        epoch=message["headers"]["balancer"]["epoch"],
        tag=message["properties"]["delivery_tag"],
    )
