"""Tasks are cancelled for good, wherever they are, and it is undone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from celery.exceptions import TaskRevokedError

from balancer import api
from balancer.routing import direct_queue
from tests.system.fleet import FleetUnderTest, fleet
from tests.waiting import wait_until

pytestmark = [
    pytest.mark.system,
    pytest.mark.timeout(300),
    # Celery's result backend, which here stores in this process.
    pytest.mark.filterwarnings("ignore:Call to deprecated setex"),
]

#: So that a worker hears of it soon.
FAST = {"BALANCER_HEARTBEAT_INTERVAL": "0.25"}


@pytest.fixture(scope="module")
def one(module_redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FleetUnderTest]:
    with fleet(module_redis_url, tmp_path_factory.mktemp("logs")) as under_test:
        under_test.worker("a", prefetch=20, **FAST)
        under_test.worker("t", pool="threads", prefetch=20, **FAST)
        under_test.ready("a", "t")
        yield under_test


def revoked(result: Any) -> None:
    with pytest.raises(TaskRevokedError):
        result.get(timeout=60)


@pytest.mark.parametrize("where", ["a", "t"])
def test_cancelling_reaches_a_task_wherever_it_is(one: FleetUnderTest, tasks: Any, where: str) -> None:
    queue = direct_queue(f"{where}@test")
    running = tasks.step.apply_async((0, 4000), queue=queue)
    wait_until(lambda: one.runs_on(running.id, where), "it runs")
    reserved = tasks.add.apply_async((1,), queue=queue) if where == "a" else None
    eta = tasks.add.apply_async((1,), countdown=600, queue=queue)
    limited = [tasks.limited.apply_async((n,), queue=queue) for n in range(2)] if where == "a" else []
    waits = [result for result in (reserved, eta, *limited) if result is not None]
    wait_until(lambda: all(one.reserved_by(result.id, where) for result in waits), "they are held")
    offline = tasks.add.apply_async((1,), queue=direct_queue("gone@test"))
    said = api.cancel(tasks.app, [running.id, *(result.id for result in waits), offline.id], reason="wrong")
    assert said == {running.id: "held", **{result.id: "held" for result in waits}, offline.id: "removed"}
    for result in (running, *waits, offline):
        revoked(result)
        assert one.finishes(result.id) == 0
    wait_until(lambda: not one.client.hlen(one.keys.unacked), "nothing is held any more")
    after = tasks.add.apply_async((5,), queue=queue)
    assert after.get(timeout=60) == 5


def test_a_body_that_never_looks_up_is_ended(one: FleetUnderTest, tasks: Any) -> None:
    """It holds the worker's only slot, and saves no checkpoint at which it would hear of it."""
    deaf = tasks.gate.apply_async(("never",), queue=direct_queue("a@test"))
    wait_until(lambda: one.runs_on(deaf.id, "a"), "it runs")
    api.cancel(tasks.app, [deaf.id])
    revoked(deaf)
    assert tasks.add.apply_async((1,), queue=direct_queue("a@test")).get(timeout=30) == 1
    assert one.finishes(deaf.id) == 0


def test_a_cancelled_task_starts_nowhere_unless_that_is_undone(one: FleetUnderTest, tasks: Any) -> None:
    later, never = "known-before-it-is-sent", "cancelled-for-good"
    assert set(api.cancel(tasks.app, [later, never]).values()) == {"noted"}
    assert api.undo_cancel(tasks.app, [later]) == {later: "undone"}
    assert tasks.add.apply_async((1,), task_id=later).get(timeout=60) == 1
    revoked(tasks.add.apply_async((1,), task_id=never))
    queued = tasks.add.apply_async((7,), queue=direct_queue("gone@test"))
    said = one.command("cancel", queued.id, "--reason", "not now")
    assert "taken out of bal.worker.gone" in said
    revoked(queued)
    listed = {entry["task_id"]: entry for entry in json.loads(one.command("cancel", "--list", "--json"))}
    assert listed[queued.id]["reason"] == "not now"
    assert "back at the front" in one.command("cancel", "--undo", queued.id)
    one.requeue(direct_queue("gone@test"), direct_queue("a@test"))
    wait_until(lambda: tasks.app.backend.get_task_meta(queued.id, cache=False).get("result") == 7, "it ends")
    assert api.cancel(tasks.app, [queued.id]) == {queued.id: "ended"}
