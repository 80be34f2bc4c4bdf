"""The whole fleet at one moment: the one input of a decision."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from balancer.model.task import TaskProfile
from balancer.model.worker import Worker


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """The queue of one profile. `oldest_s` is the age of its head when that is known, `due_s` in how many
    seconds the task that is served next expires, `None` where it does not; what has expired already is passed
    over, as it costs nothing."""

    queue: str
    profile: TaskProfile
    waiting: int = 0
    mean_size: float = 1.0
    oldest_s: float | None = None
    due_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuedTask:
    """A waiting message that was read in a head window of a queue, so that it may be chosen. It is dropped
    where it has not begun at `expires_at` (s). `home` as in `HeldTask`."""

    task_id: str
    queue: str
    profile: str
    size: float = 1.0
    priority: int | None = None
    expires_at: float | None = None
    home: str = ""


def due_s(expiries: Iterable[float | None], now: float) -> float | None:
    """`Lane.due_s` of a lane whose messages expire at these times (s), in the order in which they are
    served."""
    first = next((at for at in expiries if at is None or at > now), None)
    return None if first is None else first - now


@dataclass(frozen=True, slots=True, kw_only=True)
class SetAside:
    """Something that could not be used, kept with its reason so that a person can look at it."""

    source: str
    reason: str
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """A snapshot: workers whose report is fresh, lanes with their backlog, other queues' lengths.

    `at` is the Redis server's clock in seconds. `silent` names workers whose report has
    passed its age limit since the last look. `workers` may be in columns (`WorkerTable`).
    `queued` holds waiting messages of direct and class queues and of lanes' heads, as far as
    they were read.
    """

    at: float
    workers: Sequence[Worker] = ()
    lanes: tuple[Lane, ...] = ()
    queues: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    queued: tuple[QueuedTask, ...] = ()
    silent: tuple[str, ...] = ()
    set_aside: tuple[SetAside, ...] = ()

    @property
    def names(self) -> Collection[str]:
        """The workers' names."""
        roster = getattr(self.workers, "roster", None)
        return [w.name for w in self.workers] if roster is None else roster.places

    def worker(self, name: str) -> Worker | None:
        named = getattr(self.workers, "named", None)
        return next((w for w in self.workers if w.name == name), None) if named is None else named(name)

    def lane_of(self, profile: str) -> Lane | None:
        return next((lane for lane in self.lanes if lane.profile.name == profile), None)

    @property
    def classes(self) -> tuple[str, ...]:
        roster = getattr(self.workers, "roster", None)
        devices = [w.hardware for w in self.workers] if roster is None else roster.unlike
        return tuple(sorted({hardware.hardware_class for hardware in devices}))
