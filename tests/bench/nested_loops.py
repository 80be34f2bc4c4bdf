"""The seed's way to look for moves, as its text reads: every task against every worker, in Python."""

from __future__ import annotations

import time
from collections.abc import Sequence

from balancer.model import Fleet, Worker


def best_targets(tasks: Sequence[str], fleet: Fleet, source_load: float) -> list[str]:
    """The worker that gains most for each of `tasks` (their profiles): the seed's score, pair by pair."""
    needs = {lane.profile.name: lane.profile.needs for lane in fleet.lanes}
    chosen = []
    for profile in tasks:
        best, best_score = "", 0.0
        for worker in fleet.workers:
            if worker.hardware.kind in needs[profile].hardware:
                score = source_load - load_of(worker)
                if score > best_score:
                    best, best_score = worker.name, score
        chosen.append(best)
    return chosen


def load_of(worker: Worker) -> float:
    """The seed's load of a worker: the mean of what is read."""
    known = [v for v in (worker.reading.cpu, worker.reading.memory, worker.reading.gpu) if v is not None]
    return sum(known) / len(known) if known else 0.0


def seconds_a_pair(fleet: Fleet, tasks: int) -> float:
    """Measured seconds of one task against one worker, over `tasks` tasks and the whole fleet."""
    names = [fleet.lanes[i % len(fleet.lanes)].profile.name for i in range(tasks)]
    began = time.perf_counter()
    best_targets(names, fleet, 1.0)
    return (time.perf_counter() - began) / (tasks * len(fleet.workers))
