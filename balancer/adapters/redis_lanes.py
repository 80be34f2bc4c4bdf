"""The lane table: what the fleet's profiles are, and which of their lanes nobody uses any more.

Second part of `redis_store.observe`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from balancer.adapters.asides import aside
from balancer.adapters.documents import LaneEntry, read_lane
from balancer.adapters.message_head import Head
from balancer.adapters.redis_keys import Keys
from balancer.adapters.redis_workers import DocumentCache
from balancer.adapters.scripts import load_script
from balancer.model import Lane, QueuedTask, SetAside, TaskProfile, due_s

#: An empty lane that no publisher entered for so long is forgotten (s). Publishers enter theirs
#: each minute, so a day is beyond any pause between two bursts but not beyond a retired profile.
UNUSED_S: Final = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneTable:
    """The table as read: entries, their profiles and their bytes by queue."""

    entries: Mapping[str, LaneEntry]
    profiles: Mapping[str, TaskProfile]
    raw: Mapping[str, bytes]
    set_aside: tuple[SetAside, ...]

    def unused(self, now: float, waiting: Mapping[str, int]) -> list[str]:
        """Lanes that are empty and were not entered for `UNUSED_S`."""
        return [queue for queue, entry in self.entries.items()
                if not waiting.get(queue) and entry.used_at is not None and now - entry.used_at > UNUSED_S]


class LaneReader:
    """Reads the table from look to look; entries that did not change are not parsed again, and their profiles
    stay the same objects."""

    def __init__(self) -> None:
        self._entries = DocumentCache(_read_entry)
        #: By queue the profile it is for, the messages at its head, and the tasks made of them.
        self._queued: dict[str, tuple[str, list[Head], list[QueuedTask]]] = {}

    def read(self, table: Mapping[bytes, bytes]) -> LaneTable:
        entries: dict[str, LaneEntry] = {}
        profiles: dict[str, TaskProfile] = {}
        raw: dict[str, bytes] = {}
        asides: list[SetAside] = []
        for key, document in table.items():
            found = self._entries.get(key, document)
            if isinstance(found, str):
                asides.append(aside(f"lane {key.decode('utf-8', 'backslashreplace')}", found, document))
                continue
            try:
                queue = key.decode()
            except UnicodeDecodeError:
                asides.append(aside("lane", "its queue's name is no text", key))
                continue
            entries[queue], profiles[queue] = found
            raw[queue] = document
        self._entries.prune(table)
        return LaneTable(entries=entries, profiles=profiles, raw=raw, set_aside=tuple(asides))

    def queued(self, heads: Mapping[str, list[Head]], table: LaneTable) -> tuple[QueuedTask, ...]:
        """The messages at the heads of queues that may be chosen; where they are as at the last look, those
        that were made then."""
        made: dict[str, tuple[str, list[Head], list[QueuedTask]]] = {}
        for queue, found in heads.items():
            own = table.entries[queue].profile if queue in table.entries else ""
            last = self._queued.get(queue)
            same = last is not None and last[0] == own and last[1] == found
            made[queue] = last if last and same else (own, found, _tasks(queue, own, found))
        self._queued = made
        return tuple([task for _, _, tasks in made.values() for task in tasks])


def _read_entry(document: bytes) -> tuple[LaneEntry, TaskProfile]:
    entry = read_lane(document)
    return entry, entry.task_profile()


def make_lane(queue: str, profile: TaskProfile, waiting: int, heads: Sequence[Head],
              oldest_s: float | None, now: float) -> Lane:
    """A lane with the mean size of the messages at its head (1 where none is known)."""
    mean = sum([head.size for head in heads]) / len(heads) if heads else 1.0
    return Lane(queue=queue, profile=profile, waiting=waiting, mean_size=mean, oldest_s=oldest_s,
                due_s=due_s((head.expires_at for head in heads), now))


def _tasks(queue: str, own: str, heads: Sequence[Head]) -> list[QueuedTask]:
    """The messages of a window that may be chosen; those of no known profile are left alone."""
    return [
        QueuedTask(task_id=head.task_id, queue=queue, profile=head.profile or own, size=head.size,
                   priority=head.priority, expires_at=head.expires_at, home=head.home)
        for head in heads if head.profile or own
    ]


def forget(client: Any, keys: Keys, table: LaneTable, queues: Sequence[str]) -> None:
    """Take `queues` out of the table where they are still empty and unchanged."""
    script = load_script(client, "forget_lane")
    for queue in queues:
        script([keys.lanes, keys.lanes_revision, *keys.queue_lists(queue)], [queue, table.raw[queue]])
