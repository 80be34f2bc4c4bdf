"""What a tick of the seed's strategies does not look at is said in its notes."""

from __future__ import annotations

import pytest

from balancer.decide import engine
from balancer.decide.memory import fresh
from balancer.decide.situation import Strategy
from balancer.decide.strategies import by_name
from balancer.decide.strategies.adaptive import SOURCES_LIMIT, TARGETS_LIMIT, TASKS_LIMIT
from balancer.model import Decision, Fleet
from balancer.settings import Settings
from tests.unit.fleets import NOW, held, lane, worker

SETTINGS = Settings(trip_samples=1)


def decided(name: str, *, sources: int, tasks: int, targets: int) -> Decision:
    over = tuple(worker("cpu", i, load=0.99, running=tuple(
        held(f"t{i}-{j}", "a", ran_s=1.0) for j in range(tasks))) for i in range(sources))
    under = tuple(worker("cuda-V100", i, load=0.01) for i in range(targets))
    strategy: Strategy = by_name(name)
    fleet = Fleet(at=NOW, workers=(*over, *under), lanes=(lane("a", 0),))
    return engine.decide(fresh(SETTINGS), fleet, SETTINGS, strategy, ())[1]


@pytest.mark.parametrize("name", ["adaptive", "fixed"])
def test_each_cut_is_noted(name: str) -> None:
    notes = decided(name, sources=SOURCES_LIMIT + 1, tasks=TASKS_LIMIT + 1, targets=TARGETS_LIMIT + 1).notes
    assert f"looked at the {SOURCES_LIMIT} most loaded of {SOURCES_LIMIT + 1} overloaded workers" in notes
    assert f"looked at {TASKS_LIMIT} tasks each of {SOURCES_LIMIT} workers that hold more" in notes
    assert any(f"looked at {TARGETS_LIMIT} targets each" in note for note in notes)


@pytest.mark.parametrize("name", ["adaptive", "fixed"])
def test_what_fits_the_limits_is_not_noted(name: str) -> None:
    notes = decided(name, sources=SOURCES_LIMIT, tasks=1, targets=TARGETS_LIMIT).notes
    assert not any(note.startswith("looked at") for note in notes)
