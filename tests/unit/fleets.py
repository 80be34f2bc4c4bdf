"""Fleets, lanes and tasks in a line of text, for before/after tables.

    fleet("cuda-V100:.95 cpu*3", lanes="resnet:12 lm:0@cuda")

A worker is CLASS, CLASS*COUNT or CLASS:LOAD (its utilisation, 0–1); the names are CLASS-0, CLASS-1, …
A lane is PROFILE:WAITING, and PROFILE:WAITING@KIND,KIND when it needs some hardware.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from balancer.decide.estimate import Estimate, Estimates
from balancer.decide.history import MoveHistory
from balancer.decide.situation import Situation
from balancer.model import (
    HARDWARE_PROFILES,
    Fleet,
    Hardware,
    HeldTask,
    Lane,
    Needs,
    Reading,
    TaskProfile,
    Thresholds,
    Worker,
    as_kind,
)
from balancer.routing import lane_queue
from balancer.settings import Settings

#: The clock of every test fleet (s).
NOW = 1_000.0


def hardware(hardware_class: str) -> Hardware:
    """The hardware of a class: "cuda-V100" is a CUDA device of the model V100."""
    name, _, model = hardware_class.partition("-")
    kind = as_kind(name)
    assert kind is not None, f"{name} is no kind of hardware"
    return Hardware(kind=kind, model=model)


def worker(hardware_class: str, number: int = 0, *, load: float | None = None, slots: int = 1,
           running: tuple[HeldTask, ...] = (), reserved: tuple[HeldTask, ...] = (),
           health: str = "ok") -> Worker:
    """One worker of a class, named CLASS-NUMBER."""
    reading = Reading() if load is None else Reading(cpu=load, gpu=None if hardware_class == "cpu" else load)
    return Worker(
        name=f"{hardware_class}-{number}", instance=f"host:{number}:1", hardware=hardware(hardware_class),
        slots=slots, at=NOW, reading=reading, running=running, reserved=reserved, busy=len(running),
        health=health,
    )


def workers(text: str) -> tuple[Worker, ...]:
    """Workers from text such as "cuda-V100:.95 cpu*3"."""
    made: list[Worker] = []
    for word in text.split():
        name, _, load = word.partition(":")
        hardware_class, _, count = name.partition("*")
        for _ in range(int(count or 1)):
            number = sum(w.hardware.hardware_class == hardware_class for w in made)
            made.append(worker(hardware_class, number, load=float(load) if load else None))
    return tuple(made)


def lane(name: str, waiting: int = 0, needs: Needs | None = None, *, oldest_s: float | None = None,
         checkpoints: bool = True, expected_s: Mapping[str, float] | None = None,
         mean_size: float = 1.0) -> Lane:
    """The lane of one profile."""
    profile = TaskProfile(
        name=name, task=f"tasks.{name}", needs=needs or Needs(), checkpoints=checkpoints,
        expected_s=expected_s or {},
    )
    return Lane(queue=lane_queue(name), profile=profile, waiting=waiting, oldest_s=oldest_s,
                mean_size=mean_size)


def lanes(text: str) -> tuple[Lane, ...]:
    """Lanes from text such as "resnet:12 lm:0@cuda,cpu"."""
    made = []
    for word in text.split():
        name, _, rest = word.partition(":")
        waiting, _, kinds = rest.partition("@")
        made.append(lane(name, int(waiting or 0), Needs(hardware=tuple(kinds.split(","))) if kinds else None))
    return tuple(made)


def fleet(text: str, *, lanes: str = "", at: float = NOW) -> Fleet:
    """A fleet of `workers(text)` and `lanes(lanes)`."""
    return Fleet(at=at, workers=workers(text), lanes=globals()["lanes"](lanes))


def held(task_id: str, profile: str, *, ran_s: float | None = None, size: float = 1.0,
         checkpoint_ago_s: float | None = None, state_bytes: int | None = None) -> HeldTask:
    """A held task: running since `ran_s`, or reserved without it."""
    return HeldTask(
        task_id=task_id, profile=profile, lane=lane_queue(profile), size=size,
        started_at=None if ran_s is None else NOW - ran_s,
        checkpointed_at=None if checkpoint_ago_s is None else NOW - checkpoint_ago_s,
        state_bytes=state_bytes, checkpoints=True,
    )


def known(table: Mapping[str, Mapping[str, float]], count: int = 20) -> Estimates:
    """Estimates from {profile: {class: seconds}}, each learned from `count` runs."""
    pairs = {
        (profile, hardware_class): Estimate(seconds=s, count=count)
        for profile, by_class in table.items() for hardware_class, s in by_class.items()
    }
    return Estimates(pairs=pairs)


def situation(fleet: Fleet, estimates: Estimates | None = None, *, settings: Settings | None = None,
              history: MoveHistory | None = None, prices: Mapping[str, float] | None = None) -> Situation:
    """What a strategy would be given of this fleet."""
    return Situation(
        fleet=fleet, settings=settings or Settings(), estimates=estimates or Estimates(),
        history=history or MoveHistory(), profiles=HARDWARE_PROFILES, prices=prices or {},
        thresholds=Thresholds(high=0.85, low=0.2, initial_high=0.85, initial_low=0.2),
    )


def with_running(fleet: Fleet, name: str, *tasks: HeldTask) -> Fleet:
    """The fleet with these tasks running on a worker."""
    changed = (replace(w, running=tasks, busy=len(tasks)) if w.name == name else w for w in fleet.workers)
    return replace(fleet, workers=tuple(changed))
