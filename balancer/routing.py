"""Where a task may go: names of queues, and what hardware may run which task.

Pure. The lane of a profile is where its tasks are published; each hardware class has a class
queue and each worker a direct queue, to which re-routed work goes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable
from functools import lru_cache
from typing import Final

from balancer.model import KINDS, Hardware, Needs, Reading, as_kind

#: Queues of ours begin with this, so that a person sees in `redis-cli` whose they are.
PREFIX: Final = "bal"

#: Kinds with memory of their own that a task may ask for.
_ACCELERATORS: Final = tuple(kind for kind in KINDS if kind != "cpu")

#: Longest readable part of a queue's name; a hash keeps longer ones apart.
NAME_LIMIT: Final = 80

#: A device this hot takes nothing new.
HOT_CELSIUS: Final = 95.0


@lru_cache(maxsize=65_536)
def slug(text: str) -> str:
    """`text` as part of a queue's name: readable, one-to-one by a hash where characters were lost."""
    kept = "".join(c if c.isalnum() or c in "-_." else "-" for c in text)[:NAME_LIMIT]
    if kept == text:
        return kept
    return f"{kept}~{hashlib.blake2s(text.encode(), digest_size=4).hexdigest()}"


def lane_queue(profile: str) -> str:
    """The lane of a profile."""
    return f"{PREFIX}.lane.{slug(profile)}"


def class_queue(hardware_class: str) -> str:
    """The queue that every worker of a hardware class serves."""
    return f"{PREFIX}.class.{slug(hardware_class)}"


def direct_queue(worker: str) -> str:
    """The queue that one worker alone serves."""
    return f"{PREFIX}.worker.{slug(worker)}"


def is_ours(queue: str) -> bool:
    """Whether a queue is a lane, a class queue or a direct queue, and not one of the operator's own."""
    return queue.startswith(f"{PREFIX}.")


def is_lane(queue: str) -> bool:
    return queue.startswith(f"{PREFIX}.lane.")


def is_class_queue(queue: str) -> bool:
    return queue.startswith(f"{PREFIX}.class.")


def is_direct_queue(queue: str) -> bool:
    return queue.startswith(f"{PREFIX}.worker.")


def is_routed_queue(queue: str) -> bool:
    """Whether re-routed work goes there: a class queue or a direct queue."""
    return is_class_queue(queue) or is_direct_queue(queue)


def absent_reason(home: str, queues: Collection[str]) -> str | None:
    """Why a worker that serves these `queues` may not have a task whose `home` is a queue of the operator's
    own; `None` when it may. Who names a queue says who may run what lies in it."""
    return f"queue: comes from {home}, which it does not serve" if home and home not in queues else None


def unfit_reason(hardware: Hardware, needs: Needs, *, worker: str = "") -> str | None:
    """Why this hardware can never run such a task; `None` when it can.

    A requirement on a quantity that the hardware does not report is not met: unknown is not enough.
    What only other kinds of hardware have is not asked of a kind that the task names: with
    ("cuda", "cpu") and 8 GB of GPU memory it may run on any CPU, and on cards of at least 8 GB.
    """
    named = hardware.kind in map(as_kind, needs.hardware) or hardware.hardware_class in needs.hardware
    if needs.hardware and not named:
        return f"hardware: needs any of {', '.join(needs.hardware)}; this is {hardware.hardware_class}"
    for name, wanted, given, kinds in (
        ("compute capability", needs.compute_capability, hardware.compute_capability, ("cuda",)),
        ("GPU memory", needs.gpu_memory_bytes, hardware.gpu_memory_bytes, _ACCELERATORS),
        ("memory", needs.memory_bytes, hardware.memory_bytes, KINDS),
    ):
        if wanted is None or (named and hardware.kind not in kinds):
            continue
        if given is not None and given >= wanted:
            continue
        shown = "{:g}".format if name == "compute capability" else _gigabytes
        return f"{name}: needs {shown(wanted)}; there is {'no reading' if given is None else shown(given)}"
    labels = {f"{key}={value}" for key, value in hardware.labels}
    missing = [a for a in needs.affinity if a not in labels and a != worker]
    return f"affinity: needs {', '.join(missing)}" if missing else None


def can_run(hardware: Hardware, needs: Needs, *, worker: str = "") -> bool:
    """Whether this hardware can run such a task when it is idle."""
    return unfit_reason(hardware, needs, worker=worker) is None


def roomier(hardware: Hardware, needs: Needs, workers: Iterable[tuple[str, Hardware]]) -> str | None:
    """The worker to try a task on that ran out of memory on `hardware`: of those that can run it and have
    more memory, the one with the most; `None` when there is none, or nobody knows how much there was.
    """
    if hardware.memory_bytes is None:
        return None
    larger = [(other.memory_bytes, name) for name, other in workers
              if other.memory_bytes is not None and other.memory_bytes > hardware.memory_bytes
              and can_run(other, needs, worker=name)]
    return max(larger)[1] if larger else None


def strike_reason(reading: Reading, needs: Needs, *, hot_celsius: float = HOT_CELSIUS) -> str | None:
    """Why a worker that could run such a task should not take it now; `None` when it may.

    What is not read strikes nothing out.
    """
    free_gpu, free = reading.gpu_memory_free_bytes, reading.memory_free_bytes
    if needs.gpu_memory_bytes is not None and free_gpu is not None and free_gpu < needs.gpu_memory_bytes:
        return f"GPU memory: needs {_gigabytes(needs.gpu_memory_bytes)}; {_gigabytes(free_gpu)} free"
    if needs.memory_bytes is not None and free is not None and free < needs.memory_bytes:
        return f"memory: needs {_gigabytes(needs.memory_bytes)}; {_gigabytes(free)} free"
    if reading.temperature_celsius is not None and reading.temperature_celsius >= hot_celsius:
        return f"temperature: {reading.temperature_celsius:.0f} °C"
    return None


def preference(hardware: Hardware, needs: Needs) -> int:
    """Place of this hardware in the task's order of preference, 0 first; after all when not named."""
    for place, name in enumerate(needs.hardware):
        if as_kind(name) == hardware.kind or name == hardware.hardware_class:
            return place
    return len(needs.hardware)


def _gigabytes(size: float) -> str:
    """A size as people write it."""
    return f"{size / 1e9:.3g} GB"
