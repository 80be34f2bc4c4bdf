"""Reads the broker's append-only file: each push, pop, taking, result and event of every task.

Lists are followed as they grow and shrink, because the file says of a pop only from which list it
was. What is read is what Redis did, whoever asked it to: no code under test has a say in it.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

HEADER: Final = re.compile(rb'"id": ?"([0-9a-f-]{36})"')
TAG: Final = re.compile(rb'"delivery_tag": ?"([^"]+)"')
RETRIES: Final = re.compile(rb'"retries": ?(\d+)')
RUN: Final = re.compile(rb'run(?:=|\\*": ?\\*")([0-9a-f]{8})')
STATUS: Final = re.compile(rb'"status": ?"([A-Z]+)"')
RESULT_KEY: Final = b"celery-task-meta-"

#: Where the journal last saw a message that Redis handed to a pop, and that nobody entered anywhere since:
#: the window of a stock BRPOP.
IN_POP: Final = "popped"

#: States of a result that are an end.
ENDS: Final = ("SUCCESS", "FAILURE", "REVOKED")

Command = list[bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A message as it lay in a list; `mark` tells two of one task apart."""

    task_id: str
    tag: str
    retries: int
    mark: int


@dataclass(slots=True, kw_only=True)
class Journal:
    """All that the file says, task by task. Stories are kept for the tasks in `curious` alone."""

    curious: frozenset[str] = frozenset()
    lists: dict[bytes, deque[Message]] = field(default_factory=lambda: defaultdict(deque))
    hands: dict[str, str] = field(default_factory=dict)
    holders: Counter[str] = field(default_factory=Counter)
    last: dict[str, str] = field(default_factory=dict)
    told: dict[str, list[tuple[str, str]]] = field(default_factory=lambda: defaultdict(list))
    commits: Counter[str] = field(default_factory=Counter)
    events: Counter[tuple[str, str]] = field(default_factory=Counter)
    story: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def read(self, pieces: list[Path]) -> Journal:
        acts: dict[bytes, Callable[[Command], None]] = {
            b"LPUSH": self._push,
            b"RPUSH": self._push,
            b"RPOP": self._pop,
            b"LPOP": self._pop,
            b"LMOVE": self._move,
            b"RPOPLPUSH": self._move,
            b"LREM": self._remove,
            b"LTRIM": self._trim,
            b"DEL": self._delete,
            b"UNLINK": self._delete,
            b"HSET": self._hset,
            b"HDEL": self._hdel,
            b"SET": self._set,
            b"SETEX": self._set,
            b"PSETEX": self._set,
            b"XADD": self._event,
        }
        for piece in pieces:
            for command in commands(piece):
                act = acts.get(command[0].upper())
                if act is not None:
                    act(command)
        return self

    # Lists.

    def _push(self, command: Command) -> None:
        name, key = command[0].upper(), command[1]
        for raw in command[2:]:
            message = read_message(raw)
            if message is None:
                continue
            (self.lists[key].appendleft if name == b"LPUSH" else self.lists[key].append)(message)
            self._note(message.task_id, f"pushed to {_shown(key)} as {message.tag}", f"in {_shown(key)}")

    def _pop(self, command: Command) -> None:
        held = self.lists.get(command[1])
        times = int(command[2]) if len(command) > 2 else 1
        for _ in range(min(times, len(held or ()))):
            assert held is not None
            message = held.pop() if command[0].upper() == b"RPOP" else held.popleft()
            self._note(message.task_id, f"popped as {message.tag}", IN_POP)

    def _move(self, command: Command) -> None:
        source = self.lists.get(command[1])
        if not source:
            return
        ends = command[3:5] if command[0].upper() == b"LMOVE" else [b"RIGHT", b"LEFT"]
        message = source.pop() if ends[0].upper() == b"RIGHT" else source.popleft()
        target = self.lists[command[2]]
        (target.append if ends[1].upper() == b"RIGHT" else target.appendleft)(message)
        if command[1] != command[2]:
            self._note(message.task_id, f"moved to {_shown(command[2])}", f"in {_shown(command[2])}")

    def _remove(self, command: Command) -> None:
        held, message = self.lists.get(command[1]), read_message(command[3])
        if not held or message is None:
            return
        count = int(command[2])
        if count < 0:
            held.reverse()
        for _ in range(abs(count) or len(held)):
            if message not in held:
                break
            held.remove(message)
            self._note(message.task_id, f"removed from {_shown(command[1])}", "removed")
        if count < 0:
            held.reverse()

    def _trim(self, command: Command) -> None:
        held = self.lists.get(command[1])
        if not held:
            return
        first, last = (int(n) if int(n) >= 0 else len(held) + int(n) for n in command[2:4])
        for place, message in enumerate(held):
            if not first <= place <= last:
                self._note(message.task_id, f"trimmed from {_shown(command[1])}", "removed")
        self.lists[command[1]] = deque(list(held)[first : last + 1])

    def _delete(self, command: Command) -> None:
        for key in command[1:]:
            for message in self.lists.pop(key, ()):
                self._note(message.task_id, f"deleted with {_shown(key)}", "removed")

    # What is in a worker's hands.

    def _hset(self, command: Command) -> None:
        if command[1] != b"unacked":
            return
        for tag, entry in zip(command[2::2], command[3::2], strict=True):
            if found := HEADER.search(entry):
                task_id = found[1].decode()
                self.holders[task_id] += tag.decode() not in self.hands
                self.hands[tag.decode()] = task_id
                self._note(task_id, f"taken as {tag.decode()}", "taken")

    def _hdel(self, command: Command) -> None:
        for tag in command[2:] if command[1] == b"unacked" else ():
            task_id = self.hands.pop(tag.decode(), None)
            if task_id is not None:
                self.holders[task_id] -= 1
                ended = self.last.get(task_id) == "taken" and not self.holders[task_id]
                self._note(task_id, f"no more held as {tag.decode()}", "given up" if ended else "")

    # What was told.

    def _set(self, command: Command) -> None:
        if not command[1].startswith(RESULT_KEY):
            return
        task_id = command[1][len(RESULT_KEY) :].decode()
        value = command[3] if command[0].upper() != b"SET" else command[2]
        status, run = STATUS.search(value), RUN.search(value)
        word = status[1].decode() if status else "?"
        if word in ENDS:
            self.told[task_id].append((word, run[1].decode() if run else ""))
        self._note(task_id, f"result {word} {run[1].decode() if run else ''}", "")

    def _event(self, command: Command) -> None:
        document = command[-1]
        if not document.startswith(b"{"):
            return
        try:
            event = json.loads(document)
        except ValueError:
            return
        kind, task_id = str(event.get("type")), str(event.get("task_id"))
        outcome = str(event.get("outcome") or event.get("reason") or "")
        move = str(event.get("move_id") or "").partition("-")[0]
        self.events[kind, move or outcome] += 1
        if kind == "RunFinished" and outcome == "success":
            self.commits[task_id] += 1
        self._note(task_id, f"event {kind} {outcome} by {event.get('worker')}", "")

    def _note(self, task_id: str, what: str, place: str) -> None:
        """Remember where the task is now, and its story when somebody will ask for it."""
        if place:
            self.last[task_id] = place
        if task_id in self.curious:
            self.story[task_id].append(what)


def read_message(raw: bytes) -> Message | None:
    """What of a message is remembered; `None` for what is none."""
    found = HEADER.search(raw)
    if found is None or not raw.startswith(b"{"):
        return None
    tag, retries = TAG.search(raw), RETRIES.search(raw)
    return Message(
        task_id=found[1].decode(),
        tag=tag[1].decode() if tag else "",
        retries=int(retries[1]) if retries else 0,
        mark=hash(raw),
    )


def commands(path: Path) -> Iterator[Command]:
    """The commands of one piece; a last one that was cut off by a kill is none."""
    with path.open("rb", buffering=1 << 20) as file:
        while line := file.readline():
            if not line.startswith(b"*"):
                continue
            command: Command = []
            for _ in range(int(line[1:])):
                size = int(file.readline()[1:] or b"0")
                command.append(file.read(size + 2)[:-2])
            if command:
                yield command


def _shown(key: bytes) -> str:
    return key.decode(errors="replace").replace("\x06\x16", ":")
