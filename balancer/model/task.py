"""What a task asks for and what is known of one that waits or runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What a task needs of a worker.

    `hardware` is any-of, in order of preference; empty means any. `affinity` holds labels
    ("rack=a") or worker names, all of which must match.
    """

    hardware: tuple[str, ...] = ()
    compute_capability: float | None = None
    gpu_memory_bytes: int | None = None
    memory_bytes: int | None = None
    affinity: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprint:
    """What a task takes of a node while it runs: of each of its `gpus` the `share` (bytes of memory, or 0–1
    of a GPU), and of the node's processor and memory."""

    share: float = 0.0
    gpus: int = 1
    cpu: float = 0.0
    memory: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskProfile:
    """A class of tasks that run alike.

    `expected_s` maps a hardware class or kind to the author's hint of seconds for size 1;
    it is believed until runs say otherwise. `group` is whose tasks they are, for fairness between groups.
    """

    name: str
    task: str
    needs: Needs = field(default_factory=Needs)
    priority: int | None = None
    checkpoints: bool = False
    restartable: bool = False
    expected_s: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    group: str = ""

    @property
    def learned_as(self) -> str:
        """The name under which its run times are learned: the same work of several groups runs alike."""
        return self.name.removesuffix(f"@{self.group}") if self.group else self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldTask:
    """A task a worker holds: running when `started_at` is set, else reserved.

    Times are seconds of the Redis server's clock. `size` scales the profile's duration.
    `tag` is the delivery tag under which the broker keeps it. `share_done` is the part of the
    size (0–1) done at the last checkpoint and `share_before` what earlier runs had done when
    this one began, as far as the task says so. `home` is the queue of the operator's own that it was
    published to, whose workers alone may have it; "" where it was none.
    """

    task_id: str
    profile: str
    lane: str = ""
    size: float = 1.0
    started_at: float | None = None
    checkpointed_at: float | None = None
    state_bytes: int | None = None
    priority: int | None = None
    epoch: int = 0
    checkpoints: bool = False
    tag: str = ""
    share_done: float | None = None
    share_before: float | None = None
    home: str = ""
