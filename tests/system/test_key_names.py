"""A broker with a key prefix, a separator and priority steps of its own: lanes, moves and restores."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from celery import Celery

from balancer import wiring
from balancer.adapters.embedded_redis import EmbeddedRedis
from balancer.adapters.redis_connection import connect
from balancer.adapters.redis_handover import RedisHandOver
from balancer.adapters.redis_keys import Keys
from balancer.model import Move, Score
from balancer.routing import class_queue, direct_queue, lane_queue
from tests.system.fleet import FleetUnderTest, fleet
from tests.system.moving import starts
from tests.waiting import wait_until
from workers import BalancedTask, install

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

OPTIONS = {"global_keyprefix": "shop:", "sep": "/", "priority_steps": [0, 2, 5]}
KEYS = Keys(
    prefix="shop:",
    sep="/",
    priority_steps=(0, 2, 5),
    unacked="shop:unacked",
    unacked_index="shop:unacked_index",
)


@pytest.fixture(scope="module", params=["", "balanced-"], ids=["stock", "balanced"])
def client(request: pytest.FixtureRequest) -> Iterator[Celery]:
    """A client of that broker, which knows the tasks by name; on the stock transport and on ours."""
    with EmbeddedRedis() as server:
        app = Celery("client", broker=request.param + server.url, backend=server.url, set_as_current=False)
        app.conf.update(
            broker_transport_options=dict(OPTIONS),
            balancer_visibility_timeout=5,
            balancer_heartbeat_ttl=4,
            balancer_heartbeat_interval=0.5,
            balancer_db_path="",
        )
        install(app)

        @app.task(shared=False, base=BalancedTask, bind=True, name="tests.step", checkpoints=True, priority=3)
        def step(self: Any, value: int, steps: int = 1) -> None:
            raise AssertionError("the client runs nothing")

        yield app
        app.close()


@pytest.fixture(scope="module")
def shop(client: Celery, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FleetUnderTest]:
    """Workers `a` and `b`, with room for one task beyond their slot."""
    with fleet(client.conf.result_backend, tmp_path_factory.mktemp("logs")) as under_test:
        under_test.keys = KEYS
        under_test.scheme = client.conf.broker_url.removesuffix(client.conf.result_backend)
        for name in ("a", "b"):
            start(under_test, name)
        under_test.ready("a", "b")
        yield under_test


def start(under_test: FleetUnderTest, name: str) -> None:
    options = json.dumps(OPTIONS)
    under_test.worker(
        name, prefetch=2, BALANCER_TEST_TRANSPORT=options, BALANCER_TEST_SCHEME=under_test.scheme
    )


def move(client: Celery, kind: Any, task_id: str, source: str, target_queue: str) -> int:
    def tell(worker: str, arguments: Any) -> None:
        client.control.broadcast("balancer_relinquish", arguments=dict(arguments), destination=[worker])

    asked = Move(
        move_id=f"{kind}-{task_id}",
        task_id=task_id,
        profile="tests.step",
        kind=kind,
        source=source,
        target="b@test",
        target_queue=target_queue,
        reason="test",
        score=Score(cost=0.0, benefit=1.0),
        at=0.0,
    )
    return RedisHandOver(connect(client), tell).request(asked, timeout_s=30)


def test_lanes_and_every_key_bear_the_prefix(shop: FleetUnderTest, client: Celery) -> None:
    result = client.tasks["tests.step"].delay(1)
    assert result.get(timeout=60) == 2
    assert shop.client.hexists("shop:balancer:lanes", lane_queue("tests.step"))
    outside = [key for key in shop.client.scan_iter() if not key.startswith((b"shop:", b"celery-task-meta-"))]
    assert outside == []


def test_a_task_moves_queued_reserved_and_running(shop: FleetUnderTest, client: Celery) -> None:
    step, there = client.tasks["tests.step"], direct_queue("a@test")
    nowhere = class_queue("cpu-nobody")
    queued = step.apply_async((10,), queue=nowhere, priority=5)
    wait_until(lambda: shop.waiting(nowhere) == 1, "it waits")
    assert shop.client.llen(f"shop:{nowhere}/5") == 1
    running = step.apply_async((20, 60), queue=there)
    wait_until(lambda: shop.runs_on(running.id, "a"), "a is busy")
    reserved = step.apply_async((30,), queue=there)
    wait_until(lambda: shop.reserved_by(reserved.id, "a"), "it is reserved")
    assert move(client, "queued", queued.id, nowhere, direct_queue("b@test")) == 1
    move(client, "reserved", reserved.id, "a@test", direct_queue("b@test"))
    assert reserved.get(timeout=60) == 31
    move(client, "running", running.id, "a@test", direct_queue("b@test"))
    assert (queued.get(timeout=60), running.get(timeout=60)) == (11, 80)
    assert starts(shop, running.id) == ["a@test", "b@test"]
    assert (starts(shop, queued.id), starts(shop, reserved.id)) == (["b@test"], ["b@test"])


def test_a_long_task_is_renewed_and_a_dead_workers_task_returns_to_its_lane(
    shop: FleetUnderTest, client: Celery
) -> None:
    step = client.tasks["tests.step"]
    assert step.delay(1).get(timeout=60) == 2  # its lane is known
    start(shop, "doomed")
    shop.ready("doomed")
    long = step.apply_async((0, 160), queue=direct_queue("a@test"))  # 8 s, beyond the visibility timeout
    lost = step.apply_async((5, 30), queue=direct_queue("doomed@test"))
    wait_until(lambda: shop.ledger.llen(f"step:{lost.id}") > 2, "it runs")
    shop.kill("doomed")
    # Handed over to a worker that was killed before it took it: nobody serves that queue any more.
    stranded = step.apply_async((7,), queue=direct_queue("doomed@test"))
    balancer = wiring.build(client, {"strategy": "static"})  # it moves nothing that runs
    try:
        wait_until(
            lambda: balancer.turn(whole=True) and lost.ready() and stranded.ready(),
            f"both return to their lane; {shop.said('a', 'b')}",
        )
    finally:
        balancer.ports.lease.release()
    assert (lost.get(timeout=60), stranded.get(timeout=60), long.get(timeout=60)) == (35, 8, 160)
    assert starts(shop, long.id) == ["a@test"]
    assert starts(shop, lost.id)[0] == "doomed@test"
    wait_until(lambda: not shop.client.hlen("shop:unacked"), "every delivery is acknowledged")


def test_no_key_is_without_prefix_in_the_end(shop: FleetUnderTest) -> None:
    with redis.Redis.from_url(shop.url) as raw:
        assert not raw.exists("unacked", "unacked_index", "balancer:alive")
