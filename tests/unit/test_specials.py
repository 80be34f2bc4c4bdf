"""What a worker that is better or worse at lanes than its class is told, lists, is sent and is said to be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from balancer.adapters.documents import read_order
from balancer.adapters.order_text import order_document
from balancer.cli.story import facts
from balancer.decide.durations import durations
from balancer.decide.estimate import Estimates
from balancer.decide.idle import idle_slots
from balancer.decide.order import orders
from balancer.decide.pull import ranked
from balancer.decide.rescue import running_moves
from balancer.decide.rooms import Rooms
from balancer.decide.slots import expected_s
from balancer.model import Fleet, Order
from balancer.routing import lane_queue
from balancer.settings import Settings
from tests.unit.fleets import fleet, held, known, lane, situation, with_running
from tests.unit.test_cli_words import explained

V100, K80 = "cuda-V100", "cuda-K80"
TABLE = {"a": {V100: 1.0, K80: 10.0}, "b": {V100: 1.0, K80: 2.0}}
A, B = lane_queue("a"), lane_queue("b")
GOOD = f"{K80}-0"


def special(factors: Mapping[str, Mapping[str, float]]) -> Estimates:
    classes = {name: name.rpartition("-")[0] for name in factors}
    return replace(known(TABLE), special=factors, worker_class=classes,
                   worker_speed=dict.fromkeys(classes, 1.0))


def order_of(state: Fleet, estimates: Estimates, name: str = K80, **options: bool) -> Order:
    made = orders(situation(state, estimates, settings=Settings(**options)))
    return next(order for order in made if order.hardware_class == name)


def test_an_order_tells_of_its_class_s_workers_that_are_there_by_lane() -> None:
    estimates = special({GOOD: {"a": 2.0, "gone": 3.0}, f"{V100}-0": {"b": 0.5}, f"{K80}-9": {"a": 2.0}})
    state = fleet(f"{V100}*2 {K80}*2", lanes="a:40 b:40")
    assert order_of(state, estimates).special == {GOOD: {A: 2.0}}
    assert order_of(state, estimates, V100).special == {f"{V100}-0": {B: 0.5}}
    plain = order_of(state, estimates, enable_hardware_specific_strategies=False)
    assert plain.special == {}, "every class serves all by age"


def test_a_worker_on_other_hardware_than_was_learned_of_is_like_its_class() -> None:
    estimates = replace(special({GOOD: {"a": 2.0}}), worker_class={GOOD: V100})
    assert order_of(fleet(f"{V100} {K80}", lanes="a:40 b:40"), estimates).special == {}


def test_every_group_of_tasks_shares_what_was_learned_of_the_profile() -> None:
    grouped = lane("a@x", 40)
    grouped = replace(grouped, profile=replace(grouped.profile, group="x"))
    state = replace(fleet(f"{K80}*2"), lanes=(lane("a", 3), grouped))
    assert order_of(state, special({GOOD: {"a": 2.0}})).special == {GOOD: {A: 2.0, grouped.queue: 2.0}}


def test_a_specialist_lists_its_lane_where_its_factor_puts_it() -> None:
    order = order_of(fleet(f"{V100}*2 {K80}*2", lanes="a:40 b:40"), known(TABLE))
    backlog = {A: 40, B: 40}
    assert ranked(order, backlog) == [B, A]
    assert ranked(order, backlog, special={A: 1.1}) == [B, A]
    assert ranked(order, backlog, special={A: 9.0}) == [A, B]
    v100 = order_of(fleet(f"{V100}*2 {K80}*2", lanes="a:40 b:40"), known(TABLE), V100)
    assert ranked(v100, backlog) == [A, B]
    assert ranked(v100, backlog, special={A: 0.1}) == [B, A]


def test_what_presses_or_starves_stays_first_for_a_specialist() -> None:
    order = order_of(fleet(f"{K80}*2", lanes="a:40 b:40"), known(TABLE))
    pressed = replace(order, groups=((A,), (B,)), urgent=1)
    assert ranked(pressed, {A: 40, B: 40}, special={B: 9.0}) == [A, B]
    assert ranked(replace(pressed, urgent=0), {A: 40, B: 40}, special={B: 9.0}) == [B, A]


def test_an_order_says_how_many_of_its_groups_press() -> None:
    old = replace(lane("a", 2), oldest_s=900.0)
    state = replace(fleet(f"{K80}*2"), lanes=(old, replace(lane("b", 90), oldest_s=5.0)))
    order = order_of(state, known(TABLE))
    assert (order.urgent, order.groups[0]) == (1, (A,))
    assert order_of(fleet(f"{K80}*2", lanes="a:40 b:40"), known(TABLE)).urgent == 0


def test_the_guard_judges_a_specialist_by_its_speed_in_the_lane() -> None:
    state = fleet(f"{V100}*2 {K80}*2", lanes="a:0 b:9")
    order = order_of(state, known(TABLE))
    assert ranked(order, {B: 9}) == [B]
    assert ranked(order, {B: 9}, special={B: 0.2}) == []
    assert ranked(order, {B: 1}) == []
    assert ranked(order, {B: 1}, special={B: 2.0}) == [B]


def test_a_specialist_that_would_take_what_waits_is_not_idle() -> None:
    state = fleet(f"{V100}*2 {K80}*2", lanes="a:0 b:1")
    for estimates, idle in ((known(TABLE), True), (special({GOOD: {"b": 2.0}}), False)):
        now = situation(state, estimates)
        found = idle_slots(now, orders(now))
        assert (GOOD in found, f"{K80}-1" in found) == (idle, True)


def test_what_runs_there_is_expected_to_take_as_long_as_a_specialist_needs() -> None:
    state = with_running(fleet(f"{V100} {K80}*2", lanes="a:0 b:0"), GOOD, held("t", "a", ran_s=1.0))
    state = with_running(state, f"{K80}-1", held("u", "a", ran_s=1.0))
    now = situation(state, special({GOOD: {"a": 2.0, "b": 0.5}}))
    assert durations(now).expected.tolist() == [5.0, 10.0]
    for name, wanted in ((GOOD, 5.0), (f"{K80}-1", 10.0)):
        worker = state.worker(name)
        assert worker is not None
        assert expected_s(now, worker, worker.running[0], state.lanes[0].profile) == wanted


def test_a_rescue_goes_to_the_specialist() -> None:
    workers = fleet(f"{K80}*9", lanes="a:0 b:0")
    state = with_running(workers, f"{K80}-0", held("t", "a", ran_s=15.0, checkpoint_ago_s=0.1))
    best = f"{K80}-8"
    estimates = special({f"{K80}-0": {"a": 0.1}, best: {"a": 2.0}})
    now = situation(state, estimates)
    idle = {w.name: 1 for w in state.workers if not w.running}
    moves, _ = running_moves(now, idle, Rooms(now))
    assert [move.target for move in moves] == [best]


def test_the_wire_carries_it_and_orders_without_it_are_read() -> None:
    order = order_of(fleet(f"{V100}*2 {K80}*2", lanes="a:40 b:40"), special({GOOD: {"a": 2.0}}))
    text = order_document(order)
    again = read_order(text.encode())
    assert (again.special, again.urgent) == ({GOOD: {A: 2.0}}, 0)
    older = text.replace(f'"special":{{"{GOOD}":{{"{A}":2.0}}}},', "").replace(',"urgent":0', "")
    assert "special" not in older
    assert "urgent" not in older
    assert read_order(older.encode()) == replace(again, special={})


def test_explain_says_who_differs_and_how_many_more() -> None:
    them = [{"worker": f"w{i}", "times": 1.6 if i else 0.25, "runs": 12} for i in range(7)]
    takes = {"seconds": 2.0, "runs": 40, "unfit": None, "emulated": False, "special": them}
    said = [text for _, text in facts(explained(profile="a", estimates={K80: takes}))]
    assert "  w0 is 0.25 times as fast at it as its class (12 runs)" in said
    assert "  w4 is 1.6 times as fast at it as its class (12 runs)" in said
    assert "  and 2 more differ from their class" in said
