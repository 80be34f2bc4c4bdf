"""Fairness between groups of tasks: shares follow the weights, nobody earns credit, no slot stays idle."""

from __future__ import annotations

from dataclasses import replace

import pytest

from balancer import wiring
from balancer.decide.columns import columns
from balancer.decide.estimate import Estimates
from balancer.decide.fairness import HALVING_S, Account, accounted, favours
from balancer.decide.learn import learn
from balancer.decide.memory import Memory
from balancer.decide.order import orders
from balancer.model import Fleet, Hardware, Lane, Needs, Order, RunFinished, TaskProfile
from balancer.routing import lane_queue
from balancer.settings import Settings, parse
from balancer.simulate.history import History
from balancer.simulate.scenario import Job, Machine, Scenario
from balancer.simulate.twin import play
from tests.unit.fleets import NOW, fleet, held, known, lane, situation, with_running
from workers.declared import group_of, profile_name, profile_of

WEIGHTS = {"gold": 3.0, "plain": 1.0}


def lane_of(group: str, waiting: int) -> Lane:
    made = lane(f"p-{group}", waiting)
    return replace(made, profile=replace(made.profile, group=group))


def state_with(**waiting: int) -> Fleet:
    return replace(fleet("cpu*2"), lanes=tuple(lane_of(group, n) for group, n in waiting.items()))


def after(state: Fleet, seconds: float, account: Account | None = None, **weights: float) -> Account | None:
    state = replace(state, at=NOW + seconds)
    settings = Settings(group_weights=weights or WEIGHTS)
    return accounted(account, columns(state, Estimates()), state, settings)


def both_run(gold: int, plain: int) -> Fleet:
    state = state_with(gold=gold, plain=plain)
    for number, group in enumerate(("gold", "plain")):
        state = with_running(state, f"cpu-{number}", held(f"t{number}", f"p-{group}", ran_s=1.0))
    return state


def test_what_runs_counts_by_its_weight_from_when_work_waits() -> None:
    state = both_run(5, 5)
    first = after(state, 0.0)
    assert first is not None
    assert first.ahead_s == {"gold": 0.0, "plain": 0.0}
    later = after(state, 6.0, replace(first, at=NOW))
    assert later is not None
    # Half of the slots is 2/3 of what gold is due and twice what plain is: 4 s and 12 s in 6 s.
    assert later.ahead_s == pytest.approx({"gold": 0.0, "plain": 8.0})
    counts = favours(state, later.ahead_s)
    assert counts is not None
    assert counts.tolist() == pytest.approx([1.0, 0.5 ** (8.0 / HALVING_S)])


def test_a_group_that_comes_back_has_no_credit_and_an_idle_fleet_no_debts() -> None:
    busy = with_running(state_with(gold=5, plain=0), "cpu-0", held("t", "p-gold", ran_s=1.0))
    alone = after(busy, 10.0, Account(at=NOW, ahead_s={"gold": 0.0}))
    assert alone is not None
    assert alone.ahead_s == {"gold": 0.0}
    both = after(replace(busy, lanes=state_with(gold=5, plain=5).lanes), 10.0, alone)
    assert both is not None
    assert both.ahead_s == {"gold": 0.0, "plain": 0.0}
    nobody = after(state_with(gold=0, plain=0), 11.0, Account(at=NOW, ahead_s={"gold": 50.0}))
    assert nobody is not None
    assert nobody.ahead_s == {}


def test_what_was_had_long_ago_is_forgotten_and_what_nobody_saw_does_not_count() -> None:
    account: Account | None = Account(at=NOW, ahead_s={"gold": 0.0, "plain": 100.0})
    hour = after(state_with(gold=5, plain=5), 3600.0, account)
    assert hour is not None
    assert hour.ahead_s["plain"] < 0.1
    unseen = after(both_run(5, 5), 3600.0, Account(at=NOW, ahead_s={"gold": 0.0, "plain": 0.0}))
    assert unseen is not None
    assert unseen.ahead_s["plain"] == pytest.approx(40.0)  # as after the 30 s of `check_interval`


