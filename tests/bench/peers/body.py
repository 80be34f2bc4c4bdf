"""What a job does on an emulated GPU: it waits for as long as the job would take there.

The same work for every system. Only ours has jobs that may leave at a checkpoint; the others run a job where
it began.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Protocol

from tests.bench.peers.book import entered

#: The id of what is run before the clock starts, and its seconds: enough for every worker to take one.
START_ID: Final = "start"
START_S: Final = 0.5

#: Seconds between two checkpoints, and that a checkpointing job waits at a time.
CHECKPOINT_S: Final = 0.5


class Checkpointing(Protocol):
    """What a job needs of its task, to leave and to go on elsewhere."""

    def checkpoint(self, state: object, *, share: float | None = None) -> None: ...

    def resume(self) -> object: ...


def start(folder: Path, worker: str) -> None:
    """No job: what a process does before the clock starts, so that every system's are warm."""
    train(folder, worker, "", START_ID, {"": START_S})


def train(folder: Path, worker: str, hardware_class: str, task_id: str, seconds: Mapping[str, float]) -> None:
    """A job of so many seconds by hardware class, on this worker."""
    with entered(folder, worker, task_id) as complete:
        threading.Event().wait(seconds[hardware_class])
        complete()


def train_in_steps(folder: Path, worker: str, hardware_class: str, task_id: str,
                   seconds: Mapping[str, float], task: Checkpointing) -> None:
    """The same, with a checkpoint every so often, from the last one on."""
    whole_s = seconds[hardware_class]
    with entered(folder, worker, task_id) as complete:
        began = time.monotonic()
        found = task.resume()
        share = found if isinstance(found, float) else 0.0
        until = began + (1.0 - share) * whole_s
        pause = threading.Event()
        while (left := until - time.monotonic()) > CHECKPOINT_S:
            pause.wait(CHECKPOINT_S)
            share = 1.0 - max(0.0, until - time.monotonic()) / whole_s
            if share < 1.0:
                task.checkpoint(share, share=share)
        pause.wait(max(0.0, left))
        complete()
