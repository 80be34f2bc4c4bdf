"""One step of recovery as a balancer or a worker takes it, with the app's own result backend."""

from __future__ import annotations

import gc
import json
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery, chord
from celery.result import AsyncResult

from balancer import wiring
from balancer.adapters import redis_failed
from balancer.adapters.redis_connection import Connection
from balancer.adapters.redis_fence import Delivery
from balancer.recovery import FleetRecovery

DEAD = "dead:1:1"

pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated setex")


@pytest.fixture
def app(redis_url: str) -> Iterator[Celery]:
    made = Celery("recovered", broker=redis_url, backend=redis_url)
    made.conf.update(balancer_db_path="", balancer_deaths_limit=1)

    @made.task(shared=False, name="proj.part")
    def part() -> None: ...

    @made.task(shared=False, name="proj.told")
    def told(task_id: Any) -> None: ...

    yield made
    # While the server is there: a result object of Celery's speaks to it when it goes.
    gc.collect()


@pytest.fixture
def recovery(app: Celery, connection: Connection) -> FleetRecovery:
    return FleetRecovery(app, connection, wiring.settings_of(app))


def die_with_what_waits(connection: Connection, queue: str = "celery") -> list[str]:
    """A worker takes all messages of a queue, claims their tasks and dies."""
    client, keys = connection.client, connection.keys
    ids = []
    while (raw := client.rpop(queue)) is not None:
        message = json.loads(raw)
        headers, tag = message["headers"], message["properties"]["delivery_tag"]
        headers["balancer"] = {"at": 1.0, "v": 1, "profile": headers["task"], "epoch": 0}
        ids.append(headers["id"])
        client.hset(keys.unacked, tag, json.dumps([message, "", queue]))
        client.sadd(keys.held(DEAD), tag)
        delivery = Delivery(task_id=headers["id"], nesting=0, retries=0, epoch=0, tag=tag)
        client.hset(keys.fence(headers["id"]), mapping={
            "g": delivery.generation, "state": "run", "owner": DEAD, "tag": tag, "claim": "1.a"})
    client.zadd(keys.alive, {DEAD: 1.0})
    return ids


def test_the_client_its_errbacks_and_its_chord_hear_of_a_task_set_aside(
    app: Celery, connection: Connection, recovery: FleetRecovery
) -> None:
    body = chord([app.signature("proj.part"), app.signature("proj.part")])(
        app.signature("proj.told").on_error(app.signature("proj.told")))
    linked = app.signature("proj.part").apply_async(link_error=app.signature("proj.told"))
    assert len(die_with_what_waits(connection)) == 3
    recovery.recover()
    assert len(redis_failed.listed(connection)) == 3
    assert redis_failed.untold(connection) == []
    assert linked.state == "FAILURE"
    assert "the worker that ran it died" in str(linked.result)
    assert body.state == "FAILURE"
    called = [json.loads(raw)["headers"]["task"] for raw in connection.client.lrange("celery", 0, -1)]
    assert called == ["proj.told"] * 2


def test_a_client_that_could_not_be_told_is_told_later(
    app: Celery, connection: Connection, recovery: FleetRecovery
) -> None:
    result = app.signature("proj.part").apply_async()
    die_with_what_waits(connection)
    connection.client.set(connection.keys.recovering("clients"), "another tells and dies")
    recovery.recover()
    assert redis_failed.untold(connection) == [result.id]
    connection.client.delete(connection.keys.recovering("clients"))
    assert recovery.deliveries.dead() == (1, [])
    recovery.recover()
    assert AsyncResult(result.id, app=app).state == "FAILURE"
