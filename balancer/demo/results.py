"""What the client of the demo sees: every task it published, and the result it gets by `AsyncResult`.

Knows nothing of workers and balancer; a task without a result at the end is lost.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from balancer.demo.workload import MATRIX_TASK, DemoJob


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """A result: Celery's state, when its worker wrote it (s), and whether it is the right one."""

    state: str
    at: float
    right: bool


class Results:
    """Publishes jobs and collects what comes back."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.published: dict[str, tuple[DemoJob, float]] = {}
        self.finished: dict[str, Finished] = {}

    @property
    def pending(self) -> int:
        return len(self.published) - len(self.finished)

    def publish(self, job: DemoJob) -> str:
        """Send one job as any client would; returns its task id."""
        at = time.time()
        if job.task == MATRIX_TASK:
            kwargs: dict[str, Any] = {"blocks": int(job.size)}
        else:
            kwargs = {"profile": job.profile, "size": job.size}
        sent = self.app.tasks[job.task].apply_async(kwargs=kwargs, profile=job.profile, size=job.size)
        self.published[sent.id] = job, at
        return str(sent.id)

    def collect(self) -> None:
        """Look for each result that is not there yet."""
        for task_id, (job, _at) in self.published.items():
            if task_id in self.finished:
                continue
            result = self.app.AsyncResult(task_id)
            meta = self.app.backend.get_task_meta(task_id, cache=False)
            if meta["status"] in result.backend.READY_STATES:
                self.finished[task_id] = Finished(
                    state=meta["status"], at=_done_at(meta.get("date_done")), right=_right(job, meta)
                )

    def completions_s(self) -> list[float]:
        """Seconds from publish to result of each finished task, in order of publishing."""
        return [
            self.finished[task_id].at - at
            for task_id, (_job, at) in self.published.items() if task_id in self.finished
        ]

    def lost(self) -> tuple[str, ...]:
        """Tasks without a result."""
        return tuple(task_id for task_id in self.published if task_id not in self.finished)

    def failed(self) -> tuple[str, ...]:
        """Tasks whose result is a failure, or not the work that was asked for."""
        return tuple(
            task_id for task_id, found in self.finished.items() if found.state != "SUCCESS" or not found.right
        )


def _right(job: DemoJob, meta: dict[str, Any]) -> bool:
    """Whether the result says that all of the job's work was done."""
    value = meta.get("result")
    return isinstance(value, dict) and abs(float(value.get("done", -1)) - job.size) < 1e-9


def _done_at(text: str | datetime | None) -> float:
    """Celery's `date_done` (UTC) as seconds since the epoch; now when there is none."""
    if text is None:
        return time.time()
    when = text if isinstance(text, datetime) else datetime.fromisoformat(text)
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
