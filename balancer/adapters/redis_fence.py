"""The fence in Redis: one record a task, so that no stale copy runs or finishes.

Typed wrappers over `lua/claim.lua`, `begin.lua`, `commit.lua`, `finish.lua`, `settle.lua`,
`release.lua`, `close.lua`, `checkpoint.lua` and `relinquish.lua`. Each may be sent again when its
answer was lost. Used in a worker's pool process and in its main process.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Literal

from balancer.adapters.bindings import came_to
from balancer.adapters.documents import event_document
from balancer.adapters.redis_connection import Connection
from balancer.adapters.redis_line import Line
from balancer.errors import StoreError
from balancer.model import Event, HandedOver
from balancer.routing import is_ours

Verdict = Literal["taken", "answer", "held", "stale", "done", "cancelled"]
Closed = Literal["closed", "none", "committed", "elsewhere"]

#: How long a fence or a checkpoint that nobody comes back to is kept (s): seven days.
ABANDONED_TTL_S: Final = 7 * 86400

#: How long the fence of a running task is kept (s), each checkpoint begins anew: far beyond any body,
#: so that what a purged queue or a lost host left behind goes in the end.
RUNNING_TTL_S: Final = 30 * 86400

#: Entries of the event stream that are kept, about an hour of a busy fleet.
EVENTS_KEPT: Final = 200_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """The answer to a claim. `token` proves ownership, `at` is the server's clock (s)."""

    verdict: Verdict
    token: str
    at: float
    same_tag: bool
    kept: bytes = b""
    suspect: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a checkpoint learned: whether the run is still ours, and whether it should leave."""

    ours: bool
    move_id: str = ""
    queue: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One delivery of a task: its generation (nesting, retries, epoch) and the broker's tag.

    `claim` is the token of a claim that was taken with it, "" where its run claims it.
    """

    task_id: str
    nesting: int
    retries: int
    epoch: int
    tag: str
    claim: str = ""

    @property
    def generation(self) -> str:
        """Sortable text: a later delivery of the same task compares greater."""
        return f"{self.nesting:06d}.{self.retries:06d}.{self.epoch:06d}"

    def next_generation(self) -> str:
        return f"{self.nesting:06d}.{self.retries:06d}.{self.epoch + 1:06d}"


