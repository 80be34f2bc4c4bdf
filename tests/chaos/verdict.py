"""What a run comes to: what was lost and why, what ended twice, what ran again.

Three witnesses, none of which is the code under test: the ledger that bodies write, the results a
client reads, and the broker's own append-only file.

`lost`            a published task that never came to its end as its client sees it, though all it waits
                  for did; `attributed` are those that the file says Redis handed to a pop and nobody
                  entered anywhere: the window of BRPOP
`finished_twice`  a task of which two runs' ends came through: two results that differ, a result of one
                  run and a next link fed by another, or two successes on the stream of events
`told_again`      the same end stored once more, as after a death between result and ack; nobody can see it
`bodies_repeated`, `checkpoint_steps_repeated`  work done again after a kill; allowed
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Container
from dataclasses import dataclass, field, fields
from itertools import pairwise
from typing import Any, Final

from tests.chaos.calls import Call, End
from tests.chaos.journal import IN_POP, Journal
from tests.chaos.ledger import Ledger

READY: Final = ("SUCCESS", "FAILURE", "REVOKED")


@dataclass(slots=True, kw_only=True)
class Verdict:
    """The JSON of a run. Lists name task ids with their stories."""

    seeds: list[int] = field(default_factory=list)
    transport: str = ""
    tasks: int = 0
    calls: int = 0
    kills: int = 0
    lost: int = 0
    attributed: int = 0
    finished_twice: int = 0
    wrong: int = 0
    told_again: int = 0
    bodies_repeated: int = 0
    checkpoint_steps_repeated: int = 0
    recovery_max_s: float = 0.0
    rerun_max_s: float = 0.0
    disturbances: Counter[str] = field(default_factory=Counter)
    moves_asked: Counter[str] = field(default_factory=Counter)
    moves: Counter[str] = field(default_factory=Counter)
    copies_refused: Counter[str] = field(default_factory=Counter)
    left_behind: Counter[str] = field(default_factory=Counter)
    publishes_repeated: int = 0
    seconds: float = 0.0
    tasks_per_s: float = 0.0
    stories: dict[str, list[str]] = field(default_factory=dict)

    @classmethod
    def read(cls, document: str) -> Verdict:
        """From what `document` wrote."""
        said = json.loads(document)
        counted = {name: Counter(value) for name, value in said.items() if isinstance(value, dict)}
        return cls(**{**said, **counted, "stories": said["stories"]})

    @property
    def clean(self) -> bool:
        """Nothing lost but what the file blames on BRPOP, nothing ended twice, no value wrong."""
        return self.lost == self.attributed and not self.finished_twice and not self.wrong

    def add(self, other: Verdict) -> None:
        """Sum over runs; the slowest of both."""
        for name in (one.name for one in fields(self)):
            mine, value = getattr(self, name), getattr(other, name)
            if name.endswith("max_s"):
                setattr(self, name, max(mine, value))
            elif isinstance(mine, Counter | dict):
                mine.update(value)
            elif isinstance(mine, int | float | list):
                setattr(self, name, mine + value)
        self.transport = other.transport
        self.tasks_per_s = round(self.tasks / self.seconds, 1) if self.seconds else 0.0

    def document(self) -> str:
        said = {one.name: getattr(self, one.name) for one in fields(self)}
        return json.dumps({**said, "seconds": round(self.seconds, 1)})


def reached(raw: bytes | None, end: End) -> str:
    """What a client sees of a task: "open", "right" or "wrong"."""
    meta = json.loads(raw) if raw else {}
    status = meta.get("status")
    if status not in READY:
        return "open"
    if isinstance(end, int):
        right = status == "SUCCESS" and meta["result"]["v"] == end
    else:
        right = status == {"fails": "FAILURE", "expired": "REVOKED"}.get(end)
    return "right" if right else "wrong"


def culprits(open_tasks: dict[str, tuple[Call, End]], wrong: Container[str]) -> list[str]:
    """Of the tasks that did not end, those that wait for no other, nor for one that ended wrongly."""
    return [
        task_id
        for task_id, (call, _) in open_tasks.items()
        if not any(before in open_tasks or before in wrong for before in call.before.get(task_id, ()))
    ]


def judge_lost(verdict: Verdict, lost: list[str], journal: Journal, ledger: Ledger) -> None:
    """Count the losses and say of each where its message was last."""
    verdict.lost = len(lost)
    for task_id in lost:
        place = journal.last.get(task_id, "never pushed")
        ended = task_id in ledger.ended
        verdict.attributed += place == IN_POP and not ended
        head = f"LOST: {place}; by the ledger {'ended' if ended else 'not ended'}"
        verdict.stories[task_id] = [head, *journal.story.get(task_id, [])[-40:], *_ran(ledger, task_id)]


def _ran(ledger: Ledger, task_id: str) -> list[str]:
    return [
        f"ledger {line.at:.2f} {line.word} {line.what} r{line.retries} e{line.epoch} on {line.worker}"
        for line in ledger.lines.get(task_id, [])[-20:]
    ]


def doubles(journal: Journal, ledger: Ledger) -> dict[str, str]:
    """Tasks of which two ends came through, with what shows it."""
    seen: dict[str, set[tuple[str, str]]] = {task_id: set(told) for task_id, told in journal.told.items()}
    owner = ledger.owner_of_words()
    for word in ledger.passed_on():
        if word in owner:
            seen.setdefault(owner[word], set()).add(("SUCCESS", word))
    found = {task_id: f"ends {sorted(ends)}" for task_id, ends in seen.items() if len(ends) > 1}
    for task_id, times in journal.commits.items():
        if times > 1:
            found.setdefault(task_id, f"{times} successes on the stream")
    return found


def judge_doubles(verdict: Verdict, found: dict[str, str], journal: Journal, ledger: Ledger) -> None:
    verdict.finished_twice = len(found)
    for task_id, why in found.items():
        verdict.stories[task_id] = [
            f"TWICE: {why}", *journal.story.get(task_id, [])[-60:], *_ran(ledger, task_id)
        ]  # fmt: skip
    verdict.told_again = sum(
        len(told) - len(set(told)) for task_id, told in journal.told.items() if task_id not in found
    )


def judge_work(verdict: Verdict, journal: Journal, ledger: Ledger, killed: list[tuple[str, float]]) -> None:
    """What was done again, and what became of moves."""
    verdict.bodies_repeated = ledger.bodies_repeated()
    verdict.checkpoint_steps_repeated = ledger.steps_repeated()
    verdict.rerun_max_s = round(max(reruns(ledger, killed), default=0.0), 2)
    for (kind, what), times in journal.events.items():
        if kind in ("HandedOver", "Refused"):
            verdict.moves[f"{what or 'balancer'}: {kind}"] += times
        elif kind == "Duplicate":
            verdict.copies_refused[what] += times


def reruns(ledger: Ledger, killed: list[tuple[str, float]]) -> list[float]:
    """Of each body that a kill ended, the seconds until it began again."""
    found: list[float] = []
    for lines in ledger.lines.values():
        starts = [line for line in lines if line.word == "start"]
        for line, following in pairwise(starts):
            if any(one.word != "start" and line.at <= one.at <= following.at for one in lines):
                continue
            found += [
                following.at - at
                for worker, at in killed
                if worker == line.worker and line.at <= at <= following.at
            ][:1]
    return found


def judge_leftovers(verdict: Verdict, client: Any, keys: Any) -> None:
    """What still lies about in Redis once all is quiet."""
    verdict.left_behind["unacked"] = client.hlen(keys.unacked)
    verdict.left_behind["unacked_index"] = client.zcard(keys.unacked_index)
    verdict.left_behind["held"] = sum(
        client.scard(key) for key in client.scan_iter(match=keys.ours("held", "*"), count=1000)
    )
    verdict.left_behind["queued"] = sum(
        client.llen(key) for key in client.scan_iter(match="bal.*", _type="list", count=1000)
    )
    verdict.left_behind["keys without a time to live"] = sum(
        client.ttl(key) == -1
        for what in ("fence", "state", "want")
        for key in client.scan_iter(match=keys.ours(what, "*"), count=1000)
    )
