"""The scales: each factor the seed names, its direction and its switch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.decide import benefit, cost
from balancer.decide.benefit import score
from balancer.decide.candidates import Candidate, lanes_of_class, migratable_tasks
from balancer.decide.energy import Draw
from balancer.decide.history import MoveHistory, ProfileMoves
from balancer.decide.situation import Situation
from balancer.model import Forecast, Imbalance, MoveKind, Needs, Order, QueuedTask, Reading, Worker
from balancer.routing import class_queue, direct_queue, lane_queue
from balancer.settings import Settings
from tests.unit.fleets import NOW, fleet, held, known, lane, situation, worker

#: Seconds of profile "p" by class: V100 three times faster than the CPU, which equals "cpu-old" twice.
TABLE = known({"p": {"cuda-V100": 10.0, "cpu": 30.0, "cpu-old": 60.0}})


def here(text: str = "cpu:.9 cpu:.1", settings: Settings | None = None, **changes: Any) -> Situation:
    made = situation(fleet(text, lanes="p:0"), TABLE, settings=settings)
    return replace(made, **changes)


def candidate(
    source: Worker, *, kind: MoveKind = "running", ran_s: float | None = 10.0, **changes: Any
) -> Candidate:
    task = held("t", "p", ran_s=ran_s if kind == "running" else None)
    made = Candidate(
        task_id="t", profile=lane("p").profile, kind=kind, source=source, place=source.name, held=task,
    )
    return replace(made, **changes)


def parts(text: str, settings: Settings | None = None, **changes: Any) -> Mapping[str, float]:
    there = here(text, settings)
    source, target = there.fleet.workers
    return benefit.analyze(candidate(source, **changes), target, there).parts


COSTS = [
    ("running_time", {"held": held("t", "p", ran_s=10)}, {"held": held("t", "p", ran_s=600)}),
    ("running_time", {"held": held("t", "p", ran_s=600, checkpoint_ago_s=1)},
     {"held": held("t", "p", ran_s=600)}),
    ("state_size", {"held": held("t", "p", ran_s=1, state_bytes=10)},
     {"held": held("t", "p", ran_s=1, state_bytes=10**9)}),
    ("priority", {"priority": 9}, {"priority": 0}),  # on Redis 0 is the most urgent
    ("priority", {"priority": None}, {"priority": 3}),
]


@pytest.mark.parametrize(("factor", "cheap", "dear"), COSTS)
def test_cost_factors(factor: str, cheap: dict[str, Any], dear: dict[str, Any]) -> None:
    there = here()
    low, high = (cost.analyze(candidate(there.fleet.workers[0], **c), there) for c in (cheap, dear))
    assert low.parts[factor] < high.parts[factor]
    points = [k for k in low.parts if not k.endswith("_s")]
    assert [k for k in points if low.parts[k] != high.parts[k]] == [factor]
    assert low.points < high.points


def test_past_hand_overs_cost() -> None:
    there = here()
    slow = replace(there, history=MoveHistory(profiles={"p": ProfileMoves(count=3, cost_s=20.0)}))
    moving = candidate(there.fleet.workers[0])
    assert cost.handover_cost_s("p", there) == there.settings.handover_cost
    assert cost.analyze(moving, slow).parts["history"] > cost.analyze(moving, there).parts["history"]
    assert cost.analyze(moving, slow).seconds == pytest.approx(10 + 20)


def test_what_waits_costs_only_the_hand_over() -> None:
    there = here()
    queued = candidate(there.fleet.workers[0], kind="queued", held=None)
    assert cost.analyze(queued, there).seconds == there.settings.handover_cost
    assert cost.analyze(queued, there).points < 0.05


@given(
    st.floats(0, 1e9), st.one_of(st.none(), st.integers(0, 2**40)),
    st.one_of(st.none(), st.integers(-5, 300)), st.floats(0, 1e9),
)
def test_cost_stays_on_the_seeds_scale(
    ran_s: float, state: int | None, priority: int | None, past_s: float
) -> None:
    there = replace(here(), history=MoveHistory(profiles={"p": ProfileMoves(count=1, cost_s=past_s)}))
    moving = candidate(
        there.fleet.workers[0], held=held("t", "p", ran_s=ran_s, state_bytes=state), priority=priority
    )
    weighed = cost.analyze(moving, there)
    assert 0 <= weighed.points <= 10
    points, seconds = ([v for name, v in weighed.parts.items() if name.endswith("_s") is timed]
                       for timed in (False, True))
    assert weighed.points == pytest.approx(sum(points))
    assert weighed.seconds == pytest.approx(sum(seconds))


@pytest.mark.parametrize(("priority", "times"), [(None, 1.0), (9, 1.0), (0, 2.0)])
def test_a_second_of_an_urgent_task_counts_twice(priority: int | None, times: float) -> None:
    there = here()
    moving = candidate(there.fleet.workers[0], held=held("t", "p", ran_s=10.0), priority=priority)
    assert cost.analyze(moving, there).seconds == pytest.approx(times * 10.1)


def test_state_costs_what_the_measured_bandwidth_says() -> None:
    there = here()
    slow = replace(there, history=MoveHistory(state_bytes=1e9, state_s=100.0))
    assert MoveHistory().bandwidth_bytes_per_s == 100e6
    assert slow.history.bandwidth_bytes_per_s == pytest.approx(10e6, rel=0.02)
    moving = candidate(there.fleet.workers[0], held=held("t", "p", ran_s=0.0, state_bytes=10**9))
    assert cost.analyze(moving, there).parts["transfer_s"] == pytest.approx(10.0)
    assert cost.analyze(moving, slow).parts["transfer_s"] == pytest.approx(100.0, rel=0.02)


@pytest.mark.parametrize(
    ("past", "failing"),
    [(None, 0.0), (ProfileMoves(count=9, success=1.0), 0.0), (ProfileMoves(count=1, success=0.0), 1 / 3),
     (ProfileMoves(count=9, success=0.0), 5 / 7), (ProfileMoves(count=9, success=0.6), 0.4 * 5 / 7)],
)
def test_moves_that_fail_gain_less(past: ProfileMoves | None, failing: float) -> None:
    there = here("cpu-old:.9 cpu:.1")
    source, target = there.fleet.workers
    moving = candidate(source, ran_s=20.0)  # 40 s remain here, 20 there; 20 s of work are at risk
    risky = replace(there, history=MoveHistory(profiles={"p": past} if past else {}))
    gains = benefit.analyze(moving, target, risky)
    assert gains.parts["risk_s"] == pytest.approx(-failing * (20.0 + 20.0))
    assert gains.seconds == pytest.approx(20.0 - failing * 40.0)


@pytest.mark.parametrize(
    ("factor", "worse", "better"),
    [
        ("utilisation", "cpu:.9 cpu:.5", "cpu:.9 cpu:.1"),
        ("utilisation", "cuda-V100:.9 cpu:.1", "cpu:.9 cpu:.1"),  # the target is slower
        ("hardware", "cpu:.9 cpu-old:.1", "cpu:.9 cpu:.1"),
        ("hardware", "cpu:.9 cpu:.1", "cpu:.9 cuda-V100:.1"),
        ("energy", "cpu:.9 cuda-V100:.1", "cuda-V100:.9 cpu:.1"),
        ("thermal", "cpu:.9 cuda-V100:.1", "cuda-V100:.9 cpu:.1"),
    ],
)
def test_benefit_factors(factor: str, worse: str, better: str) -> None:
    assert parts(worse)[factor] < parts(better)[factor]


def test_joules_that_workers_report_stand_above_the_table() -> None:
    """By the table a CPU is the more efficient kind; reports say that a slot of it draws ten times more."""
    there = here("cuda-V100:.9 cpu:.1")
    source, target = there.fleet.workers
    told = replace(there, power={"cuda-V100": draw(20.0), "cpu": draw(200.0)})
    before, after = (benefit.analyze(candidate(source), target, state).parts["energy"]
                     for state in (there, told))
    assert before > 0 > after


def draw(slot_w: float) -> Draw:
    """Many exact reports of workers that are busy half the time."""
    return Draw(at=0.0, weight=100.0, busy=0.5, watts=slot_w / 2, busy_var=0.25, watts_var=slot_w ** 2 / 4,
                cov=slot_w / 4)


def test_preferred_hardware_counts() -> None:
    picky = replace(lane("p").profile, needs=Needs(hardware=("cuda", "cpu")))
    assert parts("cpu:.9 cuda-V100:.1", profile=picky)["preference"] > 0
    assert parts("cuda-V100:.9 cpu:.1", profile=picky)["preference"] < 0


def test_memory_margin_is_of_the_gpu_where_it_is_asked_for() -> None:
    there = here()
    source = replace(there.fleet.workers[0], reading=Reading(memory=0.9, gpu_memory=0.2))
    target = replace(there.fleet.workers[1], reading=Reading(memory=0.1, gpu_memory=0.8))
    on_host, on_gpu = candidate(source), candidate(
        source, profile=replace(lane("p").profile, needs=Needs(gpu_memory_bytes=1))
    )
    assert benefit.analyze(on_host, target, there).parts["memory"] == pytest.approx(0.8)
    assert benefit.analyze(on_gpu, target, there).parts["memory"] == pytest.approx(-0.6)
    unread = replace(target, reading=Reading())
    assert benefit.analyze(on_host, unread, there).parts["memory"] == 0.0


def test_a_cooler_target_is_better() -> None:
    there = here()
    hot = replace(there.fleet.workers[0], reading=Reading(cpu=0.9, temperature_celsius=90.0))
    cool = replace(there.fleet.workers[1], reading=Reading(cpu=0.1, temperature_celsius=40.0))
    assert benefit.analyze(candidate(hot), cool, there).parts["thermal"] == pytest.approx(1.0)


@pytest.mark.parametrize(("success", "points"), [(1.0, 1.0), (0.5, 0.0), (0.0, -1.0)])
def test_past_success(success: float, points: float) -> None:
    there = replace(here(), history=MoveHistory(profiles={"p": ProfileMoves(count=4, success=success)}))
    source, target = there.fleet.workers
    assert benefit.analyze(candidate(source), target, there).parts["success"] == points
    assert benefit.analyze(candidate(source), target, here()).parts["success"] == 0.0


def test_switch_resource_efficiency() -> None:
    off = Settings(enable_resource_efficiency=False)
    assert {"energy", "thermal"} <= set(parts("cpu:.9 cuda-V100:.1"))
    assert not {"energy", "thermal"} & set(parts("cpu:.9 cuda-V100:.1", off))


def test_switch_hardware_specific_strategies() -> None:
    off = Settings(enable_hardware_specific_strategies=False)
    assert not {"hardware", "preference"} & set(parts("cuda-V100:.9 cpu:.1", off))
    assert parts("cuda-V100:.9 cpu:.1", off)["utilisation"] == pytest.approx(5 * 0.8)
    assert parts("cuda-V100:.9 cpu:.1")["utilisation"] == pytest.approx(5 * 0.8 / 3)


def test_a_foreseen_imbalance_is_judged_by_the_forecasts() -> None:
    soon = [
        Forecast(subject=n, made_at=NOW, due_at=NOW + 180, value=v, low=v, high=v, confidence=1)
        for n, v in (("cpu-0", 0.95), ("cpu-1", 0.05))
    ]
    ahead = Imbalance(kind="predicted", score=0.9, overloaded=("cpu-0",), underloaded=("cpu-1",))
    there = here("cpu:.5 cpu:.4", imbalance=ahead, forecasts=tuple(soon))
    source, target = there.fleet.workers
    assert benefit.analyze(candidate(source), target, there).parts["utilisation"] == pytest.approx(5 * 0.9)


def test_seconds_count_the_rest_of_the_task_and_its_wait() -> None:
    there = here("cpu:.9 cuda-V100:.1")
    source, target = there.fleet.workers
    running = benefit.analyze(candidate(source, ran_s=15.0), target, there)
    assert running.seconds == pytest.approx(15.0 - 5.0)  # half of 30 s is left, half of 10 s on the V100
    waiting = candidate(source, kind="reserved", held=None, wait_s=40.0, size=2.0)
    assert benefit.analyze(waiting, target, there).seconds == pytest.approx(40 + 60 - 20)


def test_what_a_task_said_of_itself_counts_more_than_its_time() -> None:
    there = here("cpu:.9 cpu:.1")
    source, target = there.fleet.workers
    slow = candidate(source, held=replace(held("t", "p", ran_s=25.0, checkpoint_ago_s=1.0), share_done=0.2))
    silent = candidate(source, ran_s=25.0)
    assert benefit.remaining_s(silent, source, there) == pytest.approx(5.0)
    assert benefit.remaining_s(slow, source, there) > 40.0  # a fifth took it 24 s
    assert benefit.remaining_s(slow, target, there) == pytest.approx(0.8 * 30, rel=0.05)
    assert benefit.analyze(slow, target, there).seconds > 20.0
    assert benefit.analyze(silent, target, there).seconds == pytest.approx(0.0)


def test_a_slowed_worker_is_worth_leaving_for_its_equal() -> None:
    slow = replace(TABLE, worker_speed={"cpu-0": 0.25}, worker_class={"cpu-0": "cpu"})
    there = here(estimates=slow)
    source, target = there.fleet.workers
    queued = candidate(source, kind="queued", held=None)
    assert benefit.analyze(queued, target, there).parts["hardware"] == 3.0


def test_the_score_names_every_factor() -> None:
    there = here()
    source, target = there.fleet.workers
    whole = score(candidate(source), target, there)
    assert set(whole.parts) == {
        "cost.running_time", "cost.state_size", "cost.priority", "cost.history", "benefit.utilisation",
        "benefit.hardware", "benefit.preference", "benefit.memory", "benefit.energy", "benefit.thermal",
        "benefit.success", "cost.repeated_s", "cost.transfer_s", "cost.handover_s", "cost.priority_s",
        "benefit.waiting_s", "benefit.here_s", "benefit.there_s", "benefit.risk_s",
    }
    assert whole.benefit >= 0
    assert whole.net_benefit == whole.benefit - whole.cost
    assert whole.cost_s is not None
    assert whole.cost_s > 0


def test_candidates_are_the_cheap_ones_first_and_only_known_profiles() -> None:
    reserved = (held("w", "p"), held("x", "strange"))
    busy = worker("cpu", running=(held("r", "p", ran_s=10.0),), reserved=reserved)
    queued = [("d", direct_queue("cpu-0")), ("c", class_queue("cpu")), ("l", lane_queue("p")), ("o", "other")]
    there = here()
    there = replace(there, fleet=replace(
        there.fleet, workers=(busy, worker("cpu", 1)),
        queued=tuple(QueuedTask(task_id=t, queue=q, profile="p") for t, q in queued),
    ))
    orders = [Order(hardware_class="cpu", at=NOW, groups=((lane_queue("p"),),))]
    found = list(migratable_tasks(busy, there, orders))
    assert [(c.task_id, c.kind) for c in found] == [
        ("d", "queued"), ("c", "queued"), ("l", "queued"), ("w", "reserved"), ("r", "running"),
    ]
    assert found[3].wait_s == pytest.approx(20.0)  # what the running one still needs
    assert found[0].place == direct_queue("cpu-0")
    assert [c.task_id for c in migratable_tasks(busy, there)] == ["d", "c", "w", "r"]


def test_a_running_task_that_does_not_checkpoint_stays() -> None:
    stays = replace(held("r", "p", ran_s=1.0), checkpoints=False)
    there = here()
    plain = replace(there.fleet, lanes=(lane("p", checkpoints=False),))
    busy = worker("cpu", running=(stays,))
    assert list(migratable_tasks(busy, replace(there, fleet=plain))) == []


def test_lanes_that_only_one_class_serves() -> None:
    orders = [
        Order(hardware_class="cpu", at=0, groups=(("a", "b"), ("c",))),
        Order(hardware_class="cuda", at=0, groups=(("b",),)),
    ]
    assert lanes_of_class("cpu", orders) == {"a", "c"}