def test_work_that_no_hardware_can_run_holds_no_claim() -> None:
    state = both_run(5, 0)
    nowhere = lane("p-plain", 9, Needs(hardware=("cuda",)))
    state = replace(state, lanes=(
        state.lanes[0], replace(nowhere, profile=replace(nowhere.profile, group="plain"))))
    later = after(state, 6.0, Account(at=NOW, ahead_s={"gold": 0.0, "plain": 0.0}))
    assert later is not None
    assert later.ahead_s["gold"] == 0.0


def ordered(ahead_s: dict[str, float], **options: bool) -> Order:
    state = state_with(gold=5, plain=9)
    estimates = known({"p-gold": {"cpu": 1.0}, "p-plain": {"cpu": 1.0}})
    settings = Settings(group_weights=WEIGHTS, **options)  # type: ignore[arg-type]
    return orders(replace(situation(state, estimates, settings=settings), ahead_s=ahead_s))[0]


def test_without_weights_there_is_no_account_and_the_order_is_as_ever() -> None:
    state = state_with(gold=5, plain=9)
    assert accounted(Account(at=NOW), columns(state, Estimates()), state, Settings()) is None
    assert len(ordered({}).groups) == 1


@pytest.mark.parametrize("options", [{}, {"enable_hardware_specific_strategies": False}])
def test_who_is_ahead_is_listed_last_but_listed(options: dict[str, bool]) -> None:
    gold, plain = lane_queue("p-gold"), lane_queue("p-plain")
    assert ordered({"gold": 0.0, "plain": 8.0}, **options).groups == ((gold,), (plain,))
    assert ordered({"gold": 9.0, "plain": 0.0}, **options).groups == ((plain,), (gold,))
    assert ordered({"gold": 1.0, "plain": 0.0}, **options).groups == ((plain, gold),)  # a tie


def test_a_lane_that_waits_because_its_group_had_its_share_does_not_starve() -> None:
    state = state_with(gold=5, plain=9)
    young, old = state.lanes
    state = replace(state, lanes=(replace(young, oldest_s=1.0), replace(old, oldest_s=99.0)))
    estimates = known({"p-gold": {"cpu": 1.0}, "p-plain": {"cpu": 1.0}})
    given = situation(state, estimates, settings=Settings(group_weights=WEIGHTS))
    gold, plain = (each.queue for each in state.lanes)
    assert orders(given)[0].groups[0] == (plain,)
    late = replace(given, ahead_s={"gold": 0.0, "plain": 2 * HALVING_S})
    assert orders(late)[0].groups == ((gold,), (plain,))


def played(jobs: tuple[Job, ...], weights: dict[str, float]) -> History:
    names = sorted({job.profile for job in jobs})
    profiles = {name: TaskProfile(name=name, task="t", group=name.removeprefix("p-")) for name in names}
    cpu = Hardware(kind="cpu")
    scenario = Scenario(
        name="groups", about="", jobs=jobs, profiles=profiles,
        machines=tuple(Machine(name=f"w{i}", hardware=cpu) for i in range(4)),
        seconds={name: {"cpu": 4.0} for name in profiles},
    )
    settings = parse({"group_weights": weights, "hints": {name: {"cpu": 4.0} for name in profiles}})
    return play(scenario, wiring.strategy_of(settings), settings)


def jobs(**counts: int) -> tuple[Job, ...]:
    return tuple(Job(task_id=f"{group}-{i}", profile=f"p-{group}", release_s=0.0, work=0.7 + 0.1 * (i % 7))
                 for group, count in counts.items() for i in range(count))


