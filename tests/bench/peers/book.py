"""An independent book of what truly ran: a line for every body that ended or left, by what ran it.

A file that every process appends to, whatever system started it; read by the bench alone. Times are those of
the machine's steady clock, which all its processes share.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from balancer.simulate.history import Span


@contextmanager
def entered(folder: Path, worker: str, task_id: str) -> Iterator[Callable[[], None]]:
    """A body, from its first line to its last; what is yielded is called when its work is done."""
    began, done = time.monotonic(), False

    def complete() -> None:
        nonlocal done
        done = True

    try:
        yield complete
    finally:
        line = json.dumps([worker, task_id, began, time.monotonic(), done]) + "\n"
        book = os.open(folder / "book", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(book, line.encode())  # one write of less than a page is not torn
        os.close(book)


@dataclass(slots=True)
class Reader:
    """Reads what was appended since it last looked."""

    folder: Path
    at: int = 0

    def new(self) -> list[Span]:
        """The lines that are new, times as they were written."""
        path = self.folder / "book"
        if not path.exists() or path.stat().st_size == self.at:
            return []
        with path.open("rb") as book:
            book.seek(self.at)
            text, end, _ = book.read().rpartition(b"\n")
        self.at += len(text) + len(end)
        lines = (json.loads(line) for line in text.splitlines())
        return [Span(worker=worker, task_id=task_id, from_s=began, until_s=ended, done=done)
                for worker, task_id, began, ended, done in lines]
