"""Real workloads as records: Gavel's measured speeds and Microsoft's Philly trace.

Read from the tables beside this module (`data/README.md` names source and licence); the demo
and the simulator compress the same records in time, each in its own way.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Final

from balancer.errors import BalancerError

#: Columns of the table of speeds, as hardware classes of this project.
COLUMNS: Final = MappingProxyType({"k80": "cuda-K80", "p100": "cuda-P100", "v100": "cuda-V100"})


@dataclass(frozen=True, slots=True, kw_only=True)
class JobType:
    """A kind of training job on a number of GPUs used together: what runs alike."""

    name: str
    scale: int = 1

    @property
    def profile(self) -> str:
        """The name of its profile: "ResNet-50 (batch size 128)", with "on 2 GPUs" behind it when it is so."""
        return self.name if self.scale == 1 else f"{self.name} on {self.scale} GPUs"


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceJob:
    """One job of a trace: arrival in seconds from the trace's first, and training steps to do."""

    arrival_s: float
    job_type: JobType
    steps: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Throughputs:
    """Steps per second by job type and hardware class; a pair that does not run is not there."""

    steps_per_s: Mapping[JobType, Mapping[str, float]]

    def classes(self, job_type: JobType) -> tuple[str, ...]:
        """The hardware classes that run it, fastest first; empty when none does or it is unknown."""
        speeds = self.steps_per_s.get(job_type, {})
        return tuple(sorted(speeds, key=lambda name: (-speeds[name], name)))

    def slowness(self, job_type: JobType) -> dict[str, float]:
        """Time on each class that runs it, relative to the fastest one (1)."""
        speeds = self.steps_per_s.get(job_type, {})
        best = max(speeds.values(), default=0.0)
        return {name: best / speed for name, speed in speeds.items()}

    def best_s(self, job: TraceJob) -> float:
        """Seconds of a job alone on its fastest class: total steps / throughput (Gavel, OSDI '20)."""
        speeds = self.steps_per_s.get(job.job_type, {})
        if not speeds:
            raise BalancerError(f"no hardware runs {job.job_type.profile!r}: its speeds are not in the table")
        return job.steps / max(speeds.values())


@cache
def load_throughputs() -> Throughputs:
    """Gavel's table of measured speeds."""
    table: dict[JobType, Mapping[str, float]] = {}
    for line, row in _rows("gavel_throughputs.csv"):
        job_type = JobType(name=row["job_type"], scale=int(_number(row, "scale_factor", line)))
        speeds = {name: _number(row, column, line) for column, name in COLUMNS.items()}
        table[job_type] = MappingProxyType({name: speed for name, speed in speeds.items() if speed > 0})
    return Throughputs(steps_per_s=MappingProxyType(table))


@cache
def load_trace() -> tuple[TraceJob, ...]:
    """The 2,000 jobs of the Philly trace, in order of arrival."""
    jobs = [
        TraceJob(
            arrival_s=_number(row, "arrival_s", line),
            job_type=JobType(name=row["job_type"], scale=int(_number(row, "scale_factor", line))),
            steps=_number(row, "total_steps", line),
        )
        for line, row in _rows("philly_trace.csv")
    ]
    return tuple(sorted(jobs, key=lambda job: job.arrival_s))


def single_gpu_first(jobs: Sequence[TraceJob], speeds: Throughputs, count: int) -> tuple[TraceJob, ...]:
    """The jobs that some hardware runs: those of one GPU and, only if `count` asks for more, of 2, 4 and 8.

    In order of arrival. Raises `BalancerError` when the trace holds fewer than `count`.
    """
    runnable = [job for job in jobs if speeds.classes(job.job_type)]
    for most in (1, 2, 4, 8):
        chosen = tuple(job for job in runnable if job.job_type.scale <= most)
        if len(chosen) >= count:
            return chosen
    raise BalancerError(f"{count} jobs asked for; the trace holds {len(runnable)} that run somewhere")


def _rows(name: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Rows of a table, each with where it stands ("name:line") for a message."""
    table = (files("balancer.simulate") / "data" / name).read_text(encoding="utf-8")
    for number, row in enumerate(csv.DictReader(table.splitlines()), start=2):
        yield f"{name}:{number}", row


def _number(row: Mapping[str, str], column: str, where: str) -> float:
    try:
        value = float(row[column])
    except (KeyError, TypeError, ValueError):
        raise BalancerError(f"{where}: {column} is {row.get(column)!r}, not a number") from None
    if not 0 <= value < float("inf"):
        raise BalancerError(f"{where}: {column} is {value:g}; it must be finite and not negative")
    return value
