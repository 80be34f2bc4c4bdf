"""A balancer wired to a real Redis: its turns, its successor, and what the commands tell of it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from celery.bin.base import CLIContext
from click.testing import CliRunner, Result

from balancer import api, cli, tasks, wiring
from balancer.adapters import redis_cancelled
from balancer.adapters.duckdb_ledger import read
from balancer.adapters.redis_connection import Connection
from balancer.errors import BalancerError
from balancer.loop import AdaptiveLoadBalancer
from balancer.model import (
    Hardware,
    HeldTask,
    MetricsTold,
    Needs,
    QueuedTask,
    Reading,
    RunFinished,
    TaskProfile,
)
from balancer.routing import class_queue, direct_queue, lane_queue
from balancer.service import SERVICES, BalancerService
from tests.contract.worlds import RedisWorld, worker
from tests.waiting import wait_until

RESNET = TaskProfile(name="resnet", task="proj.train", checkpoints=True,
                     needs=Needs(hardware=("cuda", "cpu")))
V100 = Hardware(kind="cuda", model="V100", emulated=True, telemetry="emulated")


@pytest.fixture
def app(redis_url: str, tmp_path: Path) -> Celery:
    made = Celery("looped", broker=redis_url, backend=redis_url, set_as_current=False)
    made.conf.update(balancer_db_path=str(tmp_path / "ledger.duckdb"), balancer_check_interval=0.5,
                     balancer_price_interval=0.1, balancer_strategy="static")
    return made


@pytest.fixture
def redis_world(connection: Connection) -> RedisWorld:
    """A GPU that is idle, a CPU worker that runs `t1`, and a lane in which `t2` waits."""
    world = RedisWorld(connection)
    seconds = connection.client.time()[0]
    world.lane(lane_queue("resnet"), RESNET)
    world.report(worker("gpu@h", hardware=V100, reading=Reading(gpu=0.1, power_w=60.0)))
    world.report(worker("cpu@h", reading=Reading(cpu=0.9), busy=1, running=(
        HeldTask(task_id="t1", profile="resnet", lane=lane_queue("resnet"), started_at=seconds - 20.0),)))
    world.put(QueuedTask(task_id="t2", queue=lane_queue("resnet"), profile="resnet"))
    return world


@pytest.fixture
def balancer(app: Celery, redis_world: RedisWorld) -> Iterator[AdaptiveLoadBalancer]:
    made = wiring.build(app)
    yield made
    made.ports.lease.release()


def command(app: Celery, *arguments: str) -> Result:
    return CliRunner().invoke(cli.balancer, arguments, obj=CLIContext(app=app, no_color=True, workdir=None))


def test_a_turn_over_redis(balancer: AdaptiveLoadBalancer, redis_world: RedisWorld) -> None:
    redis_world.tell(RunFinished(at=0.0, task_id="t0", profile="resnet", worker="gpu@h",
                                 hardware_class="cuda-V100", epoch=0, outcome="success", duration_s=2.0))
    assert balancer.turn()
    assert redis_world.order("cuda-V100") is not None
    path = balancer.settings.db_path
    assert read(path, "SELECT count(*) AS n FROM load_balancer_metrics") == [{"n": 1}]
    assert [r["task_id"] for r in read(path, "SELECT task_id FROM runs")] == ["t0"]


def test_the_successor_knows_what_was_learned(balancer: AdaptiveLoadBalancer, app: Celery,
                                              redis_world: RedisWorld) -> None:
    redis_world.tell(RunFinished(at=0.0, task_id="t0", profile="resnet", worker="gpu@h",
                                 hardware_class="cuda-V100", epoch=0, outcome="success", duration_s=2.0))
    balancer.turn()
    successor = wiring.build(app)
    assert successor.turn() is False
    balancer.ports.lease.release()
    assert successor.turn() is True
    learned = successor.standing.state.memory.estimates.pairs["resnet", "cuda-V100"]
    assert learned.count == 1
    assert balancer.turn() is False
    successor.ports.lease.release()


@pytest.mark.parametrize("queue", [direct_queue("cpu@h"), class_queue("cpu-test")])
def test_messages_of_a_worker_that_is_gone_return(balancer: AdaptiveLoadBalancer, redis_world: RedisWorld,
                                                  queue: str) -> None:
    redis_world.put(QueuedTask(task_id="t3", queue=queue, profile="resnet"))
    redis_world.silence("cpu@h", 60.0)
    balancer.turn(whole=False)
    assert "t3" in redis_world.contents(lane_queue("resnet"))
    assert redis_world.contents(queue) == []


def test_status_tells_the_fleet(balancer: AdaptiveLoadBalancer, app: Celery) -> None:
    balancer.turn()
    said = command(app, "status", "--json")
    assert said.exit_code == 0, said.output
    document = json.loads(said.output)
    assert [(w["name"], w["emulated"], w["busy"]) for w in document["workers"]] == [
        ("cpu@h", False, 1), ("gpu@h", True, 0)]
    assert document["holder"] == balancer.ports.lease.holder()
    assert [(lane["profile"], lane["waiting"]) for lane in document["lanes"]] == [("resnet", 1)]
    assert document["orders"]["cuda-V100"]["groups"] == [[lane_queue("resnet")]]
    drawn = command(app, "status")
    assert drawn.exit_code == 0, drawn.output
    assert "cuda-V100 (emulated)" in drawn.output


GIVEN = {"strategy": "adaptive", "utilization_threshold_high": "0.8", "enable_predictive_balancing": False,
         "dry_run": True, "prediction_window": 7}


def test_what_a_fleet_does_is_what_its_running_balancer_was_started_with(
        app: Celery, redis_world: RedisWorld) -> None:
    works = wiring.build(app, GIVEN)
    works.turn()
    works.turn(whole=False)
    stats = api.get_load_balancer_stats(app)
    assert (stats["strategy"], stats["dry_run"], stats["settings_from"]) == (
        "adaptive", True, "the running balancer")
    assert (stats["thresholds"]["initial_high"], stats["thresholds"]["initial_low"]) == (0.8, 0.2)
    assert stats["features"]["predictive_balancing"] is False
    assert stats["prediction"]["window_minutes"] == 7
    assert 0 <= stats["settings_age_s"] < 60
    assert json.loads(command(app, "plan", "--json").output)["strategy"] == "adaptive"
    drawn = command(app, "status").output
    assert "strategy adaptive (as the running balancer was started, told " in drawn
    assert "dry run: nothing is moved" in drawn
    works.ports.lease.release()
    assert api.get_load_balancer_stats(app)["strategy"] == "static"
    assert "strategy static (as set in this app)" in command(app, "status").output


def test_a_running_strategy_that_is_not_to_be_had_here_is_said(app: Celery, redis_world: RedisWorld) -> None:
    works = wiring.build(app, {"strategy": "tests.unit.rig:Scripted"})
    works.settings = replace(works.settings, strategy="elsewhere.policy:Mine")
    works.turn()
    drawn = command(app, "status").output
    assert "strategy static (as set in this app, as those of the running balancer cannot be used" in drawn
    assert "No module named 'elsewhere'" in drawn
    works.ports.lease.release()


def test_status_without_a_balancer_and_without_a_fleet(app: Celery) -> None:
    drawn = command(app, "status")
    assert drawn.exit_code == 0, drawn.output
    assert "no balancer runs; start one" in drawn.output
    assert "No worker reports." in drawn.output


def test_explain_tells_where_a_task_is(balancer: AdaptiveLoadBalancer, app: Celery) -> None:
    balancer.turn()
    running = command(app, "explain", "t1")
    assert running.exit_code == 0, running.output
    assert "runs on cpu@h (cpu-test)" in running.output
    assert "cuda-V100 (emulated):" in running.output
    waiting = command(app, "explain", "t2", "--json")
    assert json.loads(waiting.output)["waiting"] == {"queue": lane_queue("resnet"), "ahead": 0}


def test_explain_knows_the_profile_of_what_has_run_and_has_no_lane(
        balancer: AdaptiveLoadBalancer, app: Celery, redis_world: RedisWorld) -> None:
    redis_world.tell(RunFinished(at=0.0, task_id="t0", profile="rare", worker="gpu@h",
                                 hardware_class="cuda-V100", epoch=0, outcome="success", duration_s=2.0))
    balancer.turn()
    assert json.loads(command(app, "explain", "t0", "--json").output)["profile"] == "rare"
    assert "rare; no estimates" in command(app, "explain", "t0").output


@pytest.mark.filterwarnings("ignore:Call to deprecated setex")  # Celery's result backend
def test_an_undo_of_what_was_ended_says_so(app: Celery, connection: Connection) -> None:
    for task_id in ("gone", "late", "open"):
        redis_cancelled.enter(connection, [task_id], by="me", reason="wrong")
    app.backend.mark_as_revoked("gone", "wrong")
    app.backend.mark_as_done("late", 5)
    assert "an undo does not bring it back" in command(app, "explain", "gone").output
    said = api.undo_cancel(app, ["gone", "late", "open"])
    assert said == {"gone": "ended", "late": "ended", "open": "undone"}
    assert redis_cancelled.listed(connection) == []


def test_explain_says_plainly_when_nothing_is_known(app: Celery, redis_world: RedisWorld) -> None:
    said = command(app, "explain", "t99")
    assert said.exit_code == 1
    assert "nothing is known of it" in said.output
    assert "1 of 1 waiting messages" in said.output


def test_plan_changes_nothing(app: Celery, redis_world: RedisWorld, connection: Connection) -> None:
    said = command(app, "plan", "--json")
    assert said.exit_code == 0, said.output
    assert json.loads(said.output)["strategy"] == "static"
    assert not connection.client.exists(connection.keys.lease, connection.keys.memory)


def test_a_redis_that_is_away_is_said_in_a_sentence(app: Celery) -> None:
    away = Celery("away", broker="redis://127.0.0.1:1/0", set_as_current=False)
    away.conf.balancer_strategy = "static"
    said = command(away, "status")
    assert said.exit_code == 1
    assert said.output.startswith("Error: ")
    assert "Traceback" not in said.output


def test_statistics_are_there_without_a_balancer_in_this_process(balancer: AdaptiveLoadBalancer,
                                                                 app: Celery) -> None:
    balancer.turn()
    stats = api.get_load_balancer_stats(app)
    assert (stats["worker_count"], stats["works_here"]) == (2, False)
    assert json.loads(command(app, "stats").output)["worker_count"] == 2


def test_what_another_process_tells_reaches_the_balancer_that_works(
        balancer: AdaptiveLoadBalancer, app: Celery, redis_world: RedisWorld) -> None:
    balancer.turn()
    api.update_worker_performance(app, "gpu@h", {"gpu": 0.75, "power_w": None})
    with pytest.raises(BalancerError, match=r"did you mean 0\.85"):
        api.update_worker_performance(app, "gpu@h", {"gpu": 85})
    with pytest.raises(BalancerError, match="task_id = None"):
        api.handle_task_cancelled_for_migration(app, None, "cpu@h")  # type: ignore[arg-type]
    with pytest.raises(BalancerError, match="source_worker_id = 3"):
        api.handle_task_cancelled_for_migration(app, "t1", 3)  # type: ignore[arg-type]
    balancer.turn(whole=False)
    seen = balancer.update_performance_metrics().worker("gpu@h")
    assert seen is not None
    assert (seen.reading.gpu, seen.reading.power_w) == (0.75, None)
    redis_world.tell(MetricsTold(at=0.0, worker="gpu@h", values={"gpus": 1.0}))
    api.handle_task_cancelled_for_migration(app, "t1", "cpu@h")
    decision = balancer.balance_load()
    assert decision is not None
    assert [a.source for a in decision.set_aside] == ["metrics of gpu@h"]
    departures = balancer._outside._departures
    assert [(d.task_id, d.worker) for d in departures] == [("t1", "cpu@h")]


def test_a_service_runs_in_a_thread_and_gives_the_lease_back(app: Celery, redis_world: RedisWorld) -> None:
    service = SERVICES[app] = BalancerService(lambda: wiring.build(app))
    service.start()
    service.start()
    try:
        wait_until(lambda: redis_world.order("cuda-V100"), "the service publishes an order")
        api.update_worker_performance(app, "gpu@h", {"gpu": 0.5})
        assert api.get_load_balancer_stats(app)["works_here"] is True
    finally:
        assert service.stop()
    assert not redis_world.client.exists(redis_world.keys.lease)
    assert "balancer" not in [t.name for t in threading.enumerate()]


def test_a_service_waits_for_redis(caplog: pytest.LogCaptureFixture) -> None:
    tried = threading.Event()

    def build() -> Any:
        tried.set()
        raise BalancerError("Redis is away")

    service = BalancerService(build)
    service.start()
    assert tried.wait(10)
    wait_until(lambda: "cannot run yet" in caplog.text, "it says why it does not run")
    assert service.stop()


def test_the_scheduled_tasks_take_the_lease_and_give_it_back(app: Celery, redis_world: RedisWorld,
                                                             balancer: AdaptiveLoadBalancer) -> None:
    tasks.register(app)
    assert app.tasks[tasks.TICK]() == {"worked": True, "holder": None}
    assert app.tasks[tasks.PRICE]() == {"worked": True, "holder": None}
    balancer.turn()
    assert app.tasks[tasks.TICK]() == {"worked": False, "holder": balancer.ports.lease.holder()}
