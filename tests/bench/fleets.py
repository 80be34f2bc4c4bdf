"""Fleets of any size for the benchmarks: deterministic by seed, busy as a fleet under a backlog is."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

import numpy as np

from balancer.decide.estimate import Estimate, Estimates
from balancer.decide.speeds import Speeds
from balancer.model import (
    Fleet,
    Hardware,
    HeldTask,
    Lane,
    Needs,
    QueuedTask,
    Reading,
    RunFinished,
    TaskProfile,
    Worker,
)
from balancer.model.table import WorkerTable
from balancer.routing import lane_queue

#: The fleet's clock (s).
NOW = 1_764_000_000.0

#: Share of the workers that is idle at one moment: between two tasks, or with nothing it may take.
IDLE = 0.02

#: Messages at the head of each lane that a look reads.
HEADS = 10


def hardware_of(index: int) -> Hardware:
    """The hardware of class `index`: every third class has no GPU."""
    if index % 3 == 2:
        return Hardware(kind="cpu", model=f"C{index}", memory_bytes=64 << 30, telemetry="psutil")
    return Hardware(kind="cuda", model=f"G{index}", compute_capability=6.0 + index % 4,
                    gpu_memory_bytes=(8 << 30) * (1 + index % 4), memory_bytes=64 << 30, telemetry="nvml")


def profile_of(index: int) -> TaskProfile:
    """Profile `index`: one in five needs a GPU, the others prefer one."""
    names = ("cuda",) if index % 5 == 0 else ("cuda", "cpu")
    memory = (4 << 30) * (index % 4) or None
    return TaskProfile(name=f"profile-{index}", task=f"bench.task{index}", checkpoints=index % 2 == 0,
                       needs=Needs(hardware=names, gpu_memory_bytes=memory))


def large_fleet(workers: int, *, lanes: int = 200, classes: int = 20, tasks: int = 1_000_000,
                seed: int = 0, idle: float = IDLE) -> Fleet:
    """A fleet of `workers` in `classes`, with `tasks` waiting in `lanes`."""
    rng = np.random.default_rng(seed)
    profiles = [profile_of(i) for i in range(lanes)]
    kinds = [hardware_of(i) for i in range(min(classes, workers))]
    shares = rng.dirichlet(np.ones(lanes))
    waiting = rng.multinomial(tasks, shares).tolist()
    ages = rng.uniform(10.0, 60.0, lanes).tolist()
    return Fleet(
        at=NOW,
        workers=tuple(_worker(i, kinds[i % len(kinds)], profiles, rng, idle) for i in range(workers)),
        lanes=tuple(Lane(queue=lane_queue(p.name), profile=p, waiting=n, oldest_s=age if n else None)
                    for p, n, age in zip(profiles, waiting, ages, strict=True)),
        queues=MappingProxyType({}),
        queued=tuple(QueuedTask(task_id=f"q{i}-{j}", queue=lane_queue(p.name), profile=p.name)
                     for i, p in enumerate(profiles) for j in range(min(HEADS, waiting[i]))),
    )


def _worker(i: int, hardware: Hardware, profiles: list[TaskProfile], rng: np.random.Generator,
            idle: float) -> Worker:
    name, load = f"w{i}@host{i // 8}", float(rng.uniform(0.02, 0.15))
    gpu = hardware.kind == "cuda"
    running: tuple[HeldTask, ...] = ()
    if rng.random() >= idle:
        profile, load = profiles[int(rng.integers(len(profiles)))], float(rng.uniform(0.3, 0.99))
        running = (HeldTask(
            task_id=f"r{i}", profile=profile.name, lane=lane_queue(profile.name), tag=f"tag{i}",
            checkpoints=profile.checkpoints, started_at=NOW - float(rng.exponential(20.0))),)
    reading = Reading(cpu=load, memory=0.1, gpu=load if gpu else None, gpu_memory=0.1 if gpu else None,
                      temperature_celsius=60.0, power_w=200.0, gpu_memory_free_bytes=30e9 if gpu else None)
    return Worker(name=name, instance=f"host{i // 8}:{i}:1763990000", hardware=hardware, slots=1, at=NOW,
                  reading=reading, running=running, busy=len(running), loop_ticks=i)


def learned(fleet: Fleet, *, seed: int = 0) -> Estimates:
    """Estimates for nine in ten pairs of the fleet's lanes and classes, and for its workers' speeds."""
    rng = np.random.default_rng(seed + 1)
    names = [lane.profile.name for lane in fleet.lanes]
    base = rng.lognormal(3.0, 1.0, len(names))
    pairs = {
        (name, hardware_class): Estimate(seconds=float(base[i] * rng.lognormal(0.0, 0.6)), count=20)
        for i, name in enumerate(names) for hardware_class in fleet.classes if rng.random() < 0.9
    }
    speeds = {w.name: float(rng.lognormal(0.0, 0.1)) for w in fleet.workers}
    return Estimates(
        pairs=MappingProxyType(pairs), worker_speed=Speeds(speeds),
        worker_class=MappingProxyType({w.name: w.hardware.hardware_class for w in fleet.workers}),
        class_speed=MappingProxyType({name: 1.0 + i for i, name in enumerate(fleet.classes)}), typical_s=20.0,
    )


def later(fleet: Fleet, seconds: float) -> Fleet:
    """The same fleet after `seconds`, as if nothing but time had changed."""
    return replace(fleet, at=fleet.at + seconds)


def looked_at_again(fleet: Fleet) -> Fleet:
    """The fleet as the next look shows it: the same workers and profiles, everything else read anew."""
    table = WorkerTable.of(fleet.workers)
    return replace(fleet, workers=WorkerTable(table.roster, table.holdings, table.numbers),
                   lanes=tuple(replace(lane) for lane in fleet.lanes))


def ended_runs(fleet: Fleet, estimates: Estimates, count: int, *, seed: int = 0) -> list[RunFinished]:
    """Ends of runs all over the fleet, about as long as `estimates` say."""
    rng = np.random.default_rng(seed)
    described = WorkerTable.of(fleet.workers).roster.described
    runs = []
    for i, who, what in zip(range(count), rng.integers(len(described), size=count).tolist(),
                            rng.integers(len(fleet.lanes), size=count).tolist(), strict=True):
        name, profile = described[who].name, fleet.lanes[what].profile.name
        hardware_class = described[who].hardware.hardware_class
        known = estimates.pairs.get((profile, hardware_class))
        typical = 20.0 if known is None else known.seconds
        runs.append(RunFinished(
            at=fleet.at, task_id=f"e{i}", profile=profile, worker=name, hardware_class=hardware_class,
            epoch=0, outcome="success", size=1.0, share=1.0,
            duration_s=typical / estimates.worker_speed.get(name, 1.0) * float(rng.lognormal(0.0, 0.2))))
    return runs
