"""A fleet in virtual time that pulls by the published orders: the tick's core against true durations.

Workers have one slot each, ask `ranked` at every pop, tell their progress at checkpoints a second apart and
hand a running task over at a tick, a tenth of a second later. The core sees only what a real one would.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from random import Random

from balancer.decide import engine, memory
from balancer.decide.learn import learn, learn_migrations
from balancer.decide.pull import ranked
from balancer.decide.situation import Strategy
from balancer.decide.strategies import by_name
from balancer.model import Fleet, HeldTask, Lane, Migration, Move, Order, RunFinished, TaskProfile, Worker
from balancer.routing import lane_queue
from balancer.settings import Settings

HANDOVER_S = 0.1
CHECKPOINT_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    task_id: str
    profile: str
    size: float
    release_s: float = 0.0


@dataclass(slots=True, kw_only=True)
class Run:
    """A job on a worker: since when, from which share on, and a number that tells stale ends apart."""

    job: Job
    started_at: float
    before: float
    number: int
    moved: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    makespan_s: float
    mean_s: float
    moves: int


@dataclass(slots=True)
class PullFleet:
    """`seconds` are the truth: for size 1 by profile and class. `slowed` workers run at that speed."""

    strategy: Strategy
    settings: Settings
    workers: Sequence[Worker]
    seconds: Mapping[str, Mapping[str, float]]
    jobs: Sequence[Job]
    slowed: Mapping[str, float] = field(default_factory=dict)
    lanes: dict[str, list[tuple[Job, float]]] = field(default_factory=dict)
    runs: dict[str, Run] = field(default_factory=dict)

    def _speed(self, worker: Worker, job: Job) -> float:
        """Share of the job that this worker does in a second."""
        whole = job.size * self.seconds[job.profile][worker.hardware.hardware_class]
        return self.slowed.get(worker.name, 1.0) / whole

    def _share(self, worker: Worker, at: float) -> float:
        run = self.runs[worker.name]
        return run.before + max(0.0, at - run.started_at) * self._speed(worker, run.job)

    def _held(self, worker: Worker, at: float) -> tuple[HeldTask, ...]:
        run = self.runs.get(worker.name)
        if run is None:
            return ()
        saves = int(max(0.0, at - run.started_at) / CHECKPOINT_S)
        saved_at = run.started_at + saves * CHECKPOINT_S
        return (HeldTask(
            task_id=run.job.task_id, profile=run.job.profile, size=run.job.size,
            started_at=run.started_at, checkpoints=True, epoch=int(run.moved), share_before=run.before,
            checkpointed_at=saved_at if saves else None,
            share_done=self._share(worker, saved_at) if saves else None,
        ),)

    def observe(self, at: float) -> Fleet:
        """What heartbeats and queue lengths tell."""
        workers = []
        for worker in self.workers:
            held = self._held(worker, at)
            workers.append(replace(worker, at=at, running=held, busy=len(held)))
        lanes = []
        for profile in self.seconds:
            waiting = [job for job, _ in self.lanes[lane_queue(profile)]]
            lanes.append(Lane(
                queue=lane_queue(profile), waiting=len(waiting), profile=TaskProfile(
                    name=profile, task="train", checkpoints=True),
                mean_size=sum(j.size for j in waiting) / len(waiting) if waiting else 1.0,
                oldest_s=at - waiting[0].release_s if waiting else None,
            ))
        return Fleet(at=at, workers=tuple(workers), lanes=tuple(lanes))


def simulate(strategy: str, workers: Sequence[Worker], seconds: Mapping[str, Mapping[str, float]],
             jobs: Sequence[Job], settings: Settings, *, slowed: Mapping[str, float] | None = None,
             seed: int = 0) -> Result:
    """Run all jobs to their end; raises AssertionError if the fleet stands still with work waiting."""
    fleet = PullFleet(by_name(strategy), settings, workers, seconds, jobs, slowed or {})
    fleet.lanes = {lane_queue(profile): [] for profile in seconds}
    return _Clock(fleet, Random(seed)).run()


class _Clock:
    """The events of one simulation, in order of time."""

    def __init__(self, fleet: PullFleet, random: Random) -> None:
        self.fleet, self.random = fleet, random
        self.memory = memory.fresh(fleet.settings)
        self.orders: dict[str, Order] = {}
        self.ended: list[tuple[float, Job]] = []
        self.moves: list[Move] = []
        self.numbers = count()
        self.events: list[tuple[float, int, str, object]] = []

    def at(self, when: float, what: str, subject: object = None) -> None:
        heapq.heappush(self.events, (when, next(self.numbers), what, subject))

    def run(self) -> Result:
        for job in self.fleet.jobs:
            self.at(job.release_s, "release", job)
        self.at(0.0, "price")
        self.at(self.fleet.settings.check_interval, "tick")
        while len(self.ended) < len(self.fleet.jobs):
            now = self.events[0][0]
            while self.events and self.events[0][0] <= now:
                _, _, what, subject = heapq.heappop(self.events)
                getattr(self, f"_{what}")(now, subject)
            self._pull(now)
            standing = not self.fleet.runs and any(self.fleet.lanes.values())
            assert not standing or now < 1e6, "the fleet stands still with work waiting"
        spent = [end - job.release_s for end, job in self.ended]
        return Result(makespan_s=self.ended[-1][0], mean_s=sum(spent) / len(spent), moves=len(self.moves))

    def _release(self, now: float, job: Job) -> None:
        self.fleet.lanes[lane_queue(job.profile)].append((job, now))

    def _price(self, now: float, _: object) -> None:
        seen = self.fleet.observe(now)
        self.memory, orders = engine.price(self.memory, seen, self.fleet.settings, self.fleet.strategy)
        self.orders = {order.hardware_class: order for order in orders}
        self.at(now + self.fleet.settings.price_interval, "price")

    def _tick(self, now: float, _: object) -> None:
        seen = self.fleet.observe(now)
        self.memory, decision = engine.decide(self.memory, seen, self.fleet.settings, self.fleet.strategy, ())
        for move in decision.moves:
            self._leave(now, move)
        self.at(now + self.fleet.settings.check_interval, "tick")

    def _leave(self, now: float, move: Move) -> None:
        """The task goes on at the target from where it is now; checkpoints are cheap here."""
        source = next(w for w in self.fleet.workers if w.name == move.source)
        run, share = self.fleet.runs[source.name], self.fleet._share(source, now)
        target = next(w for w in self.fleet.workers if w.name == move.target)
        del self.fleet.runs[source.name]
        self._told(now, source, run, share, "moved")
        self._start(now + HANDOVER_S, target, run.job, share, moved=True)
        ended = Migration(move=move, state="completed", requested_at=now, started_at=now + HANDOVER_S,
                          ended_at=now + HANDOVER_S)
        self.memory = learn_migrations(self.memory, (ended,), self.fleet.settings)
        self.moves.append(move)

    def _start(self, now: float, worker: Worker, job: Job, share: float, *, moved: bool = False) -> None:
        assert worker.name not in self.fleet.runs, "one slot, one task"
        run = Run(job=job, started_at=now, before=share, number=next(self.numbers), moved=moved)
        self.fleet.runs[worker.name] = run
        self.at(now + (1 - share) / self.fleet._speed(worker, job), "finish", (worker, run.number))

    def _finish(self, now: float, subject: tuple[Worker, int]) -> None:
        worker, number = subject
        run = self.fleet.runs.get(worker.name)
        if run is None or run.number != number:
            return
        del self.fleet.runs[worker.name]
        self._told(now, worker, run, 1.0, "success")
        self.ended.append((now, run.job))

    def _told(self, now: float, worker: Worker, run: Run, share: float, outcome: str) -> None:
        event = RunFinished(
            at=now, task_id=run.job.task_id, profile=run.job.profile, worker=worker.name,
            hardware_class=worker.hardware.hardware_class, epoch=int(run.moved), outcome=outcome,
            size=run.job.size,
            duration_s=max(1e-9, now - run.started_at), share=min(1.0, share - run.before),
        )
        self.memory = learn(self.memory, (event,), Fleet(at=now, workers=tuple(self.fleet.workers)),
                            self.fleet.settings)

    def _pull(self, now: float) -> None:
        """Idle workers pop, in no particular order."""
        idle = [w for w in self.fleet.workers if w.name not in self.fleet.runs]
        self.random.shuffle(idle)
        lanes = self.fleet.lanes
        for worker in idle:
            order = self.orders[worker.hardware.hardware_class]
            waiting = {queue: len(jobs) for queue, jobs in lanes.items()}
            ages = {queue: now - jobs[0][1] for queue, jobs in lanes.items() if jobs}
            speed = order.speeds.get(worker.name, 1.0)
            first = order.first_runs.get(worker.name)
            listed = ranked(order, waiting, ages, speed, first=first,
                            special=order.special.get(worker.name, {}))
            queue = next((q for q in listed if lanes[q]), None)
            if queue is not None:
                self._start(now, worker, lanes[queue].pop(0)[0], 0.0)
