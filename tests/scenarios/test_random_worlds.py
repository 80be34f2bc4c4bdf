"""In whatever fleet, with whatever settings and failures: limits hold, nothing bounces, and every task ends.

RANDOM_WORLDS=2000 tries more of them than CI has time for.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, note
from hypothesis import settings as trials
from hypothesis import strategies as st

from balancer.decide.history import LEAST_COOLDOWN_S
from balancer.decide.plan import MOVES_A_WORKER
from balancer.decide.strategies import NAMES, by_name
from balancer.decide.strategies.fixed import AT_MOST
from balancer.model import Decision, Fleet, Hardware, Migration, Move, Needs, TaskProfile
from balancer.routing import can_run, class_queue, is_class_queue
from balancer.settings import LEAST_SEPARATION, Settings
from balancer.simulate.governor import Governor, Turn
from balancer.simulate.scenario import Costs, Job, Machine, Scenario
from balancer.simulate.twin import Twin
from tests.scenarios.random_worlds import beliefs, options, scenarios

EXAMPLES = int(os.environ.get("RANDOM_WORLDS", "20"))


class Watched(Governor):
    """A balancer each of whose turns is held to the limits."""

    fleets: dict[float, Fleet]

    def turn(self, fleet: Fleet, *, whole: bool) -> Turn:
        turn = super().turn(fleet, whole=whole)
        chosen = turn.chosen
        before = [m.move for m in self.migrations if m.move.at < fleet.at]
        assert_limits(chosen.moves, before, fleet, self.settings, self.strategy.name)
        assert_possible(chosen.moves, fleet)
        assert all(m.move.at == fleet.at for m in self.migrations[len(before):])
        if isinstance(chosen, Decision):
            bounds = chosen.thresholds
            assert 0.0 <= bounds.low < bounds.high <= 1.0
            assert bounds.high - bounds.low >= LEAST_SEPARATION - 1e-9
        for move in chosen.moves:
            self.fleets[move.at] = fleet
        return turn


def assert_limits(made: Sequence[Move], before: Sequence[Move], fleet: Fleet, options_: Settings,
                  strategy: str) -> None:
    """No more moves than may be in flight, no slot given twice, no task moved twice at once."""
    running = sum(m.kind == "running" for m in made)
    assert not running or running + sum(
        m.kind == "running" for m in before) <= options_.max_simultaneous_migrations
    most = {"fixed": AT_MOST, "adaptive": options_.max_simultaneous_migrations, "static": 0}.get(strategy)
    assert most is None or not made or len(made) + len(before) <= most
    assert options_.enable_task_migration or not made
    held = [m for m in made if m.kind != "queued"]
    for side in (Counter(m.source for m in held), Counter(m.target for m in held)):
        assert all(count <= MOVES_A_WORKER for count in side.values())
    for name, count in Counter(m.target for m in made).items():
        worker = fleet.worker(name)
        assert worker is None or count <= worker.idle_slots
    tasks = Counter(m.task_id for m in (*before, *made) if m.task_id)
    assert all(count == 1 for count in tasks.values())


def assert_possible(made: Sequence[Move], fleet: Fleet) -> None:
    """Every move goes where its task can run."""
    for move in made:
        lane = fleet.lane_of(move.profile)
        assert lane is not None
        target, needs = fleet.worker(move.target), lane.profile.needs
        if target is not None:
            assert target.health == "ok"
            assert can_run(target.hardware, needs, worker=target.name)
        elif is_class_queue(move.target):
            able = [w for w in fleet.workers if class_queue(w.hardware.hardware_class) == move.target]
            assert able
            assert all(can_run(w.hardware, needs, worker=w.name) for w in able)
        else:
            assert move.target == lane.queue


def assert_no_ping_pong(ended: Sequence[Migration], fleets: dict[float, Fleet], options_: Settings) -> None:
    """A task rests twice as long before each move, and does not go back while nothing has changed."""
    of_task: dict[str, list[Migration]] = defaultdict(list)
    for migration in ended:
        if migration.move.task_id:
            of_task[migration.move.task_id].append(migration)
    rest_s = max(LEAST_COOLDOWN_S, options_.move_cooldown)
    for moves in of_task.values():
        for count, (first, then) in enumerate(pairwise(moves)):
            assert first.ended_at is not None
            assert then.move.at - first.ended_at >= min(3600.0, rest_s * 2.0**count) - 1e-6
            if not first.successful or then.move.target != first.move.source:
                continue
            there = fleets[then.move.at]
            source, target = there.worker(then.move.source), there.worker(then.move.target)
            left = [w for w in there.workers if class_queue(w.hardware.hardware_class) == then.move.source]
            forsaken = is_class_queue(then.move.source) and all(w.health != "ok" for w in left)
            began = float(target.instance.rsplit(":", 1)[-1]) if target else 0.0
            assert forsaken or (source and source.health != "ok") or began > first.ended_at


@pytest.mark.timeout(120 + 5 * EXAMPLES)
@trials(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(made=scenarios(), options_=options(), strategy=st.sampled_from(NAMES), ahead=st.integers(0, 2),
       data=st.data())
def test_limits_hold_nothing_bounces_and_every_task_ends(made: Scenario, options_: Settings, strategy: str,
                                                         ahead: int, data: st.DataObject) -> None:
    twin = Twin(made, by_name(strategy), options_, ahead)
    watched = Watched(by_name(strategy), options_)
    watched.fleets = {}
    if data.draw(st.booleans(), "learned before"):
        watched.memory = replace(watched.memory, estimates=data.draw(beliefs(made), "beliefs"))
    twin.governor = watched
    history = twin.run()
    note(f"{strategy}: {len(history.ended)} of {len(made.jobs)} ended, {len(history.expired)} expired by "
         f"{history.until_s:.0f} s, {dict(history.moves)}")
    assert_no_ping_pong(watched.ended, watched.fleets, options_)
    due = {job.task_id: job.expires_s for job in made.jobs}
    assert set(history.ended) | set(history.expired) == set(due)
    assert all(at > due[task_id] for task_id, at in history.expired.items())


def test_what_was_sent_to_the_last_worker_of_a_class_ends_when_that_is_killed() -> None:
    """The K80 is dead when the longer task is sent to its class, but its last report still counts."""
    v100, k80 = Hardware(kind="cuda", model="V100"), Hardware(kind="cuda", model="K80")
    seconds = {"p": {"cuda-V100": 60.0, "cuda-K80": 1.0}}
    made = Scenario(
        name="last", about="the last of its class is killed", seconds=seconds, costs=Costs(handover_s=0.0),
        machines=(Machine(name="v@twin", hardware=v100), Machine(name="k@twin", hardware=k80, until_s=7.5)),
        jobs=tuple(Job(task_id=f"{size:g}", profile="p", size=size, work=size, release_s=8.0)
                   for size in (1.0, 3.0)),
        profiles={"p": TaskProfile(name="p", task="t", needs=Needs(hardware=("cuda",)))})
    history = Twin(made, by_name("priced"), Settings(hints=seconds), 0).run()
    assert history.moves["queued"] == 1
    assert set(history.ended) == {"1", "3"}
