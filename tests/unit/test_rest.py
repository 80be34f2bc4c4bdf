"""Rest at low load: who is asked last, which nodes may sleep, and when they are woken."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from balancer.decide import engine, memory
from balancer.decide.columns import columns
from balancer.decide.estimate import Estimates
from balancer.decide.learn import learn
from balancer.decide.order import orders
from balancer.decide.rest import HALF_LIFE_S, RESTING, Need, asleep, learn_needs, resting, sleepers
from balancer.decide.strategies.priced import Priced
from balancer.model import Decision, Fleet, Needs
from balancer.settings import Settings
from balancer.standing import Standing, statistics
from balancer.state import State
from tests.unit.fleets import NOW, fleet, held, known, lane, situation, with_running

V100 = "cuda-V100"
FRUGAL = Settings(energy_slack=20.0)


def nodes(*busy: int, at: float = NOW) -> Fleet:
    """A V100 on each of the nodes n0, n1, …, with or without a task."""
    state = fleet(f"{V100}*{len(busy)}", lanes="a:0", at=at)
    state = replace(state, workers=tuple(
        replace(w, name=f"gpu@n{i}") for i, w in enumerate(state.workers)))
    for i, runs in enumerate(busy):
        if runs:
            state = with_running(state, f"gpu@n{i}", held(f"t{i}", "a", ran_s=0.0))
    return state


def needs(slots: float) -> Mapping[str, Need]:
    return {V100: Need(at=NOW, slots=slots)}


def test_the_need_of_a_class_is_its_most_and_fades() -> None:
    found = learn_needs({}, nodes(1, 1, 1, 0), FRUGAL)
    assert found[V100].slots == 3.0
    later = learn_needs(found, nodes(1, 0, 0, 0, at=NOW + HALF_LIFE_S), FRUGAL)
    assert later[V100].slots == pytest.approx(1.5)
    assert learn_needs(later, nodes(1, 1, 1, 1, at=NOW + HALF_LIFE_S), FRUGAL)[V100].slots == 4.0
    assert learn_needs(found, nodes(1, 1, 1, 1), Settings()) is found


def test_where_something_waits_longer_than_energy_may_cost_nobody_rests() -> None:
    """The one that is awake leaves it alone: hot, or bad at this very lane."""
    idle = nodes(0, 0, 0, 0)
    for waited_s, wanted, slots in ((19.0, Needs(), 0.0), (21.0, Needs(), 4.0),
                                    (21.0, Needs(hardware=("rocm",)), 0.0)):
        waits = replace(idle, lanes=(lane("a", 1, wanted, oldest_s=waited_s),))
        assert learn_needs({}, waits, FRUGAL)[V100].slots == slots
    empty = replace(idle, lanes=(lane("a", 0, oldest_s=21.0),))
    assert learn_needs({}, empty, FRUGAL)[V100].slots == 0.0


@pytest.mark.parametrize(
    ("slots", "rests"),
    [(0.0, [False, True, True, True]), (0.7, [False, False, True, True]), (1.4, [False, False, False, True]),
     (3.0, [False] * 4)],
)
def test_what_the_load_does_not_need_rests_and_something_is_to_spare(slots: float, rests: list[bool]) -> None:
    seen = columns(nodes(0, 0, 0, 0), Estimates())
    assert resting(seen, needs(slots), NOW, FRUGAL).tolist() == rests
    assert not resting(seen, needs(slots), NOW, Settings()).any()
    assert not resting(seen, {}, NOW, FRUGAL).any()


def test_only_a_node_whose_workers_are_all_idle_may_sleep() -> None:
    assert sleepers(columns(nodes(1, 0, 1, 0), Estimates()), needs(0.7), NOW, FRUGAL) == ("n3",)
    both = nodes(0, 0, 0, 0)
    both = replace(both, workers=(*both.workers[:3], replace(both.workers[3], name="cpu@n0")))
    assert sleepers(columns(both, Estimates()), needs(0.0), NOW, FRUGAL) == ("n1", "n2")


def test_a_resting_worker_is_asked_last_and_not_waited_for() -> None:
    now = replace(situation(nodes(0, 0), known({"a": {V100: 1.0}}), settings=FRUGAL), needs=needs(0.0))
    order = orders(now)[0]
    assert order.speeds == {"gpu@n1": RESTING}
    assert orders(replace(now, settings=Settings()))[0].speeds == {}


def told(before: tuple[str, ...], state: Fleet, slots: float) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return asleep(before, columns(state, Estimates()), needs(slots), NOW, FRUGAL)


def test_a_change_is_told_once() -> None:
    now, news = told((), nodes(0, 0, 0), 0.0)
    assert (now, news) == (("n1", "n2"), ("may sleep: n1", "may sleep: n2"))
    assert told(now, nodes(0, 0, 0), 0.0) == (now, ())
    assert told(now, nodes(1, 1, 1), 3.0) == ((), ("wake: n1", "wake: n2"))


def test_a_node_that_sleeps_and_is_gone_is_woken_when_the_rest_is_not_enough() -> None:
    assert told(("n9",), nodes(1, 0), 1.0) == (("n9",), ())
    assert told(("n9",), nodes(1, 1), 2.0) == ((), ("wake: n9",))


def test_a_tick_tells_it_and_remembers() -> None:
    kept = memory.fresh(FRUGAL)
    kept, first = _tick(kept, nodes(0, 0, 0))
    assert {"may sleep: n1", "may sleep: n2"} <= set(first.notes)
    again = memory.from_document(memory.to_document(kept))
    assert _may_sleep(again) == ["n1", "n2"]
    awake, second = _tick(again, nodes(0, 0, 0, at=NOW + 30))
    assert not [note for note in second.notes if "sleep" in note]
    assert _may_sleep(_tick(awake, nodes(1, 1, 1, at=NOW + 60))[0]) == []


def _tick(kept: memory.Memory, state: Fleet) -> tuple[memory.Memory, Decision]:
    return engine.decide(learn(kept, (), state, FRUGAL), state, FRUGAL, Priced(), ())


def _may_sleep(kept: memory.Memory) -> object:
    """What the balancer's statistics say of it."""
    return statistics(Standing(state=State(memory=kept)), FRUGAL, Priced(), None, None)["may_sleep"]
