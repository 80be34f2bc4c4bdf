"""What each pool can do, on both transports: run, report, hand on, refuse, drain, and be killed.

By hand for more than CI's: `BALANCER_TEST_POOLS=threads,solo,gevent,eventlet pytest
tests/system/test_pools.py`; `gevent-stock` is one of them on one transport. A pool whose library is not
installed is skipped.
"""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from balancer.routing import direct_queue
from tests.system.fleet import FleetUnderTest, fleet
from tests.system.moving import SCHEMES, ask, starts, told
from tests.waiting import wait_until

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

ASKED = os.environ.get("BALANCER_TEST_POOLS", "gevent-balanced").split(",")

#: Pools with what stands before the broker's URL, by name.
CELLS = {
    f"{pool}-{name}": (pool, scheme)
    for pool in ("threads", "solo", "gevent", "eventlet")
    for name, scheme in SCHEMES.items()
    if pool in ASKED or f"{pool}-{name}" in ASKED
}

#: Of 0.05 s each.
STEPS = 40

#: The queue of the worker that is emptied.
AT = direct_queue("drained@test")

FAST = {"BALANCER_HEARTBEAT_TTL": "2", "BALANCER_HEARTBEAT_INTERVAL": "0.3"}


@pytest.fixture
def crew(
    module_redis_url: str, tasks: ModuleType, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[FleetUnderTest]:
    """Of the pool: `drained` and `killed`; of threads: `stay`, which takes over."""
    pool, scheme = request.param
    if pool in ("gevent", "eventlet") and importlib.util.find_spec(pool) is None:
        pytest.skip(f"{pool} is not installed")
    with fleet(module_redis_url, tmp_path, "tests.system.leaving_app") as under_test:
        under_test.client.flushdb()
        tasks.app.conf.task_routes[-1].lanes.forget()
        for name in ("drained", "killed"):
            under_test.worker(name, slots=2, prefetch=2, pool=pool, BALANCER_TEST_SCHEME=scheme, **FAST)
        under_test.worker("stay", slots=8, pool="threads", BALANCER_TEST_SCHEME=scheme, **FAST)
        under_test.ready("drained", "killed", "stay")
        yield under_test


@pytest.mark.parametrize("crew", CELLS.values(), ids=CELLS.keys(), indirect=True)
def test_a_pool_runs_reports_hands_on_refuses_drains_and_dies(
    crew: FleetUnderTest, tasks: ModuleType, request: pytest.FixtureRequest
) -> None:
    import tests.system.leaving_app as leaving

    assert tasks.step.delay(0).get(timeout=60) == 1  # enters the lane
    chained = tasks.add.s(1, other=1).set(queue=AT) | tasks.add.s(other=2)
    assert chained.apply_async().get(timeout=60) == 4
    reports_and_hands_on(crew, tasks)
    # A solo worker hears of it only after the body.
    if not request.node.callspec.id.startswith("solo"):
        refuses(crew, tasks, leaving.afresh)
    waiting = drains(crew, tasks)
    dies(crew, tasks)
    wait_until(lambda: crew.reserved_by(waiting, "stay"), "what waits for its time is there still")


def running(crew: FleetUnderTest, tasks: ModuleType, name: str) -> Any:
    """A task whose body runs on this worker, with some of its steps done."""
    result = tasks.step.apply_async((0, STEPS), queue=direct_queue(f"{name}@test"))
    wait_until(lambda: crew.ledger.llen(f"step:{result.id}") >= 3, f"it runs; {crew.said(name)}")
    return result


def reports_and_hands_on(crew: FleetUnderTest, tasks: ModuleType) -> None:
    """The claim is kept while the body runs, and is given up at a checkpoint."""
    moved = running(crew, tasks, "drained")
    fence = crew.fence(moved.id)
    assert (fence["state"], fence["worker"]) == ("run", "drained@test")
    instance = describe(crew, "drained")
    before = crew.client.zscore(crew.keys.alive, instance)
    wait_until(lambda: crew.client.zscore(crew.keys.alive, instance) > before, "it reports meanwhile")
    ask(tasks.app, "running", moved.id, "drained", "stay")
    assert moved.get(timeout=60) == STEPS
    assert starts(crew, moved.id) == ["drained@test", "stay@test"]
    assert told(crew, moved.id, "HandedOver") == 1
    crew.finished_once(moved.id)


def describe(crew: FleetUnderTest, name: str) -> str:
    """The instance of a worker."""
    return str(json.loads(crew.client.hget(crew.keys.workers, f"{name}@test"))["instance"])


def refuses(crew: FleetUnderTest, tasks: ModuleType, afresh: Any) -> None:
    """A body that nothing can interrupt here stays, and it is said why."""
    result = afresh.apply_async(("pool",), queue=AT)
    wait_until(lambda: starts(crew, result.id), "it runs")
    ask(tasks.app, "running", result.id, "drained", "stay", preempt=True)
    wait_until(lambda: told(crew, result.id, "Refused", "poolcannotbepre-empted"), "it is refused")
    crew.ledger.set("open:pool", 1)
    assert result.get(timeout=60) == "drained@test"
    assert len(starts(crew, result.id)) == 1


def drains(crew: FleetUnderTest, tasks: ModuleType) -> str:
    """It hands on what waits and what checkpoints, and ends; the id of what waits for its time."""
    later = tasks.add.apply_async((1,), queue=AT, countdown=600)
    wait_until(lambda: crew.reserved_by(later.id, "drained"), "one waits for its time")
    result = running(crew, tasks, "drained")
    assert "has stopped" in crew.command("drain", "drained@test", "--wait", "5")
    assert crew.processes["drained"].wait(timeout=60) == 0, crew.said("drained")
    assert result.get(timeout=60) == STEPS
    crew.finished_once(result.id)
    return str(later.id)


def dies(crew: FleetUnderTest, tasks: ModuleType) -> None:
    """Killed, it loses nothing, nor what it may have got from the drained one."""
    lost = running(crew, tasks, "killed")
    crew.kill("killed")
    assert lost.get(timeout=60) == STEPS
    assert crew.ledger.llen(f"step:{lost.id}") <= STEPS + 1
    assert starts(crew, lost.id) == ["killed@test", "stay@test"]
    crew.finished_once(lost.id)
