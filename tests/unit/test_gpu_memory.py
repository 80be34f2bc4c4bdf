"""The GPU memory of a fleet: free, promised, and of no use to the usual tasks."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from balancer.decide.columns import columns
from balancer.decide.estimate import Estimates
from balancer.decide.fragments import Room, fragments
from balancer.decide.gpu_memory import gpu_memory
from balancer.decide.occupancy import usual
from balancer.model import Fleet, Needs, Reading, Worker
from tests.unit.fleets import held, lane, worker

#: What tasks of each lane ask for.
ASKS = {"small": 4, "large": 16, "none": None}
LANES = tuple(lane(name, n, Needs(gpu_memory_bytes=asks)) for n, (name, asks) in enumerate(ASKS.items()))


def device(number: int, running: tuple[str, ...] = (), free: float | None = None) -> Worker:
    """A worker of four slots on 16 bytes."""
    tasks = tuple(held(f"{number}-{i}", name, ran_s=1.0) for i, name in enumerate(running))
    plain = worker("cuda-V100", number, slots=4, running=tasks)
    return replace(plain, hardware=replace(plain.hardware, gpu_memory_bytes=16),
                   reading=Reading(gpu_memory_free_bytes=free))


def test_what_was_promised_is_not_free_though_it_reads_so() -> None:
    found = gpu_memory(Fleet(at=0.0, lanes=LANES, workers=(device(0, ("small",), 16.0), device(1, (), 3.0))))
    assert found is not None
    assert (found.total_bytes, found.free_bytes) == (32.0, 15.0)


@example([([], 15.999999999999998), (["small"], 12.000000000000002)])
@given(st.lists(st.tuples(st.lists(st.sampled_from(sorted(ASKS)), max_size=4),
                          st.none() | st.floats(0, 16)), min_size=1, max_size=5))
def test_over_the_fleet_it_is_the_measure_of_each_device(cards: list[tuple[list[str], float | None]]) -> None:
    workers = tuple(device(i, tuple(names), free) for i, (names, free) in enumerate(cards))
    fleet = Fleet(at=0.0, lanes=LANES, workers=workers)
    mix = usual(fleet, columns(fleet, Estimates()))
    rooms = []
    for names, free in cards:
        left = max(0.0, 16.0 - sum(ASKS[name] or 0 for name in names))
        rooms.append(Room(left=(left if free is None else min(left, free),), slots=4 - len(names)))
    found = gpu_memory(fleet)
    assert found is not None
    assert found.free_bytes == pytest.approx(sum(room.left[0] for room in rooms))
    assert found.unusable_bytes == pytest.approx(sum(fragments(room, mix) for room in rooms))


def test_without_tasks_that_ask_or_devices_that_tell_there_is_nothing_to_say() -> None:
    assert gpu_memory(Fleet(at=0.0, lanes=LANES, workers=(worker("cpu"),))) is None
    assert gpu_memory(Fleet(at=0.0, lanes=(lane("none", 1),), workers=(device(0),))) is None
