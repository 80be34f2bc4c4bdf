"""The independent ledger: a list in a Redis of its own, which bodies write and nobody disturbs.

A line is written before the body goes on, so that what the ledger does not know has not happened.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any, Final, Literal, cast

import redis

#: The list.
LEDGER: Final = "ledger"

Word = Literal["start", "step", "left", "end"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One entry: at `at` (s) a body on `worker` began, made a step, left or came to its end.

    `what` is the run's own word and those of the values it was given ("start"), its word ("end"),
    the step's number, or the name of the exception.
    """

    word: str
    task_id: str
    retries: int
    epoch: int
    what: str
    worker: str
    at: float

    def text(self) -> str:
        fields = (self.word, self.task_id, self.retries, self.epoch, self.what, self.worker, f"{self.at:.3f}")
        return "\t".join(str(one) for one in fields)

    @classmethod
    def read(cls, text: str) -> Line:
        word, task_id, retries, epoch, what, worker, at = text.split("\t")
        return cls(
            word=word,
            task_id=task_id,
            retries=int(retries),
            epoch=int(epoch),
            what=what,
            worker=worker,
            at=float(at),
        )


@dataclass(slots=True, kw_only=True)
class Ledger:
    """What has been read of it so far."""

    url: str
    lines: dict[str, list[Line]] = field(default_factory=lambda: defaultdict(list))
    ended: set[str] = field(default_factory=set)
    steps: Counter[tuple[str, int, str]] = field(default_factory=Counter)
    read: int = 0
    client: Any = None

    def look(self) -> None:
        """Read what is new."""
        if self.client is None:
            self.client = redis.Redis.from_url(self.url, decode_responses=True)
        while new := cast(list[str], self.client.lrange(LEDGER, self.read, self.read + 9_999)):
            self.read += len(new)
            for line in map(Line.read, new):
                self._enter(line)

    def _enter(self, line: Line) -> None:
        if line.word == "step":
            self.steps[line.task_id, line.retries, line.what] += 1
            return
        self.lines[line.task_id].append(line)
        if line.word == "end":
            self.ended.add(line.task_id)

    def bodies_repeated(self) -> int:
        """Runs of a body beyond the first of each retry, without those that left for another worker."""
        repeated = 0
        for lines in self.lines.values():
            for retries in {line.retries for line in lines}:
                words = Counter(
                    "moved" if line.what == "Leave" and line.word == "left" else line.word
                    for line in lines
                    if line.retries == retries
                )
                repeated += max(0, words["start"] - words["moved"] - 1)
        return repeated

    def steps_repeated(self) -> int:
        return sum(times - 1 for times in self.steps.values())

    def passed_on(self) -> dict[str, set[str]]:
        """For each run's word that a later task was given: the tasks it was given to."""
        given: dict[str, set[str]] = defaultdict(set)
        for task_id, lines in self.lines.items():
            for line in lines:
                if line.word == "start":
                    for word in line.what.split(",")[1:]:
                        given[word].add(task_id)
        return given

    def owner_of_words(self) -> dict[str, str]:
        """The task in a run of which each word was made up."""
        return {
            line.what.split(",")[0]: task_id
            for task_id, lines in self.lines.items()
            for line in lines
            if line.word == "start"
        }
