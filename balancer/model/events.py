"""What workers tell after the fact: the entries of the event stream, oldest first.

Nothing is decided from events alone: the fence in Redis is the truth, and these are how the
balancer learns durations and how moves end.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStarted:
    """A worker claimed a task and its body begins. `resumed` says a checkpoint was there."""

    at: float
    task_id: str
    profile: str
    worker: str
    hardware_class: str
    epoch: int
    queue: str = ""
    resumed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFinished:
    """A body ended and its commit was taken (`outcome` "success", "failure", "retry", "ignored")
    or refused ("stale"), or it left at a checkpoint ("moved").

    `duration_s` is the time of this run of the body; `share` is the part of the task's size
    done in this run (1 for a whole run), so that duration / (size · share) is the profile's rate.
    `ready_at` is when the task could first have begun, by its publisher's clock: it was published, and its
    ETA had come.
    """

    at: float
    task_id: str
    profile: str
    worker: str
    hardware_class: str
    epoch: int
    outcome: str
    duration_s: float
    size: float = 1.0
    share: float | None = 1.0
    ready_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HandedOver:
    """A worker gave a task up and pushed its message to `queue`; the move is in the broker's hands."""

    at: float
    move_id: str
    task_id: str
    worker: str
    queue: str
    state_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A worker did not give a task up: "finished", "running", "unknown", "not migratable", "fence"."""

    at: float
    move_id: str
    task_id: str
    worker: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Duplicate:
    """A copy of a task was refused by the fence ("held", "stale", "done") and did not run."""

    at: float
    task_id: str
    worker: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskLeft:
    """Somebody outside says that a task was cancelled on its worker so that it can move."""

    at: float
    task_id: str
    worker: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsTold:
    """Somebody outside knows metrics of a worker better; names as in `Reading`, `None` is unknown."""

    at: float
    worker: str
    values: Mapping[str, float | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovered:
    """A task that a worker held when it died lies in `queue` again; `worker` is the dead one's instance."""

    at: float
    task_id: str
    worker: str
    queue: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenUp:
    """A task was set aside: it ended the workers or processes that ran it (`reason`)."""

    at: float
    task_id: str
    worker: str
    reason: str


Event = (
    RunStarted | RunFinished | HandedOver | Refused | Duplicate | TaskLeft | MetricsTold | Recovered | GivenUp
)
