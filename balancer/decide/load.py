"""How loaded each worker and the whole fleet is: step 2 of the tick.

A worker's utilisation is the greatest of its known dimensions. That one number keeps the
dimensions apart: it is over a bound exactly when any dimension is, and under it exactly when
all are, so 99 % of GPU memory beside 10 % of CPU reads as 0.99, never as their mean.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import reduce
from itertools import compress
from typing import Final

import numpy as np
from numpy.typing import NDArray

from balancer.model import Fleet, SystemLoad, Worker
from balancer.model.table import READING_FIELDS, Roster, WorkerTable

#: Columns of a fleet's readings that are dimensions of load.
MEASURED: Final = [READING_FIELDS.index(name) for name in ("cpu", "memory", "gpu", "gpu_memory", "io")]


def known_dimensions(worker: Worker) -> dict[str, float]:
    """The worker's dimensions that are finite and not negative; a garbled reading counts as absent."""
    return {name: v for name, v in worker.dimensions().items() if math.isfinite(v) and v >= 0}


def utilisation(worker: Worker) -> float | None:
    """The greatest known dimension, 0–1 (a backlog of reserved work is full); `None` if none is known."""
    # As max(known_dimensions(worker).values()), without making them: each tick asks it of every worker.
    told, greatest = worker.reading, -1.0
    for value in (told.cpu, told.memory, told.gpu, told.gpu_memory, told.io, worker.slots_held):
        if value is not None and greatest < value < math.inf:
            greatest = value
    return min(1.0, greatest) if greatest >= 0 else None


class Utilisations(Mapping[str, float]):
    """Utilisation by worker name: `names`, and `shares` (W,) in which NaN is a worker without one."""

    __slots__ = ("_places", "_roster", "known", "names", "shares")

    def __init__(self, names: tuple[str, ...], shares: NDArray[np.float64],
                 roster: Roster | None = None) -> None:
        self.names = names
        self.shares = shares
        self.known = np.isfinite(shares)
        self._roster = roster
        self._places = None if roster is None else roster.places

    @classmethod
    def of(cls, values: Mapping[str, float]) -> Utilisations:
        """Any utilisations by name."""
        if isinstance(values, cls):
            return values
        return cls(tuple(values), np.array(list(values.values()), dtype=np.float64))

    def __getitem__(self, name: str) -> float:
        if self._places is None:
            self._places = {known: i for i, known in enumerate(self.names)}
        place = self._places[name]
        if not self.known[place]:
            raise KeyError(name)
        return float(self.shares[place])

    def by_name(self, share: float) -> list[str]:
        """The first and the last name of those with exactly this share."""
        places = np.flatnonzero(self.shares == share)
        if self._roster is None:
            names = [self.names[i] for i in places.tolist()]
            return [min(names), max(names)]
        ranks = self._roster.ranks[places]
        return [self.names[places[i]] for i in (int(ranks.argmin()), int(ranks.argmax()))]

    def __iter__(self) -> Iterator[str]:
        return compress(self.names, self.known.tolist())

    def __len__(self) -> int:
        return int(self.known.sum())


def utilisations(fleet: Fleet) -> Utilisations:
    """Utilisation by worker name, for the workers that have one: as `utilisation`, of all at once."""
    workers = WorkerTable.of(fleet.workers)
    roster, holdings, numbers = workers.roster, workers.holdings, workers.numbers
    slots = roster.slots
    with np.errstate(all="ignore"):
        held = np.where(slots != 0, (np.maximum(numbers.busy, holdings.ran) + holdings.reserved) / slots,
                        np.nan)
    values = [held, *(numbers.readings[:, column] for column in MEASURED)]
    greatest = reduce(np.fmax, values)
    if np.isposinf(greatest).any():  # garbled
        greatest = np.where(np.isfinite(values), values, -1.0).max(axis=0)
    return Utilisations(roster.names, np.where(greatest >= 0, np.minimum(1.0, greatest), np.nan), roster)


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
    loads = Utilisations.of(values)
    known = loads.shares[loads.known]
    if not known.size:
        return SystemLoad(at=at, average=0.0, deviation=0.0, imbalance=0.0)
    average, deviation = float(known.mean()), float(known.std())
    most, least = float(known.max()), float(known.min())
    return SystemLoad(
        at=at,
        average=average,
        deviation=deviation,
        imbalance=most - least,
        highest=loads.by_name(most)[1],
        lowest=loads.by_name(least)[0],
    )
