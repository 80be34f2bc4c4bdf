"""Scenarios from recorded workloads: Microsoft's Philly trace at Gavel's speeds, and Alibaba's openb.

Times are compressed to minutes, and the longest jobs are clipped so that one of them cannot be the whole run;
both are said in the scenario's `about`.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from random import Random
from typing import Final

import numpy as np

from balancer.errors import BalancerError
from balancer.model import Needs, TaskProfile
from balancer.simulate.cards import CARDS
from balancer.simulate.mix import UNKNOWN, Mix
from balancer.simulate.scenario import Job, Machine, Scenario
from balancer.simulate.traces import (
    Throughputs,
    TraceJob,
    load_throughputs,
    load_trace,
    single_gpu_first,
)

#: Jobs of a run, consecutive ones from a random place in the trace.
JOBS: Final = 500

#: Jobs longer than this percentile are clipped to it.
PERCENTILE: Final = 90.0

#: Seconds over which the jobs arrive, and the load that they are while they do.
ARRIVING_S: Final = 300.0
LOAD: Final = 1.2


def philly(seed: int, workers: int = 24) -> Scenario:
    """500 single-GPU jobs of the Philly trace on K80, P100 and V100."""
    speeds = load_throughputs()
    jobs = single_gpu_first(load_trace(), speeds, JOBS)
    first = Random(seed).randint(0, len(jobs) - JOBS)
    classes = ("K80", "P100", "V100")
    machines = tuple(sorted(
        (CARDS[classes[i % 3]].machine(i // 3 + 1) for i in range(workers)), key=lambda m: m.name))
    return of_trace("philly", jobs[first:first + JOBS], speeds, machines, seed)


def of_trace(name: str, trace: Sequence[TraceJob], speeds: Throughputs, machines: tuple[Machine, ...],
             seed: int) -> Scenario:
    """Jobs of a trace, their arrivals compressed and their sizes scaled to `LOAD` of these machines."""
    here = {m.hardware.hardware_class for m in machines}
    trace = [job for job in trace if here & set(speeds.classes(job.job_type))]
    if not trace:
        raise BalancerError(f"the {name} trace holds no job that this fleet can run")
    seconds = {
        job.job_type.profile: {h: s for h, s in speeds.slowness(job.job_type).items() if h in here}
        for job in trace
    }
    raw = np.array([speeds.best_s(job) for job in trace])
    clipped = np.minimum(raw, np.percentile(raw, PERCENTILE))
    weights: dict[str, float] = {}
    for job, work in zip(trace, clipped.tolist(), strict=True):
        weights[job.job_type.profile] = weights.get(job.job_type.profile, 0.0) + work
    mix = Mix(seconds=seconds, weights=weights)
    scale = LOAD * ARRIVING_S * mix.rate(machines) / float(clipped.sum())
    start, span = trace[0].arrival_s, (trace[-1].arrival_s - trace[0].arrival_s) or 1.0
    chance = Random(seed)
    jobs = []
    for number, (job, work) in enumerate(zip(trace, (clipped * scale).tolist(), strict=True)):
        jobs.append(Job(
            task_id=f"job-{number:05d}", profile=job.job_type.profile, size=work,
            work=work * chance.lognormvariate(0.0, UNKNOWN),
            release_s=ARRIVING_S * (job.arrival_s - start) / span))
    about = (f"{len(jobs)} jobs of the trace, those above percentile {PERCENTILE:g} clipped, "
             f"1 s = {1 / scale:,.0f} s of it, arriving over {ARRIVING_S:g} s at load {LOAD:g}")
    return Scenario(name=name, about=about, machines=machines, jobs=tuple(jobs), profiles=mix.profiles(),
                    seconds=seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """One pod that asks for GPUs: whole ones, or `milli` thousandths of one. Times in seconds."""

    name: str
    gpus: int
    milli: int
    qos: str
    created_s: float
    duration_s: float | None
    cpu_milli: int
    memory_mib: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenNode:
    """One node: GPUs of one model."""

    name: str
    gpus: int
    model: str
    cpu_milli: int
    memory_mib: int


@cache
def load_pods() -> tuple[Pod, ...]:
    """The pods of openb that ask for GPUs, in order of creation."""
    pods = []
    for row in _rows("openb_pods.csv"):
        began, ended = row["scheduled_time"], row["deletion_time"]
        pods.append(Pod(
            name=row["name"], gpus=int(row["num_gpu"]), milli=int(row["gpu_milli"]), qos=row["qos"],
            created_s=float(row["creation_time"]), cpu_milli=int(row["cpu_milli"]),
            memory_mib=int(row["memory_mib"]),
            duration_s=float(ended) - float(began) if began and ended else None))
    return tuple(sorted(pods, key=lambda pod: (pod.created_s, pod.name)))


@cache
def load_nodes() -> tuple[OpenNode, ...]:
    """The GPU nodes of openb."""
    return tuple(
        OpenNode(name=row["sn"], gpus=int(row["gpu"]), model=row["model"], cpu_milli=int(row["cpu_milli"]),
                 memory_mib=int(row["memory_mib"]))
        for row in _rows("openb_nodes.csv"))


def _rows(name: str) -> list[dict[str, str]]:
    table = (files("balancer.simulate") / "data" / name).read_text(encoding="utf-8")
    return list(csv.DictReader(table.splitlines()))


#: Of the nodes of openb those whose model is named in public, as many GPUs of each as there are of it in a
#: hundred, and the model whose data sheet gives the speed. (G2 and G3 are not disclosed.)
OPENB_MODELS: Final[Mapping[str, str]] = {"T4": "T4", "P100": "P100", "V100M16": "V100", "V100M32": "V100",
                                          "A10": "A10"}

#: How much of a pod's work is bound to arithmetic (assumed): what serves is bound to memory, batches are not.
COMPUTE: Final[Mapping[str, float]] = {"LS": 0.1, "Guaranteed": 0.1, "Burstable": 0.5, "BE": 0.9}

#: The whole of a GPU, in bytes: what a pod asks for of it in thousandths becomes memory.
DEVICE_BYTES: Final = 16 * 10**9

#: Pods of a run, consecutive ones from a random place in the trace.
PODS: Final = 1000

#: Tasks that share a device at most.
SHARING: Final = 4


def openb(seed: int, workers: int = 24) -> Scenario:
    """A thousand pods of Alibaba's cluster that ask for one GPU or a part of one, on shared devices."""
    pods = [pod for pod in load_pods() if pod.gpus == 1 and pod.duration_s]
    chance = Random(seed)
    first = chance.randint(0, len(pods) - PODS)
    chosen = pods[first:first + PODS]
    machines = _open_machines(workers)
    seconds, profiles, jobs = {}, {}, []
    raw = np.array([pod.duration_s for pod in chosen])
    work = np.minimum(raw, np.percentile(raw, PERCENTILE))
    for pod in chosen:
        name = f"{pod.qos} {_bucket(pod.milli)}/1000"
        if name not in profiles:
            compute = COMPUTE.get(pod.qos, 0.5)
            seconds[name] = {m.hardware.hardware_class: CARDS[m.hardware.model].seconds(compute)
                             for m in machines}
            profiles[name] = TaskProfile(
                name=name, task="pod", checkpoints=pod.qos == "BE",
                needs=Needs(gpu_memory_bytes=_bucket(pod.milli) * DEVICE_BYTES // 1000))
    scale = _open_scale(chosen, work, machines, seconds)
    for number, (pod, size) in enumerate(zip(chosen, (work * scale).tolist(), strict=True)):
        jobs.append(Job(
            task_id=f"job-{number:05d}", profile=f"{pod.qos} {_bucket(pod.milli)}/1000", size=size,
            work=size * chance.lognormvariate(0.0, UNKNOWN), release_s=ARRIVING_S * number / len(chosen)))
    about = (f"{PODS} pods, those above percentile {PERCENTILE:g} clipped, 1 s = {1 / scale:,.0f} s, "
             f"arriving evenly in their order over {ARRIVING_S:g} s at load {LOAD:g}; speeds by data sheet")
    return Scenario(name="openb", about=about, machines=machines, profiles=profiles, seconds=seconds,
                    jobs=tuple(jobs))


def _bucket(milli: int) -> int:
    """Thousandths rounded up to tenths, so that lanes stay few."""
    return min(1000, max(100, -(-milli // 100) * 100))


def _open_machines(workers: int) -> tuple[Machine, ...]:
    """GPUs of the disclosed models in the proportions of the cluster, one worker each."""
    counts: dict[str, int] = {}
    for node in load_nodes():
        if node.model in OPENB_MODELS:
            counts[OPENB_MODELS[node.model]] = counts.get(OPENB_MODELS[node.model], 0) + node.gpus
    total = sum(counts.values())
    shares = {model: max(1, round(workers * count / total)) for model, count in counts.items()}
    machines = []
    for model, count in sorted(shares.items()):
        for number in range(count):
            card = CARDS[model].machine(number + 1, slots=SHARING)
            machines.append(Machine(
                name=card.name, hardware=replace(card.hardware, gpu_memory_bytes=DEVICE_BYTES),
                slots=SHARING, idle_w=card.idle_w, busy_w=card.busy_w, shared_bytes=DEVICE_BYTES))
    return tuple(machines)


def _open_scale(pods: Sequence[Pod], work: np.ndarray, machines: Sequence[Machine],
                seconds: Mapping[str, Mapping[str, float]]) -> float:
    """Seconds here for one of the trace, so that the pods are `LOAD` of the devices while they arrive."""
    weights: dict[str, float] = {}
    for pod, size in zip(pods, work.tolist(), strict=True):
        name = f"{pod.qos} {_bucket(pod.milli)}/1000"
        weights[name] = weights.get(name, 0.0) + size * _bucket(pod.milli) / 1000
    devices = [Machine(name=m.name, hardware=m.hardware) for m in machines]
    rate = Mix(seconds=seconds, weights=weights).rate(devices)
    return LOAD * ARRIVING_S * rate / sum(weights.values())
