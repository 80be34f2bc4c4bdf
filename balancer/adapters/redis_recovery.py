"""Gives back what dead workers held: each delivery to the front of its queue, at most once.

Any worker and any balancer may do it, at once: a short lock keeps them from doing the same work,
and `recover.lua` decides in one step that the owner is still silent, that the delivery is still
there and that the fence is as it was judged (`recovery_verdict`). A worker that has lost sight of
deliveries of its own gives them back the same way.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from balancer.adapters.bindings import came_to
from balancer.adapters.documents import event_document
from balancer.adapters.held_message import HeldMessage, read_held
from balancer.adapters.recovery_verdict import FIELDS, TOLD, FenceRecord, Verdict, judge
from balancer.adapters.redis_connection import Connection
from balancer.adapters.redis_failed import failed_document, unread_document
from balancer.adapters.redis_fence import ABANDONED_TTL_S
from balancer.adapters.served_queues import ServedQueues
from balancer.errors import StoreError
from balancer.model import GivenUp, Recovered

#: Deliveries that one script gives back, and that are read at once to put them in order.
BATCH: Final = 100
PAGE: Final = 500

#: How long one recoverer keeps the others off a dead worker without a sign of life (s).
LOCK_S: Final = 2.0

#: Workers that a task is remembered to have lost.
KEPT_LOSSES: Final = 10

#: How often a batch is judged again because a fence changed meanwhile.
LOOKS: Final = 3


@dataclass(slots=True, kw_only=True)
class Tally:
    """What became of deliveries: how many went back, how many had ended, which tasks were set aside."""

    returned: int = 0
    dropped: int = 0
    set_aside: list[str] = field(default_factory=list)
    left: int = 0

    def __bool__(self) -> bool:
        return bool(self.returned or self.dropped or self.set_aside)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """One delivery with what is to become of it. `held` is `None` where it is no message."""

    tag: str
    raw: bytes
    held: HeldMessage | None
    fence: FenceRecord
    verdict: Verdict
    queue: str = ""

    @property
    def read(self) -> str:
        """The fence, for the script to compare; without one, whether others are to be asked for the tag."""
        if self.held is not None and not self.held.balanced:
            return "ask" if self.held.redelivered else ""
        return self.fence.compared

    def losses(self, instance: str) -> str:
        """The workers that died of it so far, a line each; the last ones where there were many."""
        if str(self.verdict.deaths) == (self.fence.deaths or "0"):
            return self.fence.died
        lines = [*self.fence.died.split("\n"), f"{time.time():.0f} {self.fence.name_of(instance)}"]
        return "\n".join(lines[-KEPT_LOSSES:]).strip()


class Recovery:
    """Recovers for one fleet. `deaths_limit` owners may die of a task before it is set aside."""

    def __init__(self, connection: Connection, *, heartbeat_ttl_s: float, deaths_limit: int,
                 fence_ttl_s: float) -> None:
        self.connection = connection
        self._ttl_s = heartbeat_ttl_s
        self._deaths_limit = deaths_limit
        self._fence_ttl_s = max(1, int(fence_ttl_s))

    def dead(self) -> tuple[int, list[str]]:
        """How many clients are to be told of set-aside tasks, and who is gone and still holds something."""
        keys = self.connection.keys
        untold, *gone = self.connection.script("dead")(
            [keys.alive, keys.failed_untold, keys.silence], [keys.held(""), self._ttl_s])
        return int(untold), [instance.decode() for instance in gone]

    def recover(self, instance: str, *, budget_s: float = 10.0) -> Tally:
        """Give back what this dead instance held; nothing where another does it now."""
        lock, client = self.connection.keys.recovering(instance), self.connection.client
        if not client.set(lock, "1", nx=True, px=round(LOCK_S * 1000)):
            return Tally()
        try:
            return self._give_back(instance, (), died=True, budget_s=budget_s, lock=lock)
        finally:
            client.delete(lock)

    def recover_unlocked(self, instance: str) -> Tally:
        """As `recover`, whoever else does the same: the script alone sees to it that all goes well."""
        return self._give_back(instance, (), died=True, budget_s=60.0, lock="")

    def give_back_orphans(self, instance: str, known: Collection[str]) -> Tally:
        """Give back what this instance, which asks for itself, holds in Redis and does not know of."""
        return self._give_back(instance, known, died=False, budget_s=60.0, lock="")

    def _give_back(self, instance: str, known: Collection[str], *, died: bool, budget_s: float,
                   lock: str) -> Tally:
        tally, until = Tally(), time.monotonic() + budget_s
        served = ServedQueues(self.connection, self._ttl_s)
        tags = self._in_order(instance, set(known), lock)
        for start in range(0, len(tags), BATCH):
            batch = tags[start:start + BATCH]
            if time.monotonic() > until:
                tally.left = len(tags) - start
                break
            self._renew(lock)
            if not self._batch(instance, batch, died, served, tally):
                break
        return tally

    def _renew(self, lock: str) -> None:
        if lock:
            self.connection.client.pexpire(lock, round(LOCK_S * 1000))

    def _in_order(self, instance: str, known: set[str], lock: str) -> list[str]:
        """The tags to give back, what is to run first at the end: it is pushed last, to the front."""
        keys, client = self.connection.keys, self.connection.client
        tags = [tag for tag in (raw.decode() for raw in client.smembers(keys.held(instance)))
                if tag not in known]
        placed: list[tuple[bool, float, str]] = []
        for start in range(0, len(tags), PAGE):
            self._renew(lock)
            for one in self._read(tags[start:start + PAGE]):
                at = one.held.published_at if one.held is not None else 0.0
                placed.append((not one.fence.started, at, one.tag))
        return [tag for _, _, tag in sorted(placed, reverse=True)]

    def _read(self, tags: Sequence[str]) -> Iterator[Judged]:
        """These deliveries and their fences, not judged yet; what is gone has an empty entry."""
        keys, client = self.connection.keys, self.connection.client
        raws = client.hmget(keys.unacked, tags) if tags else []
        found = [(tag, raw or b"", _held(tag, raw)) for tag, raw in zip(tags, raws, strict=True)]
        with client.pipeline(transaction=False) as pipe:
            for _, _, held in found:
                if held is not None:
                    pipe.hmget(keys.fence(held.task_id), (*FIELDS, *TOLD))
            fences = iter(pipe.execute())
        for tag, raw, held in found:
            fence = FenceRecord.read(next(fences)) if held is not None else FenceRecord()
            yield Judged(tag=tag, raw=raw, held=held, fence=fence, verdict=Verdict(action="unread"))

    def _batch(self, instance: str, tags: Sequence[str], died: bool, served: ServedQueues,
               tally: Tally) -> bool:
        """Give one batch back; `False` when the instance turns out to live."""
        for _ in range(LOOKS):
            judged = list(self._judged(instance, tags, died, served))
            answers = self._act(instance, judged, died)
            if answers == ["alive"]:
                return False
            for one, answer in zip(judged, answers, strict=True):
                tally.returned += answer in ("push", "answer", "plain")
                tally.dropped += answer == "drop"
                if answer in ("aside", "unread"):
                    tally.set_aside.append(one.held.task_id if one.held is not None else one.tag)
            tags = [one.tag for one, answer in zip(judged, answers, strict=True) if answer == "changed"]
            if not tags:
                break
        tally.left += len(tags)
        return True

    def _judged(self, instance: str, tags: Sequence[str], died: bool,
                served: ServedQueues) -> Iterator[Judged]:
        read = list(self._read(tags))
        living = self._living({one.fence.owner for one in read if one.fence.owner})
        for one in read:
            if one.held is None:
                yield one
                continue
            verdict = Verdict(action="plain")
            if one.held.balanced:
                verdict = judge(one.fence, one.held.delivery, instance=instance,
                                owner_lives=one.fence.owner in living, died=died,
                                deaths_limit=self._deaths_limit)
            queue = self._queue_of(one.held, served)
            if queue is None:
                verdict = Verdict(action="unread")
            yield replace(one, verdict=verdict, queue=queue or "")

    def _living(self, owners: Iterable[str]) -> set[str]:
        names = sorted(owners)
        if not names:
            return set()
        client, keys = self.connection.client, self.connection.keys
        seconds, micros = client.time()
        times = client.execute_command("ZMSCORE", keys.alive, *names)
        since = seconds + micros / 1e6 - self._ttl_s
        return {name for name, at in zip(names, times, strict=True) if at is not None and float(at) >= since}

    def _queue_of(self, held: HeldMessage, served: ServedQueues) -> str | None:
        """Where the message belongs now; `None` where no queue is bound for it any more."""
        queue = came_to(self.connection, held.exchange, held.routing_key)
        return served.instead_of(queue, held.home, held.profile, held.task) if queue else None

    def _act(self, instance: str, judged: Sequence[Judged], died: bool) -> list[str]:
        keys = self.connection.keys
        script_keys = [keys.alive, keys.held(instance), keys.unacked, keys.unacked_index, keys.events,
                       keys.failed, keys.failed_untold]
        args: list[Any] = ["dead" if died else "own", instance, self._ttl_s, keys.ours(""), keys.sep,
                           ABANDONED_TTL_S, self._fence_ttl_s]
        for one in judged:
            held = one.held
            task_id = held.task_id if held is not None else f"tag:{one.tag}"
            target = _list_of(self.connection, one.queue, held.priority if held is not None else 0)
            script_keys += [keys.fence(task_id), target, keys.want(task_id)]
            losses = one.losses(instance)
            document, event = _documents(one, instance, losses)
            args += [one.tag, one.verdict.action, one.read, task_id,
                     held.delivery.next_generation() if held is not None else "", one.verdict.deaths,
                     losses, document, event]
        return [answer.decode() for answer in self.connection.script("recover")(script_keys, args)]


def _held(tag: str, raw: bytes | None) -> HeldMessage | None:
    try:
        return read_held(tag, raw or b"")
    except StoreError:
        return None


def _list_of(connection: Connection, queue: str, priority: int) -> str:
    """The list of a queue that messages of this priority lie in (kombu's `_q_for_pri`)."""
    steps = connection.keys.priority_steps
    place = max((n for n, step in enumerate(steps) if step <= priority), default=0)
    return connection.keys.queue_lists(queue)[place]


def _documents(one: Judged, instance: str, losses: str) -> tuple[str | bytes, str]:
    """What is pushed or kept of a delivery, and the event that tells of it."""
    held, action = one.held, one.verdict.action
    if held is None or action == "unread":
        return unread_document(one.tag, one.raw, instance), ""
    if action == "push":
        begun = one.fence.saved_by(held.delivery)
        return held.moved_to(one.queue, begun=begun), _recovered(held, instance, one.queue)
    if action in ("answer", "plain"):
        return held.again_in(one.queue), _recovered(held, instance, one.queue)
    if action == "aside":
        deaths, name = one.verdict.deaths, one.fence.name_of(instance)
        reason = f"the worker that ran it died ({name})" if deaths == 1 else (
            f"{deaths} workers died while they ran it, the last of them {name}, "
            "without a checkpoint between")
        document = failed_document(held, queue=one.queue, reason=reason,
                                   history=losses.split("\n"))
        return document, event_document(
            GivenUp(at=0.0, task_id=held.task_id, worker=instance, reason=reason))
    return "", ""


def _recovered(held: HeldMessage, instance: str, queue: str) -> str:
    return event_document(Recovered(at=0.0, task_id=held.task_id, worker=instance, queue=queue))


def recover_orphans(connection: Connection, instance: str, known: Collection[str], *,
                    heartbeat_ttl_s: float) -> Tally:
    """What `Recovery.give_back_orphans` does, for a worker that has just reconnected."""
    recovery = Recovery(connection, heartbeat_ttl_s=heartbeat_ttl_s, deaths_limit=0,
                        fence_ttl_s=ABANDONED_TTL_S)
    return recovery.give_back_orphans(instance, known)
