"""The tasks that could leave an overloaded worker: the first half of step 6 of the tick."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from balancer.decide.estimate import seconds, speed_of
from balancer.decide.situation import Situation
from balancer.decide.slots import remaining_s, whole_s
from balancer.decide.way_out import way_out
from balancer.model import Fleet, HeldTask, MoveKind, Order, QueuedTask, Rejected, TaskProfile, Worker
from balancer.routing import class_queue, direct_queue


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A task that could leave an overloaded worker.

    `place` is where it lies: the worker's name or, for queued work, a queue. `wait_s` is how long
    it would still wait there for a slot; `held` is set unless it is queued; `home` as in `HeldTask`.
    """

    task_id: str
    profile: TaskProfile
    kind: MoveKind
    source: Worker
    place: str
    size: float = 1.0
    priority: int | None = None
    held: HeldTask | None = None
    wait_s: float = 0.0
    home: str = ""


def migratable_tasks(
    worker: Worker, situation: Situation, orders: Sequence[Order] = (), slots: Mapping[str, int] | None = None
) -> Iterator[Candidate]:
    """What could leave `worker`, the cheapest to move first: queued, reserved, then running tasks.

    Queued are those read at the heads of its direct queue, of its class queue and, by `orders`, of
    the lanes that only its class serves. Running are those that have a way out. Tasks of a profile
    that the fleet does not know are left alone: nobody knows what they need. `slots` by hardware
    class may be given to a caller of many workers, which then counts them once.
    """
    profiles = {lane.profile.name: lane.profile for lane in situation.fleet.lanes}
    counted = slots_by_class(situation.fleet) if slots is None else slots
    yield from _queued(worker, situation, profiles, orders, counted)
    yield from _reserved(worker, situation, profiles)
    for held in worker.running:
        profile = profiles.get(held.profile)
        if profile is not None and way_out(held, profile, worker, situation.settings.preempt):
            yield _held(held, profile, "running", worker, 0.0)


def stuck_tasks(worker: Worker, situation: Situation) -> Iterator[Rejected]:
    """What `worker` holds that cannot be a candidate, wherever to, and why."""
    profiles = {lane.profile.name: lane.profile for lane in situation.fleet.lanes}
    kinds: tuple[tuple[MoveKind, Sequence[HeldTask]], ...] = (
        ("reserved", worker.reserved), ("running", worker.running))
    for kind, tasks in kinds:
        for held in tasks:
            profile = profiles.get(held.profile)
            if profile is None:
                yield _stuck(held, kind, worker, "unknown profile",
                             f"no lane tells what {held.profile!r} needs")
            elif kind == "running" and way_out(held, profile, worker, situation.settings.preempt) is None:
                yield _stuck(held, kind, worker, "not migratable",
                             "the task does not checkpoint and cannot be interrupted there")


def _stuck(held: HeldTask, kind: MoveKind, worker: Worker, reason: str, detail: str) -> Rejected:
    return Rejected(task_id=held.task_id, profile=held.profile, kind=kind, source=worker.name, target="",
                    reason=reason, detail=detail)


def slots_by_class(fleet: Fleet) -> Mapping[str, int]:
    """How many slots the workers of each hardware class have."""
    slots: dict[str, int] = {}
    for worker in fleet.workers:
        name = worker.hardware.hardware_class
        slots[name] = slots.get(name, 0) + worker.slots
    return slots


def lanes_of_class(hardware_class: str, orders: Sequence[Order]) -> frozenset[str]:
    """The lanes that, by these orders, this class serves and no other does."""
    mine: set[str] = set()
    others: set[str] = set()
    for order in orders:
        into = mine if order.hardware_class == hardware_class else others
        into.update(queue for group in order.groups for queue in group)
    return frozenset(mine - others)


def _queued(
    worker: Worker, situation: Situation, profiles: Mapping[str, TaskProfile], orders: Sequence[Order],
    slots: Mapping[str, int],
) -> Iterator[Candidate]:
    hardware_class = worker.hardware.hardware_class
    shared = {class_queue(hardware_class), *lanes_of_class(hardware_class, orders)}
    alone = direct_queue(worker.name)
    ahead_s = dict.fromkeys((alone, *shared), 0.0)
    for task in situation.fleet.queued:
        profile = profiles.get(task.profile)
        if task.queue not in ahead_s or profile is None:
            continue
        servers = worker.slots if task.queue == alone else slots.get(hardware_class, 0)
        ahead_s[task.queue] += _run_s(task, profile, worker, situation) / max(1, servers)
        yield Candidate(
            task_id=task.task_id, profile=profile, kind="queued", source=worker, place=task.queue,
            size=task.size, priority=task.priority if task.priority is not None else profile.priority,
            wait_s=ahead_s[task.queue], home=task.home,
        )


def _reserved(
    worker: Worker, situation: Situation, profiles: Mapping[str, TaskProfile]
) -> Iterator[Candidate]:
    ahead_s = sum(remaining_s(situation, worker, held, profiles.get(held.profile)) for held in worker.running)
    for held in worker.reserved:
        profile = profiles.get(held.profile)
        if profile is None:
            continue
        yield _held(held, profile, "reserved", worker, ahead_s / max(1, worker.slots))
        ahead_s += whole_s(situation, worker, held, profile)


def _held(
    held: HeldTask, profile: TaskProfile, kind: MoveKind, worker: Worker, wait_s: float
) -> Candidate:
    return Candidate(
        task_id=held.task_id, profile=profile, kind=kind, source=worker, place=worker.name,
        size=held.size, priority=held.priority if held.priority is not None else profile.priority,
        held=held, wait_s=wait_s, home=held.home,
    )


def _run_s(task: QueuedTask, profile: TaskProfile, worker: Worker, situation: Situation) -> float:
    one = seconds(situation.estimates, profile, worker.hardware, situation.settings, situation.profiles)
    return task.size * one / speed_of(situation.estimates, worker, profile)
