"""The bodies of the demo's tasks: training on an emulated GPU, and real matrix work on a CPU.

Plain functions over whatever can checkpoint; `workers.demo_app` makes Celery tasks of them. An
emulated GPU is a clock: its job is done when as much time has passed as the real card would
have taken (compressed), however busy this machine is.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np

from balancer.errors import BalancerError

#: Seconds between two checkpoints of a job; a job shorter than this makes none.
CHECKPOINT_S: Final = 0.4

#: Seconds an emulated GPU sleeps at a time: how fast it sees that it was slowed.
STEP_S: Final = 0.1

#: A block of CPU work: this many products of matrices this wide. So small that BLAS uses one thread.
BLOCK_PRODUCTS: Final = 500
BLOCK_WIDTH: Final = 48


class Checkpointing(Protocol):
    """What a body needs of its task: keep a state with the share of the work that is done, get it back."""

    def checkpoint(self, state: Any, *, share: float | None = None) -> None: ...

    def resume(self) -> Any: ...


def emulated_training(
    job: Checkpointing, size: float, slowness: float, *, slowed: Callable[[], float],
    clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], object] = time.sleep,
) -> dict[str, float]:
    """Train for `size` seconds of the fastest GPU on one that is `slowness` times slower.

    `slowed()` is the factor of foreign load at the moment (1: none). Returns what was done and
    how much of it was found done by an earlier run.
    """
    found = _state(job).get("done", 0.0)
    done, saved, last = found, clock(), clock()
    while done < size:
        factor = slowness * max(1.0, slowed())
        sleep(min(STEP_S, (size - done) * factor))
        now = clock()
        done += (now - last) / factor
        last = now
        if now - saved >= CHECKPOINT_S and done < size:
            job.checkpoint({"done": done}, share=done / size)
            saved = now
    return {"done": size, "resumed_at": found}


def matrix_work(
    job: Checkpointing, blocks: int, *, clock: Callable[[], float] = time.monotonic
) -> dict[str, float]:
    """Do `blocks` blocks of real matrix products; the state is the count and the running checksum."""
    state = _state(job)
    found, checksum = int(state.get("done", 0)), state.get("checksum", 0.0)
    saved = clock()
    for done in range(found, blocks):
        checksum += matrix_block(done)
        if clock() - saved >= CHECKPOINT_S and done + 1 < blocks:
            job.checkpoint({"done": done + 1, "checksum": checksum}, share=(done + 1) / blocks)
            saved = clock()
    return {"done": blocks, "checksum": checksum, "resumed_at": found}


def matrix_block(number: int) -> float:
    """One block of real CPU work and its checksum, the same for the same number."""
    wide = np.full((BLOCK_WIDTH, BLOCK_WIDTH), 1.0 / BLOCK_WIDTH)
    wide[0, 0] += (number % 7) * 1e-3
    product = np.eye(BLOCK_WIDTH)
    for _ in range(BLOCK_PRODUCTS):
        product = product @ wide
    return float(product.sum())


def block_seconds(repetitions: int = 12) -> float:
    """Seconds of one block on this machine at its best: the least of some measurements."""
    matrix_block(0)
    best = float("inf")
    for number in range(repetitions):
        began = time.perf_counter()
        matrix_block(number)
        best = min(best, time.perf_counter() - began)
    return best


def foreign_load_factor(path: Path | None) -> Callable[[], float]:
    """How many times slower a worker is just now, from the file the demo writes; 1 when it is not there."""

    def factor() -> float:
        try:
            return float(path.read_text()) if path is not None else 1.0
        except (FileNotFoundError, ValueError):
            return 1.0

    return factor


def slowness_here(slowness: Mapping[str, float], hardware_class: str, profile: str) -> float:
    """A profile's slowness on this worker's class. Served where it cannot run it is a fault, not slow."""
    if hardware_class not in slowness:
        here = hardware_class or "unknown hardware"
        raise BalancerError(f"{profile} was served on {here}, where it cannot run")
    return slowness[hardware_class]


def _state(job: Checkpointing) -> Mapping[str, float]:
    """What an earlier run left; empty when there was none."""
    state = job.resume()
    return state if isinstance(state, Mapping) else {}
