"""How loaded each worker and the whole fleet is: step 2 of the tick.

A worker's utilisation is the greatest of its known dimensions. That one number keeps the
dimensions apart: it is over a bound exactly when any dimension is, and under it exactly when
all are, so 99 % of GPU memory beside 10 % of CPU reads as 0.99, never as their mean.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from balancer.model import Fleet, SystemLoad, Worker


def known_dimensions(worker: Worker) -> dict[str, float]:
    """The worker's dimensions that are finite and not negative; a garbled reading counts as absent."""
    return {name: v for name, v in worker.dimensions().items() if math.isfinite(v) and v >= 0}


def utilisation(worker: Worker) -> float | None:
    """The greatest known dimension, 0–1 (a backlog of reserved work is full); `None` if none is known."""
    # As max(known_dimensions(worker).values()), without making them: each tick asks it of every worker.
    reading, greatest = worker.reading, -1.0
    for value in (reading.cpu, reading.memory, reading.gpu, reading.gpu_memory, worker.slots_held):
        if value is not None and greatest < value < math.inf:
            greatest = value
    return min(1.0, greatest) if greatest >= 0 else None


def utilisations(fleet: Fleet) -> dict[str, float]:
    """Utilisation by worker name, for the workers that have one."""
    found = {}
    for worker in fleet.workers:
        value = utilisation(worker)
        if value is not None:
            found[worker.name] = value
    return found


def is_over(worker: Worker, high: float) -> bool:
    """Whether any dimension is above `high`."""
    value = utilisation(worker)
    return value is not None and value > high


def is_under(worker: Worker, low: float) -> bool:
    """Whether all known dimensions are below `low`; a worker of which nothing is known is not under."""
    value = utilisation(worker)
    return value is not None and value < low


def system_load(at: float, values: Mapping[str, float]) -> SystemLoad:
    """Mean, population standard deviation and max − min of utilisations (0–1) by worker.

    A fleet without workers has the load of nobody: zeros, and neither a highest nor a lowest.
    """
    if not values:
        return SystemLoad(at=at, average=0.0, deviation=0.0, imbalance=0.0)
    average = math.fsum(values.values()) / len(values)
    variance = math.fsum((v - average) ** 2 for v in values.values()) / len(values)
    highest = max(values, key=lambda name: (values[name], name))
    lowest = min(values, key=lambda name: (values[name], name))
    return SystemLoad(
        at=at,
        average=average,
        deviation=math.sqrt(variance),
        imbalance=values[highest] - values[lowest],
        highest=highest,
        lowest=lowest,
    )
