"""The broker of the twin: queues of messages, most urgent first, first come first served among equals."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Final

from balancer.model import QueuedTask
from balancer.simulate.scenario import INFINITY, Job

#: The priority lists of kombu's Redis transport.
STEPS: Final = (0, 3, 6, 9)

#: Messages of a queue that a look shows, as the store's.
WINDOW: Final = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A message: its job, since when it lies where it lies, the share that earlier runs saved, and whether it
    goes on with what has `begun`, which no longer expires."""

    job: Job
    since: float
    share: float = 0.0
    epoch: int = 0
    begun: bool = False

    @property
    def expires_at(self) -> float | None:
        """When it must have begun (s); `None` where it need not."""
        return None if self.begun or self.job.expires_s == INFINITY else self.job.expires_s

    @property
    def step(self) -> int:
        """The list it lies in, as kombu chooses it."""
        return max(step for step in STEPS if step <= max(0, self.job.priority or 0))


class Queues:
    """All queues by name. `waiting` counts messages by queue, empty queues included."""

    def __init__(self, names: Iterable[str]) -> None:
        self.waiting: dict[str, int] = dict.fromkeys(names, 0)
        self._lists: dict[tuple[str, int], deque[Waiting]] = {}
        self._steps: list[int] = []

    def put(self, queue: str, message: Waiting, *, front: bool = False) -> None:
        """A message to the end of its priority list, or to its front."""
        step = message.step
        if step not in self._steps:
            self._steps = sorted([*self._steps, step])
        messages = self._lists.setdefault((queue, step), deque())
        (messages.appendleft if front else messages.append)(message)
        self.waiting[queue] = self.waiting.get(queue, 0) + 1

    def take(self, queues: Iterable[str], fits: Callable[[Waiting], bool]) -> tuple[str, Waiting] | None:
        """What BRPOP would give: priority first, then the order of the queues; `fits` sees only heads."""
        names = [queue for queue in queues if self.waiting.get(queue)]
        for step in self._steps:
            for queue in names:
                messages = self._lists.get((queue, step))
                if messages and fits(messages[0]):
                    self.waiting[queue] -= 1
                    return queue, messages.popleft()
        return None

    def remove(self, queue: str, task_id: str, count: int) -> list[Waiting]:
        """The message of a task or, without an id, the last `count`; taken out."""
        everything = list(self.messages(queue))
        if task_id:
            chosen = [m for m in everything if m.job.task_id == task_id][:1]
        else:
            chosen = everything[max(0, len(everything) - count):]
        for message in chosen:
            self._lists[queue, message.step].remove(message)
            self.waiting[queue] -= 1
        return chosen

    def messages(self, queue: str) -> Iterator[Waiting]:
        """A queue's messages in the order in which they are served."""
        for step in self._steps:
            yield from self._lists.get((queue, step), ())

    def head_since(self, queue: str) -> float | None:
        """Since when the oldest head of a queue waits."""
        heads = [m[0].since for step in self._steps if (m := self._lists.get((queue, step)))]
        return min(heads, default=None)

    def seen(self, queue: str) -> list[QueuedTask]:
        """The first messages, as the store shows them."""
        return [
            QueuedTask(task_id=m.job.task_id, queue=queue, profile=m.job.profile, size=m.job.size,
                       priority=m.job.priority, expires_at=m.expires_at)
            for m in islice(self.messages(queue), WINDOW)
        ]
