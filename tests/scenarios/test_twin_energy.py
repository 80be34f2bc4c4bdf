"""What frugality is worth in the twin: fewer joules, little later, nothing under load; and less heat."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest

from balancer.cli.simulate import outcome
from balancer.decide.strategies.priced import Priced
from balancer.settings import Settings
from balancer.simulate.history import History
from balancer.simulate.measures import Result
from balancer.simulate.scenario import Heat, Scenario
from balancer.simulate.scenarios import by_name
from balancer.simulate.twin import Twin

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


def test_badly_cooled_devices_throttle_less_and_nothing_takes_longer() -> None:
    """Two of six would be at 105 °C under full load and throttle at 93 °C."""
    scenario = by_name("homogeneous", 2, 6)
    hot = [replace(machine, heat=Heat(rise_celsius=70.0)) for machine in scenario.machines[:2]]
    scenario = replace(scenario, machines=(*hot, *scenario.machines[2:]))
    (blind_s, blind), (careful_s, careful) = (heated(scenario, counts) for counts in (False, True))
    assert blind_s > 60.0
    assert careful_s < 0.5 * blind_s
    assert careful.until_s <= blind.until_s


def heated(scenario: Scenario, counts: bool) -> tuple[float, History]:
    """Seconds of work that heat slowed, and what happened."""
    hints = {profile: dict(by_class) for profile, by_class in scenario.seconds.items()}
    twin = Twin(scenario, Priced(), Settings(hints=hints, enable_resource_efficiency=counts), 0)
    history = twin.run()
    return sum(node.spent[2] for node in twin.world.nodes.values()), history
