"""A fleet's own past as a scenario: the runs of its ledger, to ask what another strategy would have done.

A task arrives when it could first have begun: when it was published or its ETA came. Older ledgers do not
tell; there it arrives when it first began, and what it waited before is not part of the replay, neither of
its completion nor of the bound.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from balancer.errors import BalancerError, LedgerError
from balancer.model import KINDS, Hardware, Needs, TaskProfile, as_kind
from balancer.simulate.scenario import Job, Machine, Scenario

Row = tuple[Any, ...]

#: Answers a query: rows by column. Raises `LedgerError`.
Ask = Callable[[str], Sequence[Mapping[str, Any]]]

#: Successful runs, oldest first, and the last sample of each worker with the least power that it ever drew.
_RUNS = """
    SELECT task_id, profile, hardware_class, epoch(least(ready_at, started_at)) AS ready, duration_s, size,
      coalesce(share, 1.0) AS share, outcome
    FROM runs WHERE outcome IN ('success', 'moved') AND duration_s > 0 AND size > 0
      AND coalesce(share, 1.0) > 0 ORDER BY started_at, task_id, epoch"""
_WORKERS = """
    SELECT worker, arg_max(hardware_class, timestamp) AS hardware_class, arg_max(slots, timestamp) AS slots,
      min(power_w) AS least_w, max(power_w) AS most_w
    FROM worker_samples GROUP BY worker ORDER BY worker"""


def from_ledger(path: Path, ask: Ask) -> Scenario:
    """The scenario of the ledger at `path`, which `ask` reads. Raises `LedgerError` for a file that is none,
    and for one without runs."""
    runs, workers = ([tuple(row.values()) for row in ask(query)] for query in (_RUNS, _WORKERS))
    rates: dict[tuple[str, str], list[float]] = defaultdict(list)
    for _, profile, name, _, duration_s, size, share, _ in runs:
        rates[profile, name].append(duration_s / (size * share))
    seconds: dict[str, dict[str, float]] = defaultdict(dict)
    for (profile, name), found in sorted(rates.items()):
        seconds[profile][name] = median(found)
    jobs, left = _jobs(runs, seconds), {profile for _, profile, *_, outcome in runs if outcome == "moved"}
    if not jobs:
        raise LedgerError(f"{path} holds no finished run to replay")
    about = (f"{len(jobs)} tasks of {path.name}, each arriving when it was ready, with what it took there; "
             f"pairs of profile and hardware that never ran do not run")
    return Scenario(name="ledger", about=about, machines=_machines(workers, path), jobs=jobs,
                    profiles=_profiles(seconds, left), seconds=seconds)


def _jobs(runs: Sequence[Row], seconds: Mapping[str, Mapping[str, float]]) -> tuple[Job, ...]:
    """A job for each task that ended well. Its true work is what its runs took by the pairs' rates."""
    ready: dict[str, float] = {}
    work: dict[str, float] = defaultdict(float)
    done: dict[str, tuple[str, float]] = {}
    for task_id, profile, name, ready_at, duration_s, size, _, outcome in runs:
        ready[task_id] = min(ready_at, ready.get(task_id, ready_at))
        work[task_id] += duration_s / seconds[profile][name]
        if outcome == "success":
            done[task_id] = (profile, size)
    start = min((ready[task_id] for task_id in done), default=0.0)
    jobs = [Job(task_id=task_id, profile=profile, release_s=ready[task_id] - start, size=size,
                work=work[task_id]) for task_id, (profile, size) in done.items()]
    return tuple(sorted(jobs, key=lambda job: (job.release_s, job.task_id)))


def _machines(workers: Sequence[Row], path: Path) -> tuple[Machine, ...]:
    """Every worker that the ledger knows, there from the beginning. Power: the least and most it drew."""
    machines = [
        Machine(name=name, hardware=hardware_of(hardware_class), slots=max(1, slots or 1),
                idle_w=least or 0.0, busy_w=most or 0.0)
        for name, hardware_class, slots, least, most in workers if hardware_class
    ]
    if not machines:
        raise LedgerError(f"{path} holds no sample of a worker, so there is no fleet to replay on")
    return tuple(machines)


def hardware_of(hardware_class: str) -> Hardware:
    """The hardware of a class by its name, "cuda-V100" for one."""
    kind_name, _, model = hardware_class.partition("-")
    kind = as_kind(kind_name)
    if kind is None:
        raise BalancerError(f"{hardware_class!r} is no hardware class: it begins with no known kind "
                            f"({', '.join(KINDS)})")
    return Hardware(kind=kind, model=model)


def _profiles(seconds: Mapping[str, Mapping[str, float]], left: Collection[str]) -> dict[str, TaskProfile]:
    """Each runs where it ran; those of which a run has `left` its worker checkpoint."""
    return {name: TaskProfile(name=name, task="replayed", needs=Needs(hardware=tuple(sorted(by_class))),
                              checkpoints=name in left)
            for name, by_class in seconds.items()}
