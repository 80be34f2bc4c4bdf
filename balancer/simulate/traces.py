"""Real workloads as records: Gavel's measured speeds and Microsoft's Philly trace.

Read from the tables beside this module (`data/README.md` names source and licence); the demo
and the simulator compress the same records in time, each in its own way.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import Final

from balancer.errors import BalancerError

#: Columns of the table of speeds, as hardware classes of this project.
COLUMNS: Final = MappingProxyType({"k80": "cuda-K80", "p100": "cuda-P100", "v100": "cuda-V100"})


#: What a trace and a table of speeds must have.
TRACE_COLUMNS: Final = ("arrival_s", "job_type", "total_steps")
SPEEDS_COLUMNS: Final = ("job_type",)

#: A row of a table, behind where it stands ("name:line").
Numbered = tuple[str, dict[str, str]]


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
    return throughputs_of(_rows("gavel_throughputs.csv"))


@cache
def load_trace() -> tuple[TraceJob, ...]:
    """The 2,000 jobs of the Philly trace, in order of arrival."""
    return trace_of(_rows("philly_trace.csv"))


def throughputs_of(rows: Iterable[Numbered]) -> Throughputs:
    """Speeds of a table: job_type, scale_factor, then a column of steps per second for each hardware class
    (or one of Gavel's three); 0 or nothing is a pair that does not run."""
    table: dict[JobType, Mapping[str, float]] = {}
    for line, row in rows:
        job_type = _job_type(row, line)
        columns = [name for name in row if name and name not in ("job_type", "scale_factor")]
        speeds = {COLUMNS.get(name, name): _number(row, name, line) for name in columns if row[name]}
        table[job_type] = MappingProxyType({name: speed for name, speed in speeds.items() if speed > 0})
    return Throughputs(steps_per_s=MappingProxyType(table))


def trace_of(rows: Iterable[Numbered]) -> tuple[TraceJob, ...]:
    """Jobs of a table: arrival_s, job_type, scale_factor, total_steps; in order of arrival."""
    jobs = [
        TraceJob(arrival_s=_number(row, "arrival_s", line), job_type=_job_type(row, line),
                 steps=_steps(row, line))
        for line, row in rows
    ]
    return tuple(sorted(jobs, key=lambda job: job.arrival_s))


def read_table(path: Path, columns: Sequence[str]) -> list[Numbered]:
    """Rows of a table of one's own that has at least these columns. Raises `BalancerError` for any other."""
    try:
        text = path.read_text(encoding="utf-8")
        rows, named = list(_numbered(path.name, text)), next(csv.reader(text.splitlines()), [])
    except (OSError, UnicodeError, csv.Error) as error:
        raise BalancerError(f"{path} cannot be read: {error}") from error
    if lacks := [name for name in columns if name not in named]:
        raise BalancerError(f"{path} has no column {', '.join(lacks)}: its first line must name "
                            f"{', '.join(columns)}")
    if not rows:
        raise BalancerError(f"{path} holds nothing below its first line")
    return rows


def _job_type(row: Mapping[str, str], where: str) -> JobType:
    if not row.get("job_type"):
        raise BalancerError(f"{where}: there is no job_type")
    scale = _number(row, "scale_factor", where) if row.get("scale_factor") else 1
    return JobType(name=row["job_type"], scale=int(scale))


def _steps(row: Mapping[str, str], where: str) -> float:
    steps = _number(row, "total_steps", where)
    if not steps:
        raise BalancerError(f"{where}: total_steps is 0; a job has at least some of a step to do")
    return steps


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


def _rows(name: str) -> Iterator[Numbered]:
    """Rows of a table, each with where it stands ("name:line") for a message."""
    yield from _numbered(name, (files("balancer.simulate") / "data" / name).read_text(encoding="utf-8"))


def _numbered(name: str, table: str) -> Iterator[Numbered]:
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
