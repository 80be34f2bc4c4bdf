"""An independent book of what truly ran: every start, end and committed finish, by task id.

Written by the task bodies and by Celery's own `task_success`, in a Redis database that the
balancer never touches; read by the demo alone. It trusts neither fence nor event stream, so
that it can convict them.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import redis

What = Literal["start", "end", "finish", "left"]

#: Keys of the book. What a worker does at the moment is overwritten; the log only grows.
LOG: Final = "watch:log"
NOW: Final = "watch:now"
READY: Final = "watch:ready"
LEFT: Final = "watch:left"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of the book. "start": a body began; "end": it reached its last line; "finish": Celery
    called the run of that body a success; "left": it was wanted elsewhere and left at a checkpoint.
    `share` is what an earlier run had done. Client's clock, s."""

    what: What
    task_id: str
    worker: str
    at: float
    share: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Now:
    """What a worker has done since it started, and what it does: `task_id` is empty when idle."""

    worker: str
    task_id: str = ""
    profile: str = ""
    share: float = 0.0
    since: float = 0.0
    done: int = 0


class Watch:
    """The book's two sides. One object a process; a forked child opens a connection of its own."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._client: tuple[int, Any] | None = None
        self._done = 0

    @property
    def client(self) -> Any:
        if self._client is None or self._client[0] != os.getpid():
            self._client = os.getpid(), redis.Redis.from_url(self.url, decode_responses=True)
        return self._client[1]

    def ready(self, worker: str) -> None:
        """A worker serves its queues now."""
        self.client.hset(READY, worker, repr(time.time()))

    def write(self, what: What, task_id: str, worker: str, profile: str, share: float = 0.0) -> None:
        """Enter one line, and with it what the worker does now."""
        at = time.time()
        self._done += what == "finish"
        task, its_profile, so_far = (task_id, profile, share) if what == "start" else ("", "", 0.0)
        now = {"task_id": task, "profile": its_profile, "share": so_far, "since": at, "done": self._done}
        line = {"what": what, "task_id": task_id, "worker": worker, "at": at, "share": share}
        with self.client.pipeline(transaction=False) as pipe:
            pipe.rpush(LOG, json.dumps(line))
            pipe.hset(NOW, worker, json.dumps(now))
            if what == "left":
                pipe.incr(LEFT)
            pipe.execute()

    def progress(self, task_id: str, worker: str, profile: str, share: float, since: float) -> None:
        """How far a worker is with its task (0–1), for the live table only."""
        now = {"task_id": task_id, "profile": profile, "share": share, "since": since, "done": self._done}
        self.client.hset(NOW, worker, json.dumps(now))

    def readiness(self) -> dict[str, float]:
        """Workers that have come up, with the time (s) each did."""
        return {worker: float(at) for worker, at in self.client.hgetall(READY).items()}

    def now(self) -> dict[str, Now]:
        """What each worker does at the moment."""
        found = self.client.hgetall(NOW)
        return {worker: Now(worker=worker, **json.loads(text)) for worker, text in found.items()}

    def left(self) -> int:
        """How many runs left at a checkpoint so far."""
        return int(self.client.get(LEFT) or 0)

    def entries(self) -> list[Entry]:
        """The whole book, in order."""
        return [Entry(**json.loads(line)) for line in self.client.lrange(LOG, 0, -1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the book says: ids that finished more than once or never, and how many runs there were.

    `resumed` counts runs that went on from a checkpoint, `left` those that left at one, `cut_off`
    those whose worker died or whose end was refused as stale.
    """

    finished_twice: tuple[str, ...]
    never_finished: tuple[str, ...]
    runs: int
    resumed: int
    left: int
    cut_off: int


def judge(entries: Iterable[Entry], task_ids: Iterable[str]) -> Verdict:
    """The verdict over the tasks that were published."""
    book = list(entries)
    finishes: Mapping[str, int] = Counter(e.task_id for e in book if e.what == "finish")
    starts = [e for e in book if e.what == "start"]
    left = sum(e.what == "left" for e in book)
    return Verdict(
        finished_twice=tuple(sorted(task for task, times in finishes.items() if times > 1)),
        never_finished=tuple(task for task in task_ids if not finishes.get(task)),
        runs=len(starts),
        resumed=sum(e.share > 0 for e in starts),
        left=left,
        cut_off=len(starts) - left - sum(finishes.values()),
    )


class Watched:
    """A task seen by the book: what it saves and finds also shows there. Satisfies `tasks.Checkpointing`."""

    def __init__(self, task: Any, watch: Watch | None, worker: str, profile: str) -> None:
        self.task = task
        self.watch = watch
        self.worker = worker
        self.profile = profile
        self.began = time.time()

    def resume(self) -> Any:
        """The task's saved state; the run's start is entered with the share that was found done."""
        state = self.task.resume()
        if self.watch is not None:
            share = float(state.get("share", 0.0)) if isinstance(state, Mapping) else 0.0
            self.watch.write("start", self.task.request.id, self.worker, self.profile, share)
        return state

    def checkpoint(self, state: Mapping[str, Any], *, share: float | None = None) -> None:
        """Save the state, with the share in it; a task that is wanted elsewhere leaves here."""
        if self.watch is not None:
            self.watch.progress(self.task.request.id, self.worker, self.profile, share or 0.0, self.began)
        try:
            self.task.checkpoint({**state, "share": share or 0.0}, share=share)
        except BaseException:
            if self.watch is not None:
                self.watch.write("left", self.task.request.id, self.worker, self.profile)
            raise

    def ended(self) -> None:
        """The body reached its last line; a success of this very run will count as its finish."""
        self.task.request.watched = self
        if self.watch is not None:
            self.watch.write("end", self.task.request.id, self.worker, self.profile)


def finished(task: Any) -> None:
    """For `task_success`: enter the finish of a run whose body truly ran in this delivery.

    A kept result that answers a redelivery is no second finish: no body ran.
    """
    watched = getattr(task.request, "watched", None)
    if isinstance(watched, Watched) and watched.watch is not None:
        watched.watch.write("finish", task.request.id, watched.worker, watched.profile)
