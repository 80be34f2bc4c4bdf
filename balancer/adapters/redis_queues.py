"""How much waits where, and what waits next: lengths and head windows of the broker's lists.

Third part of `redis_store.observe`. Lanes, class queues and queues that workers name are always
looked at; of direct queues those that balancer or last look knew of, and some of the others in
turn, so that a fleet of ten thousand does not cost ten thousand commands a look.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from balancer.adapters.asides import aside
from balancer.adapters.documents import Description
from balancer.adapters.message_head import END_BYTES, Head, read_head
from balancer.adapters.pace import Pace
from balancer.adapters.redis_keys import Keys
from balancer.adapters.scripts import load_script
from balancer.model import SetAside
from balancer.routing import class_queue, direct_queue, is_direct_queue

#: Of each list of each queue the messages served next, first one first; `None` for an unreadable one.
Heads = dict[str, list[list[Head | None]]]

#: Direct queues that are looked at in turn, each look.
IN_TURN: Final = 256

#: Queues that are looked at because workers name them, at most.
OTHER_QUEUES: Final = 500

#: Messages read at the head of each list, at most, and at least while the budget lasts.
WINDOW: Final = 50
LEAST_WINDOW: Final = 5

#: Messages whose first sight is remembered to tell a lane's age.
SEEN_LIMIT: Final = 50_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """Messages waiting by queue and by list, and what stood in the way."""

    waiting: Mapping[str, int]
    lists: Mapping[str, tuple[tuple[str, int], ...]]
    set_aside: tuple[SetAside, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueNames:
    """The queues of some workers: shared ones (of classes, and named by workers), and direct ones."""

    described: tuple[Description, ...] = ()
    shared: tuple[str, ...] = ()
    direct: tuple[str, ...] = ()


class QueueWatch:
    """Looks at the queues of a fleet. Remembers what was not empty and when a message was first seen."""

    def __init__(self) -> None:
        self._occupied: set[str] = set()
        self._named = QueueNames()
        self._turn = 0
        self._first_seen: dict[str, float] = {}
        self._known: dict[bytes, Head | None] = {}
        self._read: dict[bytes, Head | None] = {}
        self._pace = Pace(size=400, low=100, high=2_000)

    def choose(self, described: tuple[Description, ...]) -> list[str]:
        """The queues of these workers to look at now: those of classes and those that workers name
        all, of direct queues the ones that had something the last time, and the next in turn."""
        if described != self._named.described:
            self._named = _name_queues(described)
        direct = self._named.direct
        start = self._turn if self._turn < len(direct) else 0
        self._turn = start + IN_TURN
        return [*self._named.shared, *direct[start:self._turn], *sorted(self._occupied)]

    def measure(self, client: Any, keys: Keys, queues: Iterable[str]) -> Backlog:
        """The lengths of all lists of `queues`, in one round trip."""
        names = list(dict.fromkeys(queues))
        steps = keys.priority_steps
        answer = load_script(client, "lengths")([], [keys.prefix, keys.sep, len(steps), *steps, *names])
        lists: dict[str, list[tuple[str, int]]] = {queue: [] for queue in names}
        asides: list[SetAside] = []
        for queue, step, length in zip(*[iter(answer)] * 3, strict=True):
            key = keys.queue_lists(names[queue])[step]
            if isinstance(length, bytes):
                asides.append(aside(f"queue {key}", f"not a list: {length.decode('utf-8', 'replace')}"))
            else:
                lists[names[queue]].append((key, int(length)))
        waiting = {queue: sum(length for _, length in found) for queue, found in lists.items()}
        self._occupied = {queue for queue, count in waiting.items() if count}
        return Backlog(waiting=waiting, lists={q: tuple(found) for q, found in lists.items()},
                       set_aside=tuple(asides))

    def heads(self, client: Any, queues: Sequence[str], backlog: Backlog) -> Heads:
        """The messages served next in `queues`, as many as the pace allows, in a few round trips."""
        places = [(queue, key) for queue in queues for key, _ in backlog.lists.get(queue, ())]
        found: Heads = {}
        script = load_script(client, "heads")
        while places:
            window = max(LEAST_WINDOW, min(WINDOW, self._pace.size // len(places)))
            batch = places[:max(1, self._pace.size // window)]
            places = places[len(batch):]
            began = time.perf_counter()
            lengths, text = script([key for _, key in batch], [window, END_BYTES])
            self._pace.record(window * len(batch), time.perf_counter() - began)
            end = 0
            for (queue, _), sizes in zip(batch, lengths.split(b","), strict=True):
                found.setdefault(queue, []).append(messages := [])
                for size in map(int, sizes.split()):
                    start, end = end, end + size
                    messages.append(self._head(text[start:end]))
        self._known, self._read = self._read, {}
        return found

    def _head(self, end: bytes) -> Head | None:
        """The message of this end; what was at the head at the last look is not read again."""
        head = self._known[end] if end in self._known else read_head(end)
        self._read[end] = head
        return head

    def age(self, lists: Sequence[Sequence[Head | None]], now: float) -> float | None:
        """Age (s) of the oldest head of a queue's lists, `None` when it is empty.

        By the time its publisher wrote, else since this watch first saw it.
        """
        times = [self._since(messages[0], now) for messages in lists if messages and messages[0]]
        return max(0.0, now - min(times)) if times else None

    def remember(self, heads: Iterable[Head], now: float) -> None:
        """Note when messages without a time were first seen, and forget those that left."""
        unstamped = [head.task_id for head in heads if head.published_at is None][:SEEN_LIMIT]
        self._first_seen = {ident: self._first_seen.get(ident, now) for ident in unstamped}

    def _since(self, head: Head | None, now: float) -> float:
        if head is None:
            return now
        return head.published_at if head.published_at is not None else self._first_seen.get(head.task_id, now)


def _name_queues(described: tuple[Description, ...]) -> QueueNames:
    """Names are made only when the workers changed: of ten thousand they cost a tenth of a second."""
    classes = sorted({class_queue(d.hardware.hardware_class) for d in described})
    named = {queue for queues in {d.queues for d in described} for queue in queues}
    others = sorted(queue for queue in named if not is_direct_queue(queue))[:OTHER_QUEUES]
    return QueueNames(described=described, shared=(*classes, *others),
                      direct=tuple(direct_queue(d.name) for d in described))
