"""What Celery does for a plain app it does for a balanced one; and what happens when processes die."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any

import psutil
import pytest
from celery import chain, chord, group
from celery.result import allow_join_result

from balancer.errors import CheckpointError
from balancer.routing import direct_queue, lane_queue
from tests.system.fleet import FleetUnderTest, fleet
from tests.waiting import wait_until

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def pair(module_redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FleetUnderTest]:
    with fleet(module_redis_url, tmp_path_factory.mktemp("logs")) as under_test:
        under_test.worker("a", slots=2)
        under_test.worker("t", slots=2, pool="threads")
        under_test.ready("a", "t")
        yield under_test


def test_canvas(pair: FleetUnderTest, tasks: Any) -> None:
    add, total = tasks.add, tasks.total
    assert chain(add.s(1, other=1), add.s(other=2), add.s(other=3))().get(timeout=60) == 7
    assert chord([add.s(i, other=i) for i in range(10)])(total.s()).get(timeout=60) == 90
    assert group(add.s(i) for i in range(5))().get(timeout=60) == [0, 1, 2, 3, 4]
    assert sorted(add.starmap([(1, 2), (3, 4)]).apply_async().get(timeout=60)) == [3, 7]


def test_retry_replace_and_failure(pair: FleetUnderTest, tasks: Any) -> None:
    assert tasks.flaky.delay(3).get(timeout=60) == 3
    assert tasks.replaced.delay(5).get(timeout=60) == 15
    with pytest.raises(ValueError, match="broken on purpose"):
        tasks.broken.delay().get(timeout=60)


def test_a_retry_that_could_not_be_sent_is_no_failure(pair: FleetUnderTest, tasks: Any) -> None:
    result = tasks.over_a_gap.delay(3)
    assert result.get(timeout=60) == 3
    # Twice in vain, then by the delivery that came again, and at last by the retry.
    assert pair.ledger.llen(f"started:{result.id}") == 3


def test_undeclared_and_outside_tasks(pair: FleetUnderTest, tasks: Any) -> None:
    assert tasks.plain.delay(4).get(timeout=60) == 8
    result = tasks.outside.delay(4)
    assert result.get(timeout=60) == 12
    assert pair.client.hexists(pair.keys.lanes, lane_queue("outside"))
    wait_until(lambda: pair.fence(result.id)["state"] == "done", "its fence is settled")


def test_eta_expiry_and_ignored_results(pair: FleetUnderTest, tasks: Any) -> None:
    soon = tasks.add.apply_async((1,), {"other": 1}, countdown=1.0)
    late = tasks.add.apply_async((1,), expires=-1)
    assert soon.get(timeout=60) == 2
    with pytest.raises(Exception, match="expired"):
        late.get(timeout=60)
    assert pair.ledger.llen(f"started:{late.id}") == 0
    ignored = tasks.add.apply_async((1,), ignore_result=True)
    wait_until(lambda: pair.finishes(ignored.id) == 1, "a task whose result is ignored ends")


def test_a_state_that_cannot_be_saved_is_an_error_in_the_task(pair: FleetUnderTest, tasks: Any) -> None:
    with allow_join_result(), pytest.raises(CheckpointError, match=r"tests\.unsaved cannot be saved"):
        tasks.unsaved.delay().get(timeout=60)


def test_one_call_says_its_profile_and_size(pair: FleetUnderTest, tasks: Any) -> None:
    assert tasks.add.apply_async((1,), profile="Named/1", size=2.5).get(timeout=60) == 1
    wait_until(lambda: pair.client.hexists(pair.keys.lanes, lane_queue("Named/1")), "the lane is entered")


def test_a_lost_pool_process_runs_its_task_again_from_the_checkpoint(
    pair: FleetUnderTest, tasks: Any
) -> None:
    result = tasks.step.apply_async((0,), {"steps": 40}, queue=direct_queue("a@test"))
    wait_until(lambda: pair.ledger.llen(f"step:{result.id}") >= 5, "some steps are done")
    busy = psutil.Process(pair.processes["a"].pid).children(recursive=True)
    for child in busy:
        os.kill(child.pid, signal.SIGKILL)
    assert result.get(timeout=60) == 40
    pair.finished_once(result.id)
    steps = [int(s) for s in pair.ledger.lrange(f"step:{result.id}", 0, -1)]
    assert len(steps) <= 41
    assert sorted(set(steps)) == list(range(1, 41))


def test_hardware_that_is_not_there_is_refused_at_start(pair: FleetUnderTest) -> None:
    process = pair.worker("c", hardware="cuba")
    assert process.wait(timeout=60) != 0
    assert "did you mean 'cuda'" in pair.said("c")
    pair.processes.pop("c")


def test_an_impossible_option_is_a_sentence_and_no_worker(pair: FleetUnderTest) -> None:
    process = pair.worker("o", BALANCER_PRICE_INTERVAL="soon")
    assert process.wait(timeout=60) != 0
    said = pair.said("o")
    assert "balancer_price_interval = 'soon': must be a number" in said
    assert "Traceback" not in said
    pair.processes.pop("o")


def test_a_killed_workers_task_comes_back_and_ends_once(pair: FleetUnderTest, tasks: Any) -> None:
    assert tasks.step.delay(0).get(timeout=60) == 1  # enters the lane
    pair.worker("k")
    pair.ready("k")
    wait_until(lambda: bool(pair.client.zcard(pair.keys.alive) >= 3), "three workers are alive")
    result = tasks.step.apply_async((0,), {"steps": 60}, queue=direct_queue("k@test"))
    wait_until(lambda: pair.ledger.llen(f"step:{result.id}") >= 3, "it runs on k")
    pair.kill("k")
    assert result.get(timeout=60) == 60
    pair.finished_once(result.id)
    assert pair.ledger.lrange(f"started:{result.id}", 0, -1)[0] == "k@test"


def test_a_frozen_worker_that_thaws_does_not_finish_what_another_finished(
    pair: FleetUnderTest, tasks: Any
) -> None:
    assert tasks.step.delay(0).get(timeout=60) == 1  # enters the lane
    process = pair.worker("f", pool="threads")
    pair.ready("f")
    result = tasks.step.apply_async((0,), {"steps": 40}, queue=direct_queue("f@test"))
    wait_until(lambda: pair.ledger.llen(f"step:{result.id}") >= 3, "it runs on f")
    os.kill(process.pid, signal.SIGSTOP)
    assert result.get(timeout=60) == 40
    os.kill(process.pid, signal.SIGCONT)
    wait_until(
        lambda: "not run to its end" in pair.said("f") or "Ignore" in pair.said("f"),
        "the thawed copy is refused",
    )
    pair.finished_once(result.id)


def test_the_seeds_calls_as_commands(pair: FleetUnderTest, tasks: Any) -> None:
    ask = {"destination": ["a@test"], "reply": True, "timeout": 5}
    stats = tasks.app.control.broadcast("get_load_balancer_stats", **ask)
    assert stats[0]["a@test"]["worker_count"] >= 2
    hardware = tasks.app.control.broadcast("balancer_status", **ask)[0]["a@test"]["hardware"]
    assert (hardware["class"], hardware["kind"], hardware["labels"]) == ("cpu-test", "cpu", {})
    good = {"worker_id": "a@test", "metrics": {"cpu": 0.5}}
    told = tasks.app.control.broadcast("update_worker_performance", arguments=good, **ask)
    assert "ok" in told[0]["a@test"]
    bad = {"worker_id": "a@test", "metrics": {"cpu": float("nan")}}
    refused = tasks.app.control.broadcast("update_worker_performance", arguments=bad, **ask)
    assert "cpu" in refused[0]["a@test"]["error"]
    wrong = {"task_id": "t", "source_worker_id": 3}
    refused = tasks.app.control.broadcast("handle_task_cancelled_for_migration", arguments=wrong, **ask)
    assert "source_worker_id = 3" in refused[0]["a@test"]["error"]
    left = {"task_id": "t", "source_worker_id": "a@test"}
    told = tasks.app.control.broadcast("handle_task_cancelled_for_migration", arguments=left, **ask)
    assert "ok" in told[0]["a@test"]
    kinds = [
        event for event in pair.moved_events("a@test") if b"MetricsTold" in event or b"TaskLeft" in event
    ]
    assert len(kinds) == 2
