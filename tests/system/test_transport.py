"""Workers on the balanced transport: no message is ever in nobody's hands, whatever is cut or killed."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from celery import Celery

from balancer.adapters.embedded_redis import EmbeddedRedis
from balancer.routing import direct_queue
from tests.system.fleet import FleetUnderTest, fleet
from tests.system.moving import SCHEMES
from tests.waiting import wait_until
from workers import BalancedTask, install

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]

NAMES = ("a", "b", "c")

#: The stock transport, which loses what these tests look for, and ours.
STOCK, OURS = SCHEMES.values()


@pytest.fixture
def server() -> Iterator[EmbeddedRedis]:
    with EmbeddedRedis() as one:
        yield one


def client_of(url: str, scheme: str) -> Celery:
    """A client that knows the tasks by name."""
    app = Celery("client", broker=scheme + url, backend=url, set_as_current=False)
    app.conf.update(balancer_heartbeat_ttl=4, balancer_heartbeat_interval=0.5, balancer_db_path="")
    install(app)
    for name in ("add", "step", "gate"):

        @app.task(shared=False, base=BalancedTask, bind=True, name=f"tests.{name}", checkpoints=True)
        def shell(self: Any, *args: Any, **kwargs: Any) -> None:
            raise AssertionError("the client runs nothing")

    return app


@pytest.fixture
def under_test(
    server: EmbeddedRedis, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[FleetUnderTest, Celery]]:
    """A fleet without workers yet, and a client, on the transport that the test is given.

    The ledger is a server of its own, so that no task fails for want of it when connections are cut.
    """
    app = client_of(server.url, request.param)
    with EmbeddedRedis() as ledger:
        with fleet(server.url, tmp_path_factory.mktemp("logs"), ledger_url=ledger.url) as one:
            yield one, app
        app.close()


def signalled(one: FleetUnderTest, name: str, number: signal.Signals) -> None:
    os.killpg(one.processes[name].pid, number)


def kept(one: FleetUnderTest, name: str) -> int:
    """How many messages for this worker Redis knows of: in its queue, or delivered and not acknowledged."""
    entries = one.client.hvals("unacked")
    mine = [entry for entry in entries if direct_queue(f"{name}@test").encode() in entry]
    return one.waiting(direct_queue(f"{name}@test")) + len(mine)


def blocked(one: FleetUnderTest) -> int:
    """How many clients of this server wait for a list to fill."""
    return sum("b" in client["flags"] for client in one.client.client_list())


def publish_into_the_frozen(one: FleetUnderTest, app: Celery, name: str, scheme: str) -> Any:
    """Publish a task for an idle worker that is frozen, where the stock one waits in BRPOP: again if not."""
    queue = direct_queue(f"{name}@test")
    awake = len(NAMES) - NAMES.index(name)
    for number in range(20):
        wait_until(lambda: blocked(one) >= awake, "those that are not frozen wait for work")
        signalled(one, name, signal.SIGSTOP)
        result = app.tasks["tests.add"].apply_async((number, 1), queue=queue)
        if scheme == OURS or kept(one, name) == 0:
            return result
        # Its wait had just ended: it takes this one when it thaws.
        signalled(one, name, signal.SIGCONT)
        result.get(timeout=60)
        wait_until(lambda: kept(one, name) == 0, "it is acknowledged")
    raise AssertionError("never frozen while it waited")


@pytest.mark.parametrize(("under_test", "scheme"), [(STOCK, STOCK), (OURS, OURS)], indirect=["under_test"])
def test_what_is_published_to_a_frozen_worker_that_dies_is_lost_only_by_the_stock_transport(
    under_test: tuple[FleetUnderTest, Celery], scheme: str
) -> None:
    one, app = under_test
    pools = dict(zip(NAMES, ("prefork", "threads", "prefork"), strict=True))
    for name, pool in pools.items():
        one.worker(name, pool=pool, BALANCER_TEST_SCHEME=scheme)
    one.ready(*NAMES)
    results = {name: publish_into_the_frozen(one, app, name, scheme) for name in NAMES}
    for name in NAMES:
        one.kill(name)
    if scheme == STOCK:
        assert [kept(one, name) for name in NAMES] == [0, 0, 0]
        return
    assert [kept(one, name) for name in NAMES] == [1, 1, 1]
    for name, pool in pools.items():
        one.worker(name, pool=pool, BALANCER_TEST_SCHEME=scheme)
    values = [result.get(timeout=60) for result in results.values()]
    assert values == [1, 1, 1]
    for result in results.values():
        one.finished_once(result.id)


@pytest.mark.parametrize("under_test", [OURS], indirect=True)
def test_scripts_forgotten_and_connections_cut_lose_and_double_nothing(
    under_test: tuple[FleetUnderTest, Celery]
) -> None:
    one, app = under_test
    for name, pool in (("a", "prefork"), ("b", "threads")):
        one.worker(name, pool=pool, slots=2, prefetch=2, BALANCER_TEST_SCHEME=OURS)
    one.ready("a", "b")
    results = [app.tasks["tests.step"].delay(number, 2) for number in range(120)]
    ids = [result.id for result in results]
    with redis.Redis.from_url(one.url) as admin:

        def finished() -> int:
            return sum(1 for ident in ids if one.ledger.llen(f"finished:{ident}"))

        for share in (20, 45, 70):
            wait_until(lambda share=share: finished() >= share, f"{share} are done")  # type: ignore[misc]
            admin.script_flush()
            admin.client_kill_filter(_type="normal", skipme=True)
        wait_until(lambda: finished() == len(ids), lambda: f"all are done; {one.said('a', 'b')}")
        wait_until(lambda: not admin.hlen("unacked"), "every delivery is acknowledged")
        assert [one.finishes(ident) for ident in ids] == [1] * len(ids)
        wait_until(lambda: not any(map(admin.scard, admin.keys("balancer:held:*"))), "nobody holds anything")


@pytest.mark.parametrize("under_test", [OURS], indirect=True)
def test_a_worker_serves_by_priority_and_answers_its_commands(
    under_test: tuple[FleetUnderTest, Celery]
) -> None:
    one, app = under_test
    one.worker("a", BALANCER_TEST_SCHEME=OURS)
    one.ready("a")
    gate = app.tasks["tests.gate"].delay("first")
    wait_until(lambda: one.runs_on(gate.id, "a"), lambda: f"it is busy; {one.said('a')}")
    results = {p: app.tasks["tests.add"].apply_async((p,), priority=p) for p in (9, 3, 6, 0)}
    one.ledger.set("open:first", 1)
    for result in results.values():
        result.get(timeout=60)
    ended = sorted(results, key=lambda priority: results[priority].date_done)
    assert ended == [0, 3, 6, 9]
    assert app.control.inspect(timeout=60, limit=1).ping() == {"a@test": {"ok": "pong"}}
    # It waits, and is rung: a task sent now need not wait for its next look.
    wait_until(lambda: one.client.keys("balancer:idle:*"), "it waits")
    assert app.tasks["tests.add"].delay(1).get(timeout=60) == 1
