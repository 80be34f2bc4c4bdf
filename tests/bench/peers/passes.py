"""A pass: all jobs of a scenario given to a system at their times, and what the book says of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory
from typing import Final, Protocol

import numpy as np

from balancer.simulate.history import Span
from balancer.simulate.measures import bound_of
from balancer.simulate.scenario import Scenario
from tests.bench.peers.book import Reader
from tests.bench.peers.central import central
from tests.bench.peers.on_dask import on_dask
from tests.bench.peers.on_ray import on_ray
from tests.bench.peers.ours import ours
from tests.bench.peers.plain import CHOICES, Submit, plain
from tests.waiting import wait_until


class System(Protocol):
    """Makes the system of a name stand for a scenario, its files in a folder."""

    def __call__(self, name: str, scenario: Scenario, folder: Path) -> AbstractContextManager[Submit]: ...


#: Every system by name; those that learn are given the same work twice.
SYSTEMS: Final[dict[str, System]] = {
    "ours": ours, "central": central, **dict.fromkeys(CHOICES, plain), "dask": on_dask, "ray": on_ray}

#: A pass is given up after so many times its bound.
PATIENCE: Final = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """What a pass came to: spans in seconds from its start, and the bound."""

    scenario: Scenario
    spans: tuple[Span, ...]
    bound_s: float

    @property
    def over_bound(self) -> float:
        return max(span.until_s for span in self.spans) / self.bound_s

    @property
    def completions_s(self) -> list[float]:
        """Of each job, from its release to its end (s)."""
        ends = {span.task_id: span.until_s for span in self.spans if span.done}
        return [ends[job.task_id] - job.release_s for job in self.scenario.jobs]

    @property
    def mean_s(self) -> float:
        return mean(self.completions_s)

    @property
    def p99_s(self) -> float:
        return float(np.percentile(self.completions_s, 99))

    @property
    def left(self) -> int:
        """Bodies that left at a checkpoint to go on elsewhere."""
        return sum(not span.done for span in self.spans)


@contextmanager
def standing(name: str, scenario: Scenario) -> Iterator[tuple[Submit, Path]]:
    """A system in a folder of its own."""
    make = SYSTEMS[name.partition("-")[0]]
    with TemporaryDirectory(prefix=f"peers-{name}-") as folder, make(name, scenario, Path(folder)) as submit:
        yield submit, Path(folder)


def give(scenario: Scenario, submit: Submit, folder: Path, mark: str) -> Pass:
    """One pass; `mark` sets its tasks apart from those of other passes of the same system."""
    book = Reader(folder)
    book.new()
    pause, spans, began = threading.Event(), [], time.monotonic()
    for job in scenario.jobs:
        pause.wait(max(0.0, began + job.release_s - time.monotonic()))
        submit(job, f"{mark}:{job.task_id}")
    bound_s, done = bound_of(scenario), set[str]()

    def all_done() -> bool:
        for span in book.new():
            spans.append(span)
            if span.done:
                done.add(span.task_id)
        return len(done) >= len(scenario.jobs)

    wait_until(all_done, f"all jobs of pass {mark} end", PATIENCE * bound_s)
    return Pass(scenario=scenario, bound_s=bound_s, spans=tuple(
        replace(span, task_id=span.task_id.partition(":")[2], from_s=span.from_s - began,
                until_s=span.until_s - began) for span in spans))
