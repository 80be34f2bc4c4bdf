"""Machines of the twin that are better or worse at single kinds: runs, bounds, and what knowing it gives."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

import pytest

from balancer import wiring
from balancer.decide import aptitude
from balancer.settings import Settings
from balancer.simulate.bound import makespan_bound
from balancer.simulate.cards import CARDS
from balancer.simulate.history import History
from balancer.simulate.measures import bound_jobs, bound_of, capacity_of, judge, sort_of
from balancer.simulate.mix import Mix
from balancer.simulate.scenario import Job, Scenario
from balancer.simulate.twin import play

V100 = CARDS["V100"].hardware_class
KINDS = ("a", "b", "c")


def scenario(jobs: int = 600) -> Scenario:
    """Six machines, two of which do kind a twice as fast and kind b half as fast; all work at once."""
    mix = Mix(seconds={kind: {V100: 1.0} for kind in KINDS}, weights=dict.fromkeys(KINDS, 1.0))
    special = MappingProxyType({"a": 2.0, "b": 0.5})
    machines = tuple(replace(CARDS["V100"].machine(i), speeds=special if i % 3 == 0 else MappingProxyType({}))
                     for i in range(6))
    return Scenario(
        name="specialists", about="", machines=machines, profiles=mix.profiles(), seconds=mix.seconds,
        jobs=tuple(Job(task_id=f"{i:04d}", profile=KINDS[i % 3], release_s=0.0) for i in range(jobs)))


def played(made: Scenario) -> History:
    settings = Settings()
    return play(made, wiring.strategy_of(settings), settings)


def test_a_specialist_is_faster_and_slower_where_it_is_said_to_be() -> None:
    made = scenario(60)
    took: dict[tuple[bool, str], list[float]] = {}
    machines, kinds = {m.name: m for m in made.machines}, {j.task_id: j.profile for j in made.jobs}
    for span in (each for each in played(made).spans if each.done):
        key = bool(machines[span.worker].speeds), kinds[span.task_id]
        took.setdefault(key, []).append(span.until_s - span.from_s - made.costs.dispatch_s)
    wanted = {(False, "a"): 1.0, (False, "b"): 1.0, (True, "a"): 0.5, (True, "b"): 2.0, (True, "c"): 1.0}
    for key, seconds in wanted.items():
        assert took.get(key, [seconds]) == pytest.approx([seconds] * len(took.get(key, [0.0])))


def test_the_bounds_know_who_is_good_at_what() -> None:
    made = scenario()
    assert {sort_of(m) for m in made.machines} == {V100, f"{V100} a*2,b*0.5"}
    # The two do all of kind a in 50 s, then kind c: 4 T + 2 (T - 50) are the 400 others.
    assert makespan_bound(bound_jobs(made), capacity_of(made.machines)) == pytest.approx(500 / 6)
    plain = replace(made, machines=tuple(replace(m, speeds={}) for m in made.machines))
    assert bound_of(plain) == pytest.approx(100.0, rel=0.01)


def test_knowing_the_specialists_brings_the_run_nearer_to_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    made = scenario()
    known = judge(made, played(made))
    monkeypatch.setattr(aptitude, "RUNS_LEAST", 10**9)
    unknown = judge(made, played(made))
    assert known.bound_s <= known.makespan_s < unknown.makespan_s
    assert known.unfinished == 0
