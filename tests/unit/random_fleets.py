"""Fleets of every sort by seed: small, unlike, half broken. For tests that hold fast code to plain code."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from balancer.decide.estimate import Estimate, Estimates
from balancer.decide.situation import Situation
from balancer.model import Fleet, Hardware, HeldTask, Lane, Needs, QueuedTask, Reading, TaskProfile, Worker
from balancer.routing import class_queue, direct_queue, lane_queue
from balancer.settings import Settings
from tests.unit.fleets import NOW, situation

#: A profile that tasks bear and no lane knows.
STRANGER = "stranger"


def random_situation(seed: int) -> Situation:
    """A fleet of up to a dozen workers and eight lanes, with estimates for some of its pairs."""
    chance = random.Random(seed)
    profiles = [_profile(chance, i) for i in range(chance.randrange(9))]
    hardware = [_hardware(chance) for _ in range(5)]
    names = [*(p.name for p in profiles), STRANGER]
    workers = tuple(_worker(chance, i, chance.choice(hardware), names) for i in range(chance.randrange(13)))
    lanes = tuple(_lane(chance, profile) for profile in profiles)
    queues = _queues(chance, workers)
    fleet = Fleet(at=NOW, workers=workers, lanes=lanes, queues=queues,
                  queued=_queued(chance, lanes, queues, names))
    return situation(fleet, _estimates(chance, names, workers), settings=_settings(chance))


def _settings(chance: random.Random) -> Settings:
    hints: Mapping[str, Any] = chance.choice([{}, {"p0": {"cpu": 4.0}}])
    return Settings(hints=hints, enable_hardware_specific_strategies=chance.random() < 0.9)


def _profile(chance: random.Random, i: int) -> TaskProfile:
    needs = Needs(
        hardware=chance.choice([(), ("cuda",), ("cuda", "cpu"), ("rocm", "cuda-A")]),
        gpu_memory_bytes=chance.choice([None, None, 10]), memory_bytes=chance.choice([None, None, 40]),
        affinity=chance.choice([(), (), (), ("rack=a",), ("w1",), ("w1", "rack=a")]))
    return TaskProfile(name=f"p{i}", task="t", checkpoints=chance.random() < 0.7, needs=needs,
                       expected_s=chance.choice([{}, {}, {"cuda": 3.0}]))


def _hardware(chance: random.Random) -> Hardware:
    return Hardware(kind=chance.choice(["cpu", "cuda", "rocm"]), model=chance.choice(["A", "B", ""]),
                    gpu_memory_bytes=chance.choice([None, 8, 16]), memory_bytes=chance.choice([None, 32, 64]),
                    labels=chance.choice([(), (("rack", "a"),)]))


def _worker(chance: random.Random, i: int, hardware: Hardware, names: list[str]) -> Worker:
    slots = chance.choice([0, 1, 1, 2, 4])
    running = tuple(_held(chance, f"r{i}-{j}", names, runs=True) for j in range(chance.randrange(slots + 2)))
    reserved = tuple(_held(chance, f"h{i}-{j}", names) for j in range(chance.choice([0, 0, 0, 1, 3])))
    reading = Reading(cpu=chance.choice([None, 0.5]), temperature_celsius=chance.choice([None, 60.0, 99.0]),
                      gpu_memory_free_bytes=chance.choice([None, 20, 4]))
    return Worker(name=f"w{i}", instance=f"host:{i}:1", hardware=hardware, slots=slots, at=NOW,
                  reading=reading, running=running, reserved=reserved,
                  busy=len(running) + chance.choice([0, 0, 0, 1]),
                  health=chance.choice(["ok", "ok", "ok", "degraded"]))


def _held(chance: random.Random, task_id: str, names: list[str], *, runs: bool = False) -> HeldTask:
    task = HeldTask(task_id=task_id, profile=chance.choice(names), size=chance.choice([1.0, 2.5, 0.3]),
                    epoch=chance.choice([0, 0, 2]), checkpoints=chance.random() < 0.5)
    if not runs:
        return task
    ran_s = chance.expovariate(1 / 60)
    task = replace(task, started_at=NOW - ran_s)
    if chance.random() < 0.5:
        return task
    return replace(task, checkpointed_at=NOW - chance.random() * ran_s,
                   share_done=chance.choice([None, 0.005, chance.random()]),
                   share_before=chance.choice([None, 0.0, 0.2]))


def _lane(chance: random.Random, profile: TaskProfile) -> Lane:
    waiting = chance.choice([0, 0, 1, 5, 300])
    return Lane(queue=lane_queue(profile.name), profile=profile, waiting=waiting,
                mean_size=chance.choice([1.0, 1.0, 3.0]),
                oldest_s=chance.uniform(0, 500) if waiting and chance.random() < 0.9 else None)


def _queues(chance: random.Random, workers: tuple[Worker, ...]) -> dict[str, int]:
    places = [direct_queue(w.name) for w in workers]
    places += [class_queue(w.hardware.hardware_class) for w in workers]
    return {queue: chance.randrange(1, 4) for queue in sorted(set(places)) if chance.random() < 0.2}


def _queued(chance: random.Random, lanes: tuple[Lane, ...], queues: Mapping[str, int],
            names: list[str]) -> tuple[QueuedTask, ...]:
    heads = [(lane.queue, lane.profile.name) for lane in lanes for _ in range(min(3, lane.waiting))]
    heads += [(queue, chance.choice(names)) for queue, count in queues.items() for _ in range(count)]
    return tuple(QueuedTask(task_id=f"q{i}", queue=queue, profile=profile, size=chance.choice([1.0, 2.0]))
                 for i, (queue, profile) in enumerate(heads))


def _estimates(chance: random.Random, names: list[str], workers: tuple[Worker, ...]) -> Estimates:
    classes = sorted({w.hardware.hardware_class for w in workers})
    pairs = {(name, each): Estimate(seconds=chance.lognormvariate(2, 1), count=chance.randrange(1, 8))
             for name in names for each in classes if chance.random() < 0.6}
    return Estimates(
        pairs=pairs, typical_s=chance.choice([None, 9.0]), class_speed=dict.fromkeys(classes[1:], 1.5),
        worker_speed={w.name: chance.lognormvariate(0, 0.3) for w in workers if chance.random() < 0.8},
        worker_class={w.name: w.hardware.hardware_class if chance.random() < 0.9 else "other"
                      for w in workers},
    )
