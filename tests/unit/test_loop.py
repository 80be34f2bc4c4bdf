"""The loop over the world in memory: lease, rhythms, the life of moves, faults, and what it tells."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

import pytest

from balancer.adapters.in_memory import InMemoryFleetStore, InMemoryHandOver
from balancer.decide.strategies import by_name
from balancer.errors import BalancerError, StoreError
from balancer.model import HandedOver, MetricsTold, Move, QueuedTask, Refused, TaskLeft
from balancer.routing import class_queue, direct_queue, lane_queue
from balancer.standing import Schedule
from tests.unit.rig import FAST, SLOW, Rig, Scripted, a_move, began, finished, rig


def handed(made: Rig, move: Move) -> HandedOver:
    return HandedOver(at=made.world.now, move_id=move.move_id, task_id=move.task_id, worker=move.source,
                      queue=move.target_queue, state_bytes=1000)


def moved(made: Rig) -> list[tuple[str, str]]:
    """Task and state of each row of moves, in order."""
    return [(row["task_id"], row["state"]) for row in made.rows("moves")]


def test_a_whole_turn_orders_keeps_and_records() -> None:
    made = rig()
    assert made.add("a").turn() is True
    order = made.store.order("cpu")
    assert order is not None
    assert order.groups == ((lane_queue("resnet"),),)
    assert made.store.memory is not None
    assert made.store.memory[1] == 1
    assert len(made.rows("load_balancer_metrics")) == 1
    assert {row["worker"] for row in made.rows("worker_samples")} == {SLOW, FAST}


def test_a_price_turn_orders_and_leaves_the_tick_alone() -> None:
    made = rig([a_move()])
    balancer = made.add("a")
    assert balancer.turn(whole=False) is True
    assert made.store.order("cuda-V100") is not None
    assert made.rows("load_balancer_metrics") == []
    assert made.handover.requested == []


def test_moves_that_cannot_wait_are_made_and_recorded_between_ticks() -> None:
    made = rig(strategy=Scripted(moves=(a_move(),), eager=True))
    balancer = made.add("a")
    assert balancer.turn(whole=False) is True
    assert [move.task_id for move in made.handover.requested] == ["t1"]
    assert [(r["kind"], r["task_id"], r["strategy"]) for r in made.rows("decisions")] == [
        ("move", "t1", "scripted")]
    assert moved(made) == [("t1", "requested")]
    assert made.rows("load_balancer_metrics") == []
    kept = made.store.memory
    assert kept is not None
    assert "t1" in str(kept[0]["migrations"] if "migrations" in kept[0] else kept[0]["since"])


def test_a_dry_run_looks_for_no_moves_between_ticks() -> None:
    strategy = Scripted(moves=(a_move(),), eager=True)
    made = rig(strategy=strategy, dry_run=True)
    assert made.add("a").turn(whole=False) is True
    assert made.rows("decisions") == []
    assert strategy.moves == (a_move(),)


def test_two_balancers_one_works_and_the_other_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    made = rig([a_move()])
    first, second = made.add("first"), made.add("second")
    assert first.turn()
    before = (made.store.memory, len(made.ledger.tables), list(made.handover.requested))
    with caplog.at_level(logging.WARNING, "balancer"):
        assert [second.turn() for _ in range(3)] == [False] * 3
    assert (made.store.memory, len(made.ledger.tables), list(made.handover.requested)) == before
    assert [r.message for r in caplog.records] == [
        "first balances this fleet; this balancer waits and changes nothing"]


def test_the_next_holder_goes_on_with_the_moves_of_the_last() -> None:
    made = rig([a_move()])
    first, second = made.add("first"), made.add("second")
    first.turn()
    first.ports.lease.release()
    made.tick()
    made.store.tell(handed(made, a_move()))
    assert second.turn()
    assert [m.state for m in second.standing.state.migrations] == ["handed_over"]
    assert made.handover.requested == [a_move()]


def test_a_move_is_written_down_before_it_is_asked_for() -> None:
    made = rig([a_move()])

    class Looks(InMemoryHandOver):
        found: Any = None

        def request(self, move: Move, timeout_s: float) -> int:
            assert made.store.memory is not None
            self.found = [m["move"]["move_id"] for m in made.store.memory[0]["migrations"]]
            return super().request(move, timeout_s)

    looks = Looks(made.world)
    made.add("a", handover=looks).turn()
    assert looks.found == [a_move().move_id]


def test_who_has_lost_the_lease_asks_for_nothing() -> None:
    made = rig([a_move()])
    made.store.save_memory({}, 99)
    balancer = made.add("late")
    assert balancer.turn() is False
    assert made.handover.requested == []
    assert made.store.orders == {}
    assert balancer.standing.fence is None


def test_a_running_task_moves() -> None:
    made = rig([a_move()])
    balancer = made.add("a")
    balancer.turn()
    assert made.handover.want("t1") == a_move()
    made.tick()
    made.store.tell(handed(made, a_move()))
    made.store.tell(began(made, FAST))
    balancer.turn()
    assert moved(made) == [("t1", "requested"), ("t1", "completed")]
    assert balancer.standing.in_flight == ()
    assert balancer.get_load_balancer_stats()["totals"] == {
        "initiated": 1, "successful": 1, "success_rate": 1.0}
    assert [r["migrations_successful"] for r in made.rows("load_balancer_metrics")] == [0, 1]
    assert [r["migrations_initiated"] for r in made.rows("load_balancer_metrics")] == [1, 0]


def test_a_task_that_finishes_before_its_cancel_frees_its_slot_and_withdraws_the_wish() -> None:
    made = rig([a_move()])
    balancer = made.add("a")
    balancer.turn()
    made.tick()
    made.store.tell(finished(made, SLOW))
    balancer.turn(whole=False)
    assert balancer.standing.in_flight == ()
    assert made.handover.want("t1") is None
    assert moved(made)[-1] == ("t1", "refused")


def test_a_task_that_finished_while_its_move_was_decided_is_not_asked_for() -> None:
    made = rig([a_move()])
    made.store.tell(finished(made, SLOW))
    balancer = made.add("a")
    balancer.turn()
    assert made.handover.want("t1") is None
    assert moved(made) == [("t1", "refused")]
    assert balancer.standing.in_flight == ()


def test_a_refusal_of_another_move_ends_nothing() -> None:
    made = rig([a_move()])
    balancer = made.add("a")
    balancer.turn()
    made.store.tell(Refused(at=made.world.now, move_id="t1@1", task_id="t1", worker=SLOW, reason="fence"))
    balancer.turn()
    assert balancer.standing.in_flight == (a_move(),)


def test_queued_work_has_moved_when_the_turn_ends() -> None:
    queue = direct_queue(SLOW)
    made = rig([a_move("q1", "queued", source=queue, target=FAST)])
    made.world.put(QueuedTask(task_id="q1", queue=queue, profile="resnet"))
    balancer = made.add("a")
    balancer.turn()
    assert [t.task_id for t in made.world.waiting[direct_queue(FAST)]] == ["q1"]
    assert balancer.standing.in_flight == ()
    assert made.rows("moves")[-1]["state"] == "completed"
    assert made.rows("moves")[-1]["moved"] == 1


def test_a_move_whose_source_is_gone_is_cancelled() -> None:
    made = rig([a_move()])
    balancer = made.add("a")
    balancer.turn()
    del made.world.reports[SLOW]
    made.tick()
    balancer.turn(whole=False)
    assert moved(made)[-1] == ("t1", "cancelled")
    assert made.handover.want("t1") is None


def test_a_move_that_nobody_answers_is_stale() -> None:
    made = rig([a_move()], move_timeout=5.0)
    balancer = made.add("a")
    balancer.turn()
    for _ in range(5):
        made.tick()
        balancer.turn(whole=False)
    assert moved(made)[-1] == ("t1", "stale")
    assert balancer.standing.in_flight == ()


def test_one_request_that_fails_stops_no_other(caplog: pytest.LogCaptureFixture) -> None:
    made = rig([a_move("t1"), a_move("t2", "reserved")])

    class Breaks(InMemoryHandOver):
        def request(self, move: Move, timeout_s: float) -> int:
            if move.task_id == "t1":
                raise StoreError("no answer")
            return super().request(move, timeout_s)

    breaks = Breaks(made.world)
    made.add("a", handover=breaks).turn()
    assert [move.task_id for move in breaks.requested] == ["t2"]
    assert ("t1", "cancelled") in moved(made)
    assert "could not be asked for" in caplog.text


def test_a_dry_run_decides_and_records_but_touches_nothing() -> None:
    made = rig([a_move()], dry_run=True)
    made.world.put(QueuedTask(task_id="q", queue=direct_queue("gone"), profile="resnet"))
    decision = made.add("a").balance_load()
    assert decision is not None
    assert decision.moves == (a_move(),)
    assert [r["task_id"] for r in made.rows("decisions") if r["kind"] == "move"] == ["t1"]
    assert (made.handover.requested, made.store.orders) == ([], {})
    assert len(made.world.waiting[direct_queue("gone")]) == 1


@pytest.mark.parametrize("queue", [direct_queue("gone"), class_queue("cuda-Gone")])
def test_what_lies_where_nobody_serves_it_goes_back_to_its_lane(queue: str) -> None:
    made = rig()
    made.world.put(QueuedTask(task_id="q", queue=queue, profile="resnet"))
    made.add("a").turn(whole=False)
    assert [t.task_id for t in made.world.waiting[lane_queue("resnet")]] == ["q"]


def test_what_cannot_be_read_back_is_set_aside_with_its_reason() -> None:
    made = rig()
    made.store.memory = ({"version": 99, "memory": {}}, 0)
    assert made.add("a").turn()
    asides = [r for r in made.rows("decisions") if r["kind"] == "set_aside"]
    assert [(r["source"], r["reason"]) for r in asides] == [("memory", "unreadable state")]
    assert "version 99" in asides[0]["detail"]


def test_the_two_rhythms() -> None:
    made = rig(check_interval=5.0)
    balancer = made.add("a")
    seen: list[tuple[float, int]] = []

    def on_wait(now: float) -> None:
        seen.append((now - 1_000.0, len(made.rows("load_balancer_metrics"))))
        made.tick(now - made.world.now)
        if now >= 1_011.0:
            balancer.stop()

    made.clock._on_wait = on_wait
    balancer.start_balancing()
    assert [at for at, _ in seen] == [float(s) for s in range(1, 12)]
    assert [ticks for _, ticks in seen] == [1] * 5 + [2] * 5 + [3]
    assert balancer.ports.lease.holder() is None, "it gives the lease back"


def test_no_fault_of_a_turn_ends_the_loop(caplog: pytest.LogCaptureFixture) -> None:
    made = rig()
    waits: list[float] = []

    class Flaky(InMemoryFleetStore):
        failures = 6

        def observe(self) -> Any:
            self.failures -= 1
            if self.failures >= 0:
                raise StoreError("Redis is away")
            return super().observe()

    balancer = made.add("a", store=Flaky(made.world))

    def on_wait(now: float) -> None:
        waits.append(now - made.world.now)
        made.tick(now - made.world.now)
        if len(waits) == 8:
            balancer.stop()

    made.clock._on_wait = on_wait
    balancer.start_balancing()
    assert waits == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 1.0, 1.0]
    assert len(made.rows("load_balancer_metrics")) == 1
    assert sum("a turn of the balancer failed" in r.message for r in caplog.records) == 6
    assert caplog.text.count("Traceback") == 1, "a fault that stays is told once with its traceback"


def test_a_broken_strategy_is_a_fault_and_no_end(caplog: pytest.LogCaptureFixture) -> None:
    strategy = Scripted(breaks=True)
    made = rig(strategy=strategy)
    balancer = made.add("a")
    schedule = Schedule(check_interval=30.0)
    assert balancer._take_turn(schedule, 0.0) is False
    strategy.breaks = False
    assert balancer._take_turn(schedule, 1.0) is True
    assert "the strategy is broken" in caplog.text


def test_a_clock_set_back_does_not_stop_the_ticks() -> None:
    schedule = Schedule(check_interval=30.0)
    schedule.whole_done(1_000.0)
    assert [schedule.whole_due(now) for now in (1_029.0, 1_030.0, 500.0)] == [False, True, True]


def test_metrics_from_outside_stand_over_the_workers_own_until_they_are_old() -> None:
    made = rig(check_interval=5.0, heartbeat_ttl=4.0)
    balancer = made.add("a")
    balancer.turn()
    asyncio.run(balancer.update_worker_performance(FAST, {"cpu": 0.9, "power_w": 120}))
    balancer.worker_performance(FAST, {"gpu": None})
    seen = balancer.update_performance_metrics().worker(FAST)
    assert seen is not None
    assert (seen.reading.cpu, seen.reading.power_w, seen.reading.gpu) == (0.9, 120.0, None)
    made.tick(10.0)
    later = balancer.update_performance_metrics().worker(FAST)
    assert later is not None
    assert (later.reading.cpu, later.reading.gpu) == (0.01, 0.01)


@pytest.mark.parametrize(("worker", "metrics", "says"), [
    (FAST, {"cpu": 85}, "cpu = 85 must be a share from 0 to 1; did you mean 0.85?"),
    (FAST, {"cpu": float("nan")}, "cpu = nan must be a share"),
    (FAST, {"power_w": -1}, "power_w = -1 must be a number of at least 0"),
    (FAST, {"cpu": "high"}, "cpu = 'high' must be"),
    (FAST, {"cpu": True}, "cpu = True must be"),
    (FAST, {"cpus": 0.5}, "unknown metric 'cpus', did you mean 'cpu'?"),
    (FAST, {"temperature_celsius": -300}, "above -273"),
    (FAST, {}, "must be a mapping"),
    ("cuda-V100-1", {"cpu": 0.5}, "there is no worker 'cuda-V100-1', did you mean 'cuda-V100-0'?"),
    (3, {"cpu": 0.5}, "worker_id = 3: must be a name"),
])
def test_garbage_from_outside_is_refused(worker: str, metrics: Mapping[str, Any], says: str) -> None:
    balancer = rig().add("a")
    balancer.turn()
    with pytest.raises(BalancerError) as refused:
        balancer.worker_performance(worker, metrics)
    assert says in str(refused.value)


@pytest.mark.parametrize(("task", "worker", "says"), [
    (None, SLOW, "task_id = None: must be a name, a text that is not empty"),
    ("t1", 3, "source_worker_id = 3: must be a name"),
    ("t1", "nobody", "there is no worker 'nobody' (2 workers are there)"),
])
def test_a_cancellation_of_garbage_is_refused(task: Any, worker: Any, says: str) -> None:
    balancer = rig().add("a")
    balancer.turn()
    with pytest.raises(BalancerError) as refused:
        balancer.task_cancelled_for_migration(task, worker)
    assert str(refused.value).startswith(says)


def test_what_other_processes_tell_of_nobody_is_set_aside_and_said_once(
        caplog: pytest.LogCaptureFixture) -> None:
    made = rig()
    balancer = made.add("a")
    for _ in range(2):
        made.store.tell(MetricsTold(at=0.0, worker="nobody", values={"cpu": 0.5}))
        made.store.tell(TaskLeft(at=0.0, task_id="no-such-task", worker="nobody"))
        balancer.turn(whole=False)
    said = "there is no worker 'nobody' (2 workers are there)"
    assert [(a.source, a.reason) for a in balancer.standing.asides] == [
        ("metrics of nobody", said), ("told that task no-such-task left nobody", said)]
    assert [r.levelname for r in caplog.records if said in r.message] == ["WARNING", "WARNING"]


def test_a_cancellation_told_before_its_move_is_written_down_is_not_lost() -> None:
    made = rig([a_move()])
    balancer = made.add("a")
    asyncio.run(balancer.handle_task_cancelled_for_migration("t1", SLOW))
    balancer.turn()
    made.tick()
    balancer.turn(whole=False)
    assert [m.state for m in balancer.standing.state.migrations] == ["handed_over"]


def test_a_cancellation_of_no_move_is_forgotten_after_a_tick() -> None:
    made = rig(check_interval=5.0)
    balancer = made.add("a")
    balancer.turn()
    balancer.task_cancelled_for_migration("t1", SLOW)
    made.tick(6.0)
    balancer.turn()
    made.strategy = balancer.strategy = Scripted(moves=(a_move(at=made.world.now),))
    balancer.turn()
    balancer.turn(whole=False)
    assert [m.state for m in balancer.standing.state.migrations] == ["requested"]


def test_statistics_have_the_seeds_shape() -> None:
    made = rig([a_move()])
    balancer = made.add("a")
    assert balancer.get_load_balancer_stats()["worker_count"] == 0
    balancer.turn()
    stats = balancer.get_load_balancer_stats()
    seeds = {"worker_count", "active_migrations", "thresholds", "migrations", "features", "prediction"}
    assert seeds <= stats.keys()
    assert (stats["worker_count"], stats["active_migrations"], stats["holder"]) == (2, 1, "a")
    assert stats["migrations_in_flight"][0]["move"]["task_id"] == "t1"
    assert stats["thresholds"]["initial_high"] == 0.85


def test_the_steps_say_what_the_tick_decides() -> None:
    made = rig([], trip_samples=1)
    balancer = made.add("a")
    decision = balancer.balance_load()
    assert decision is not None
    assert balancer._update_dynamic_thresholds() == decision.thresholds
    assert balancer._predict_future_load() == decision.forecasts
    assert balancer.detect_load_imbalance() == decision.imbalance
    assert decision.imbalance is not None
    assert decision.imbalance.overloaded == (SLOW,)


def test_the_steps_weigh_what_a_worker_holds() -> None:
    balancer = rig().add("a")
    fleet = balancer.update_performance_metrics()
    slow, fast = fleet.worker(SLOW), fleet.worker(FAST)
    assert slow is not None
    assert fast is not None
    tasks = {c.task_id: c for c in balancer._find_migratable_tasks(slow)}
    assert set(tasks) == {"t1", "t2"}
    reserved, running = (balancer._analyze_migration_costs(tasks[name]) for name in ("t2", "t1"))
    assert 0 <= reserved < running <= 10
    assert balancer._analyze_migration_benefit(tasks["t1"], fast) > 0


def test_a_look_changes_nothing() -> None:
    made = rig([a_move()])
    made.add("works").turn()
    before = (made.store.memory, made.board.holders, len(made.handover.requested))
    onlooker = made.add("looks")
    onlooker.look()
    assert onlooker.standing.in_flight == (a_move(),)
    assert onlooker.get_load_balancer_stats()["works_here"] is False
    assert (made.store.memory, made.board.holders, len(made.handover.requested)) == before


def test_the_default_strategy_rescues_a_task_from_a_slow_worker_to_an_idle_fast_one() -> None:
    made = rig(strategy=by_name("priced"), hints={"resnet": {"cpu": 1000.0, "cuda": 10.0}})
    balancer = made.add("a")
    balancer.turn()
    wanted = made.handover.want("t1")
    assert wanted is not None
    assert (wanted.source, wanted.target_queue) == (SLOW, direct_queue(FAST))
    made.tick()
    made.store.tell(handed(made, wanted))
    made.store.tell(began(made, FAST))
    balancer.turn()
    assert ("t1", "completed") in moved(made)


@pytest.mark.parametrize("name", ["static", "fixed", "adaptive", "priced"])
def test_every_strategy_takes_whole_turns_over_any_fleet(name: str) -> None:
    made = rig(strategy=by_name(name), check_interval=1.0)
    balancer = made.add("a")
    for _ in range(4):
        assert balancer.turn()
        made.tick()
    made.world.reports.clear()
    assert balancer.turn()
    assert [row["metrics"]["worker_count"] for row in made.rows("load_balancer_metrics")] == [2, 2, 2, 2, 0]
