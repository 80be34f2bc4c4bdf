"""The demo's task bodies and its independent book, over a clock and a task of the tests' own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.demo.place import Place, foreign_load
from balancer.demo.tasks import (
    emulated_training,
    foreign_load_factor,
    matrix_block,
    matrix_work,
    slowness_here,
)
from balancer.demo.watch import Entry, judge
from balancer.errors import BalancerError


class Wanted(BaseException):
    """What a checkpoint raises when the task is wanted elsewhere."""


class Job:
    """A task that keeps its states in memory, and may be wanted elsewhere at one of its checkpoints."""

    def __init__(self, leaves_at: int | None = None) -> None:
        self.state: Any = None
        self.shares: list[float] = []
        self.leaves_at = leaves_at

    def resume(self) -> Any:
        return self.state

    def checkpoint(self, state: Any, *, share: float | None = None) -> None:
        self.state = state
        self.shares.append(share if share is not None else -1.0)
        if len(self.shares) == self.leaves_at:
            raise Wanted


class Clock:
    """Time passes when somebody sleeps, a little more than was asked for."""

    def __init__(self, late: float = 0.0) -> None:
        self.now = 0.0
        self.late = late

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds + self.late


def steady(factor: float) -> Callable[[], float]:
    return lambda: factor


def test_an_emulated_job_takes_its_size_times_the_slowness_of_the_card() -> None:
    clock = Clock()
    emulated_training(Job(), 2.0, 3.5, slowed=steady(1), clock=clock, sleep=clock.sleep)
    assert clock.now == pytest.approx(7.0)


def test_foreign_load_slows_from_the_moment_it_is_there() -> None:
    clock = Clock()
    emulated_training(
        Job(), 4.0, 1.0, slowed=lambda: 4.0 if clock.now >= 1.999 else 1.0, clock=clock, sleep=clock.sleep
    )
    assert clock.now == pytest.approx(2.0 + 4 * 2.0)


@given(late=st.floats(0, 0.05), leaves_at=st.integers(1, 5))
def test_a_job_that_leaves_goes_on_elsewhere_from_where_it_was(late: float, leaves_at: int) -> None:
    job, clock = Job(leaves_at), Clock(late)
    with pytest.raises(Wanted):
        emulated_training(job, 3.0, 2.0, slowed=steady(1), clock=clock, sleep=clock.sleep)
    left_at, done = clock.now, job.state["done"]
    assert done == pytest.approx(left_at / 2.0)
    result = emulated_training(job, 3.0, 1.0, slowed=steady(1), clock=clock, sleep=clock.sleep)
    assert result == {"done": 3.0, "resumed_at": done}
    assert clock.now - left_at == pytest.approx(3.0 - done, abs=late + 1e-6)
    assert job.shares == sorted(job.shares)
    assert job.shares[-1] < 1


def test_a_busy_host_does_not_slow_an_emulated_card() -> None:
    clock = Clock(late=0.05)
    emulated_training(Job(), 3.0, 1.0, slowed=steady(1), clock=clock, sleep=clock.sleep)
    assert clock.now == pytest.approx(3.0, abs=0.06)


def ticking(step: float) -> Iterator[float]:
    now = 0.0
    while True:
        now += step
        yield now


def test_matrix_work_gives_the_same_sum_when_it_was_interrupted() -> None:
    whole = matrix_work(Job(), 8)
    job, ticks = Job(leaves_at=2), ticking(0.25)
    with pytest.raises(Wanted):
        matrix_work(job, 8, clock=lambda: next(ticks))
    assert 0 < job.state["done"] < 8
    resumed = matrix_work(job, 8)
    assert resumed["checksum"] == pytest.approx(whole["checksum"])
    assert resumed["resumed_at"] == job.state["done"]
    assert whole["checksum"] == pytest.approx(sum(matrix_block(number) for number in range(8)))


def test_a_profile_on_hardware_that_cannot_run_it_is_a_fault() -> None:
    assert slowness_here({"cuda-V100": 1.0}, "cuda-V100", "A3C") == 1.0
    with pytest.raises(BalancerError, match="A3C was served on cuda-K80"):
        slowness_here({"cuda-V100": 1.0}, "cuda-K80", "A3C")


def test_the_file_of_foreign_load(tmp_path: Path) -> None:
    path = foreign_load(str(tmp_path), "V100-1@emulated")
    assert path is not None
    factor = foreign_load_factor(path)
    assert factor() == 1.0
    path.write_text("4")
    assert factor() == 4.0
    path.write_text("")
    assert factor() == 1.0
    assert foreign_load("", "V100-1@emulated") is None


@given(
    st.builds(
        Place, redis=st.just("redis://127.0.0.1:7000/0"), watch=st.sampled_from(["", "redis://127.0.0.1:7000/1"]),
        folder=st.sampled_from(["", "/somewhere"]), strategy=st.sampled_from(["static", "priced"]),
        block_s=st.none() | st.floats(1e-6, 10), warm=st.booleans(),
    )
)
def test_a_child_is_told_its_place_whole(place: Place) -> None:
    assert Place.from_environment(place.environment()) == place


def entry(what: Any, task_id: str, share: float = 0.0) -> Entry:
    return Entry(what=what, task_id=task_id, worker="w", at=0.0, share=share)


def test_the_book_convicts_what_finished_twice_or_never() -> None:
    book = [
        entry("start", "a"), entry("end", "a"), entry("finish", "a"),
        entry("start", "b"), entry("start", "b", share=0.4), entry("end", "b"), entry("finish", "b"),
        entry("start", "c"), entry("end", "c"), entry("finish", "c"),
        entry("start", "c"), entry("end", "c"), entry("finish", "c"),
        entry("start", "d"), entry("left", "d"), entry("start", "d", share=0.2),
    ]
    verdict = judge(book, ["a", "b", "c", "d", "e"])
    assert verdict.finished_twice == ("c",)
    assert verdict.never_finished == ("d", "e")
    assert (verdict.runs, verdict.resumed, verdict.left, verdict.cut_off) == (7, 2, 1, 2)
