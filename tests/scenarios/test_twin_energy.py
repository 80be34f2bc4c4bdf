"""What frugality is worth in the twin: fewer joules, little later, and nothing under load."""

from __future__ import annotations

from functools import cache

import pytest

from balancer.cli.simulate import outcome
from balancer.simulate.measures import Result
from balancer.simulate.scenarios import by_name

SEEDS = (1, 2)


@cache
def played(name: str, seed: int, slack_s: int, strategy: str = "priced") -> Result:
    return outcome(by_name(name, seed, 6), strategy, changed=(f"energy_slack={slack_s}",))


@pytest.mark.parametrize("seed", SEEDS)
def test_frugality_saves_joules_at_a_little_time(seed: int) -> None:
    blind, frugal = played("energy", seed, 0), played("energy", seed, 20)
    assert frugal.energy_j < 0.97 * blind.energy_j
    assert frugal.mean_completion_s < 1.15 * blind.mean_completion_s


def test_under_load_frugality_changes_next_to_nothing() -> None:
    """Four minutes of work at once: until its tail every slot is needed."""
    blind, frugal = played("mixed", 1, 0), played("mixed", 1, 20)
    assert frugal.makespan_s == pytest.approx(blind.makespan_s, rel=0.02)
    assert frugal.mean_completion_s == pytest.approx(blind.mean_completion_s, rel=0.02)