def share_of(group: str, history: History, until_s: float) -> float:
    """Of the slot-seconds up to then."""
    given: dict[str, float] = {}
    for span in history.spans:
        whose = span.task_id.split("-")[0]
        given[whose] = given.get(whose, 0.0) + max(0.0, min(span.until_s, until_s) - span.from_s)
    return given[group] / sum(given.values())


@pytest.mark.parametrize(("gold", "share"), [(1.0, 0.5), (3.0, 0.75), (9.0, 0.9)])
def test_with_both_backlogged_the_slots_are_shared_by_the_weights(gold: float, share: float) -> None:
    """120 tasks of 4 s each on four workers: after ten runs a slot, and so on until a group runs dry."""
    history = played(jobs(gold=120, plain=120), {"gold": gold})
    assert share_of("gold", history, 40.0) == pytest.approx(share, abs=0.08)
    assert share_of("gold", history, 100.0) == pytest.approx(share, abs=0.04)


def test_three_groups_have_their_shares_though_most_of_the_work_is_of_one() -> None:
    history = played(jobs(a=300, b=60, c=60), {"a": 1.0, "b": 2.0, "c": 1.0})
    shares = [share_of(group, history, 80.0) for group in ("a", "b", "c")]
    assert shares == pytest.approx([0.25, 0.5, 0.25], abs=0.05)


def test_a_group_that_comes_late_has_its_share_from_then_on_and_no_more() -> None:
    late = tuple(replace(job, release_s=60.0) for job in jobs(late=100))
    history = played((*jobs(early=200), *late), {"late": 1.0})
    before, after_it = replace(history), replace(history)
    before.spans = [span for span in history.spans if span.until_s <= 62.0]
    after_it.spans = [span for span in history.spans if span.from_s > 62.0]
    assert share_of("early", before, 60.0) == 1.0
    assert share_of("late", after_it, 120.0) == pytest.approx(0.5, abs=0.07)


def test_fairness_costs_no_makespan_and_a_group_alone_has_everything() -> None:
    def makespan(history: History) -> float:
        return max(span.until_s for span in history.spans)

    fair, free = played(jobs(gold=40, plain=40), {"gold": 3.0}), played(jobs(gold=40, plain=40), {})
    assert makespan(fair) <= makespan(free) + 5.0
    alone = played(jobs(plain=40), {"gold": 99.0})
    assert makespan(alone) <= 40 * 4.0 / 4 + 6.0


def test_what_one_group_taught_is_known_of_anothers_same_work() -> None:
    state = state_with(gold=1, plain=1)
    lanes = tuple(replace(each, profile=replace(each.profile, name=f"train@{each.profile.group}"))
                  for each in state.lanes)
    state, memory = replace(state, lanes=lanes), Memory()
    for number in range(9):
        ran = RunFinished(at=NOW, task_id=str(number), profile="train@gold", worker="cpu-0", epoch=0,
                          outcome="success", hardware_class="cpu", duration_s=7.0, size=1.0)
        memory = learn(memory, [ran], state, Settings())
    offers = orders(situation(state, memory.estimates))[0].offers
    assert {offer.seconds for offer in offers} == {7.0}


def test_each_group_of_a_profile_is_a_lane_of_its_own_with_the_profiles_hints() -> None:
    declared = {"profile": "train", "group": lambda team: team}
    assert group_of(declared, ("red",), {}, None) == "red"
    assert group_of(declared, ("red",), {}, "blue") == "blue"
    assert group_of({}, (), {}, None) == ""
    assert profile_name(declared, "t", ("red",), {}, None, "red") == "train@red"
    assert profile_name({}, "t", (), {}, "train@red", "red") == "train@red"
    assert profile_name({}, "t", (), {}, None) == "t"
    settings = Settings(hints={"train": {"cpu": 2.0}, "train@red": {"cuda": 1.0}})
    made = profile_of({}, "t", "train@red", settings, "red")
    assert (made.group, made.expected_s) == ("red", {"cpu": 2.0, "cuda": 1.0})
