"""What other programs tell the balancer about its fleet, beside what workers report themselves.

The seed's two calls from outside end here: metrics of a worker that some monitor knows better,
and a task that was cancelled so that it can move. Both wait here, from any thread, until the next
turn of the loop takes them up.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from threading import Lock
from typing import Any, Final

from balancer.errors import BalancerError
from balancer.model import Event, Fleet, HandedOver, MetricsTold, Migration, Reading, SetAside, TaskLeft
from balancer.option_values import near

#: What a reading holds, and which of it is a share of something.
QUANTITIES: Final = tuple(f.name for f in fields(Reading))
RATIOS: Final = frozenset({"cpu", "memory", "gpu", "gpu_memory", "pressure", "io"})

#: Ratios a little above 1 are how samplers round; more is a percentage or garbage.
RATIO_TOLERANCE: Final = 1.05


@dataclass(frozen=True, slots=True, kw_only=True)
class OutsideReading:
    """Metrics of one worker from outside; they stand until `until` (server clock, s)."""

    worker: str
    values: Mapping[str, float | None]
    until: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Departure:
    """A task that was cancelled on its worker for a migration, as told at `at`."""

    task_id: str
    worker: str
    at: float


class Outside:
    """The inbox of a balancer: safe to write from any thread, emptied by its turns."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._readings: dict[str, OutsideReading] = {}
        self._departures: tuple[Departure, ...] = ()

    def tell_reading(self, worker: str, metrics: Mapping[str, Any], until: float,
                     fleet: Fleet | None = None) -> None:
        """Later metrics of the same worker add to earlier ones and replace what they name.

        Raises `BalancerError` for garbage, and for a worker that is not in `fleet` where that is known.
        """
        values = checked_metrics(worker, metrics)
        _require(worker, fleet)
        with self._lock:
            earlier = self._readings.get(worker)
            together = {**(earlier.values if earlier else {}), **values}
            self._readings[worker] = OutsideReading(worker=worker, values=together, until=until)

    def tell_departure(self, task_id: str, worker: str, at: float, fleet: Fleet | None = None) -> None:
        """Raises as `tell_reading`."""
        left = Departure(task_id=checked_name("task_id", task_id),
                         worker=checked_name("source_worker_id", worker), at=at)
        _require(worker, fleet)
        with self._lock:
            self._departures = (*self._departures, left)

    def hear(self, events: Iterable[Event], fleet: Fleet, lasts_s: float) -> tuple[SetAside, ...]:
        """Put what other processes told through the stream where what is told in this one lies; returns what
        cannot be used, with the reason."""
        asides = []
        for event in events:
            try:
                if isinstance(event, TaskLeft):
                    source = f"told that task {event.task_id} left {event.worker}"
                    self.tell_departure(event.task_id, event.worker, event.at, fleet)
                elif isinstance(event, MetricsTold):
                    source = f"metrics of {event.worker}"
                    self.tell_reading(event.worker, event.values, event.at + lasts_s, fleet)
            except BalancerError as error:
                asides.append(SetAside(source=source, reason=str(error)))
        return tuple(asides)

    def overlay(self, fleet: Fleet) -> Fleet:
        """The fleet with what outsiders know over what its workers read themselves."""
        with self._lock:
            self._readings = {n: r for n, r in self._readings.items() if r.until >= fleet.at}
            known = dict(self._readings)
        if not known:
            return fleet
        # Here, because workers import this module and have no use for numpy.
        from balancer.model.table import WorkerTable

        told = {name: outside.values for name, outside in known.items()}
        return replace(fleet, workers=WorkerTable.of(fleet.workers).with_readings(told))

    def answers(self, migrations: Iterable[Migration], now: float, keep_s: float) -> tuple[HandedOver, ...]:
        """Departures as hand-overs of the moves they belong to; those of unknown moves are kept for
        `keep_s`, so that one which is told before its move is written down is not lost."""
        by_task = {(m.move.task_id, m.move.source): m.move for m in migrations if m.in_flight}
        with self._lock:
            known = [d for d in self._departures if (d.task_id, d.worker) in by_task]
            self._departures = tuple(
                d for d in self._departures if d not in known and now - d.at < keep_s)
        moves = [(d, by_task[d.task_id, d.worker]) for d in known]
        return tuple(
            HandedOver(at=d.at, move_id=move.move_id, task_id=d.task_id, worker=d.worker,
                       queue=move.target_queue)
            for d, move in moves
        )


def checked_name(argument: str, value: Any) -> str:
    """The name of a task or a worker. Raises `BalancerError` that names the argument and the value."""
    if isinstance(value, str) and value:
        return value
    raise BalancerError(f"{argument} = {value!r}: must be a name, a text that is not empty")


def _require(worker: str, fleet: Fleet | None) -> None:
    """Refuse a worker that is not in `fleet`, where that is known."""
    if fleet is not None and fleet.worker(worker) is None:
        names = list(fleet.names)
        there = "1 worker is" if len(names) == 1 else f"{len(names)} workers are"
        raise BalancerError(f"there is no worker {worker!r}{near(worker, names)} ({there} there)")


def checked_metrics(worker: str, metrics: Mapping[str, Any]) -> dict[str, float | None]:
    """Metrics by the names of `Reading`, each a finite number ≥ 0 (ratios ≤ 1) or `None` for unknown.

    Raises `BalancerError` that names the worker, the metric, the value and what it must be.
    """
    checked_name("worker_id", worker)
    if not isinstance(metrics, Mapping) or not metrics:
        raise BalancerError(f"metrics of {worker!r} must be a mapping of {', '.join(QUANTITIES)}; "
                            f"got {metrics!r}")
    values: dict[str, float | None] = {}
    for name, value in metrics.items():
        if name not in QUANTITIES:
            raise BalancerError(f"metrics of {worker!r}: unknown metric {name!r}"
                                f"{near(str(name), QUANTITIES)} "
                                f"(there are: {', '.join(QUANTITIES)})")
        values[name] = None if value is None else _checked(worker, name, value)
    return values


def _checked(worker: str, name: str, value: Any) -> float:
    wanted = "a share from 0 to 1" if name in RATIOS else "a number of at least 0"
    if name == "temperature_celsius":
        wanted = "a number of °C above -273"
    least = -273.0 if name == "temperature_celsius" else 0.0
    number = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    percent = name in RATIOS and RATIO_TOLERANCE < number <= 100
    if not math.isfinite(number) or number < least or (name in RATIOS and number > RATIO_TOLERANCE):
        hint = f"; did you mean {number / 100:g}?" if percent else ""
        raise BalancerError(f"metrics of {worker!r}: {name} = {value!r} must be {wanted}{hint}")
    return min(1.0, number) if name in RATIOS else number