class Fence:
    """The fence of one fleet, seen from one worker (`owner` is its instance)."""

    def __init__(
        self, connection: Connection, *, owner: str, worker: str, fence_ttl_s: float, heartbeat_ttl_s: float
    ) -> None:
        self.connection = connection
        self.owner = owner
        self.worker = worker
        self.fence_ttl_s = max(1, int(fence_ttl_s))
        self.heartbeat_ttl_s = heartbeat_ttl_s
        self._line = Line(connection)

    def _run(self, name: str, keys: list[str], args: list[Any]) -> Any:
        return self._line.run(name, keys, args)

    def claim(self, delivery: Delivery, event: Event, *, nonce: str = "") -> Claim:
        """Take a delivery for one run. `event` is the `RunStarted` told when it is taken.

        `nonce` is the run's own: a claim that is repeated with it is the same claim.
        """
        keys = self.connection.keys
        verdict, token, at, same, kept, suspect = self._run(
            "claim",
            [
                keys.fence(delivery.task_id),
                keys.alive,
                keys.state(delivery.task_id),
                keys.events,
                keys.cancelled,
            ],
            [
                delivery.generation,
                self.owner,
                delivery.tag,
                self.heartbeat_ttl_s,
                event_document(event),
                self.worker,
                nonce,
                RUNNING_TTL_S,
                delivery.task_id,
            ],
        )
        return Claim(
            verdict=verdict.decode(),
            token=token.decode(),
            at=float(at),
            same_tag=bool(same),
            kept=bytes(kept),
            suspect=bool(suspect),
        )

    def begin(self, task_id: str, token: str) -> bool:
        """Note that the body of a claimed run begins. `False`: the claim does not hold any more."""
        return bool(self._run("begin", [self.connection.keys.fence(task_id)], [token]))

    def finish(
        self,
        task_id: str,
        token: str,
        *,
        key: str,
        document: str | bytes,
        expires_s: int,
        told: str,
        refused: str,
    ) -> Literal["stored", "refused", "occupied"]:
        """Commit a run and store its result under `key`, in this Redis, in one step.

        `told` and `refused` are the documents of its `RunFinished`. "occupied": there is a result that
        this one may not simply replace, and nothing was done.
        """
        keys = self.connection.keys
        answer = self._run(
            "finish",
            [keys.fence(task_id), keys.events, keys.state(task_id), keys.want(task_id), key],
            [token, self.fence_ttl_s, document, expires_s, told, refused],
        )
        return ("refused", "stored", "occupied")[answer]

    def commit(
        self,
        task_id: str,
        token: str,
        event: Event,
        refused: Event,
        *,
        end: Literal["fin", "again", "done"] = "fin",
        kept: bytes = b"",
        generation: str = "",
    ) -> bool:
        """Commit a run's end. `False`: it is not ours.

        `end`: "fin" while a result is still to be stored, "again" when the task comes back as
        another generation, "done" when nothing follows. With the `generation` of the run's delivery
        the last two are taken, too, where the retry that it has published runs already.
        """
        keys = self.connection.keys
        return bool(
            self._run(
                "commit",
                [keys.fence(task_id), keys.events, keys.state(task_id)],
                [
                    token,
                    end,
                    kept,
                    event_document(event),
                    event_document(refused),
                    self.fence_ttl_s,
                    generation,
                ],
            )
        )

    def settle(self, task_id: str, token: str) -> bool:
        """The result is stored: drop the kept value and the checkpoint, remember the end for a while."""
        keys = self.connection.keys
        return bool(
            self._run(
                "settle",
                [keys.fence(task_id), keys.state(task_id), keys.want(task_id)],
                [token, self.fence_ttl_s],
            )
        )

    def release(self, task_id: str, tag: str, *, token: str = "", lost: bool = False) -> int | None:
        """Give a claim back so that the same delivery may be claimed again; `None` when it is not ours.

        `lost` counts the loss of a process; returns how many there were since the last checkpoint.
        """
        count = self._run(
            "release",
            [self.connection.keys.fence(task_id)],
            [self.owner, tag, ABANDONED_TTL_S, token, "lost" if lost else ""],
        )
        return None if count < 0 else int(count)

    def close(self, delivery: Delivery) -> Closed:
        """End a task from outside its body: no run may commit it any more."""
        keys, task_id = self.connection.keys, delivery.task_id
        answer = self._run(
            "close",
            [keys.fence(task_id), keys.state(task_id), keys.want(task_id)],
            [delivery.generation, self.owner, delivery.tag, self.fence_ttl_s],
        )
        return answer.decode()  # type: ignore[no-any-return]

    def holds(self, task_id: str, token: str) -> bool:
        """Whether this run still owns the task."""
        claim, state = self.connection.client.hmget(self.connection.keys.fence(task_id), ["claim", "state"])
        return bool(claim is not None and claim.decode() == token and state == b"run")

    def checkpoint(self, task_id: str, token: str, data: bytes, share: float | None) -> Wanted:
        """Save `data` (empty saves nothing) and learn whether the task should leave."""
        keys = self.connection.keys
        ours, move_id, queue = self._run(
            "checkpoint",
            [keys.fence(task_id), keys.state(task_id), keys.want(task_id)],
            [token, data, "" if share is None else f"{share:.6f}", ABANDONED_TTL_S, RUNNING_TTL_S],
        )
        return Wanted(ours=bool(ours), move_id=move_id.decode(), queue=queue.decode())

    def tell(self, event: Event) -> None:
        """Put an event on the fleet's stream."""
        self.connection.client.xadd(
            self.connection.keys.events, {"e": event_document(event)}, maxlen=EVENTS_KEPT, approximate=True
        )

    def saved(self, task_id: str) -> tuple[bytes, float | None] | None:
        """The last checkpoint (data, share of the work done), or `None`."""
        data, share = self.connection.client.hmget(self.connection.keys.state(task_id), ["data", "share"])
        return None if data is None else (bytes(data), float(share) if share else None)

    def relinquish(
        self,
        delivery: Delivery,
        queue: str,
        move_id: str,
        *,
        token: str | None,
        state_bytes: int | None = None,
    ) -> str:
        """Push the delivery, rewritten, to the front of `queue`, and tell it: "moved", "fence" or "gone".

        `token` of a running task; `None` for a reserved one, whose claim the delivery names. `state_bytes` of
        the checkpoint it goes on from, where that is known. Raises `StoreError` when the kept message
        is not what kombu writes.
        """
        keys = self.connection.keys
        held = self.connection.client.hget(keys.unacked, delivery.tag)
        if held is None:
            return "gone"
        envelope, priority = rewrite(held, queue, delivery, begun=token is not None,
                                     came=partial(came_to, self.connection))
        lists = dict(zip(keys.priority_steps, keys.queue_lists(queue), strict=True))
        step = max((s for s in keys.priority_steps if s <= priority), default=keys.priority_steps[0])
        told = HandedOver(at=0.0, move_id=move_id, task_id=delivery.task_id, worker=self.worker, queue=queue,
                          state_bytes=state_bytes)
        answer = self._run(
            "relinquish",
            [keys.fence(delivery.task_id), keys.unacked, keys.unacked_index, lists[step], keys.events,
             keys.want(delivery.task_id), keys.held(self.owner)],
            [
                "reserved" if token is None else "running",
                delivery.generation,
                delivery.claim if token is None else token,
                delivery.tag,
                envelope,
                delivery.next_generation(),
                event_document(told),
                ABANDONED_TTL_S,
                keys.ours(""),
                keys.sep,
            ],
        )
        return str(answer.decode())


def rewrite(held: bytes, queue: str, delivery: Delivery, *, begun: bool = False,
            came: Callable[[str, str], str | None] | None = None) -> tuple[bytes, int]:
    """The message of an `unacked` entry as it must lie in `queue`, and its priority.

    A fresh delivery tag (the old one is the old holder's), `delivery_info` that a restore
    follows, the next epoch; the body is not touched. What has `begun` does not expire any more. What leaves a
    queue of the operator's own, which `came` tells by its exchange and routing key, names it as its `home`;
    without `came` it leaves none. Raises `StoreError` if it is no message.
    """
    try:
        message, exchange, routing_key = json.loads(held)
        properties, headers = message["properties"], message["headers"]
        priority = int(properties.get("priority") or properties["delivery_info"].get("priority") or 0)
        properties["delivery_tag"] = f"{delivery.tag.split('~')[0]}~{delivery.epoch + 1}"
        properties["delivery_info"] = {**properties["delivery_info"], "exchange": "", "routing_key": queue}
        header = {**(headers.get("balancer") or {}), "epoch": delivery.epoch + 1}
        home = header.pop("home", None) or (came and came(exchange or "", routing_key)) or ""
        headers["balancer"] = header | ({"begun": True} if begun else {}) | (
            {"home": home} if home and home != queue and not is_ours(home) else {})
        headers.pop("redelivered", None)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise StoreError(f"the message of task {delivery.task_id} cannot be rewritten: {error!r}") from error
    return json.dumps(message).encode(), priority
