"""Running tasks that are interrupted: they leave in the middle of a body, the process lives or is killed."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from types import ModuleType

import pytest

from balancer.routing import direct_queue
from tests.system.fleet import FleetUnderTest, fleet
from tests.system.moving import SCHEMES, ask, starts, told
from tests.waiting import wait_until

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def leaving(tasks: ModuleType) -> ModuleType:
    import tests.system.leaving_app as module

    return module


@pytest.fixture(scope="module", params=SCHEMES.values(), ids=SCHEMES.keys())
def pair(
    module_redis_url: str, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[FleetUnderTest]:
    """`a`, whose pool can be interrupted, and `t`, whose threads cannot."""
    scheme = {"BALANCER_TEST_SCHEME": request.param}
    with fleet(module_redis_url, tmp_path_factory.mktemp("logs"), "tests.system.leaving_app") as under_test:
        under_test.client.flushall()
        under_test.worker("a", BALANCER_PREEMPT_GRACE="0.5", **scheme)
        under_test.worker("b", **scheme)
        under_test.worker("t", pool="threads", **scheme)
        under_test.ready("a", "b", "t")
        yield under_test


def running_on_a(pair: FleetUnderTest, task: object, name: str) -> object:
    result = task.apply_async((name,), queue=direct_queue("a@test"))  # type: ignore[attr-defined]
    wait_until(lambda: starts(pair, result.id) == ["a@test"], f"its body runs on a; {pair.said('a')}")
    return result


def pool_process(pair: FleetUnderTest, tasks: ModuleType) -> int:
    found: list[int] = []

    def answers() -> bool:
        stats = tasks.app.control.inspect(destination=["a@test"], timeout=1).stats() or {}
        found.extend(stats.get("a@test", {}).get("pool", {}).get("processes", ()))
        return bool(found)

    wait_until(answers, "a tells its processes")
    return found[0]


def test_a_body_is_left_and_its_process_lives(
    pair: FleetUnderTest, tasks: ModuleType, leaving: ModuleType
) -> None:
    before = pool_process(pair, tasks)
    result = running_on_a(pair, leaving.last_words, "left")
    ask(tasks.app, "running", result.id, "a", "b", preempt=True)
    wait_until(lambda: starts(pair, result.id) == ["a@test", "b@test"], f"it runs on b; {pair.said('a')}")
    assert pair.ledger.llen(f"unwound:{result.id}") == 1
    pair.ledger.set("open:left", 1)
    assert result.get(timeout=60) == "b@test"
    pair.finished_once(result.id)
    assert told(pair, result.id, "HandedOver") == 1
    assert pool_process(pair, tasks) == before
    assert not pair.client.exists(pair.keys.want(result.id))


def test_a_body_that_will_not_go_loses_its_process(
    pair: FleetUnderTest, tasks: ModuleType, leaving: ModuleType
) -> None:
    before = pool_process(pair, tasks)
    result = running_on_a(pair, leaving.stubborn, "stubborn")
    wait_until(lambda: pair.ledger.exists(f"saved:{result.id}"), "it has saved")
    ask(tasks.app, "running", result.id, "a", "b", preempt=True)
    wait_until(lambda: starts(pair, result.id) == ["a@test", "b@test"], f"it runs on b; {pair.said('a')}")
    assert pair.ledger.llen(f"swallowed:{result.id}") == 1
    pair.ledger.set("open:stubborn", 1)
    assert result.get(timeout=60) == 7
    pair.finished_once(result.id)
    wait_until(lambda: pool_process(pair, tasks) != before, "a has another process")
    assert tasks.add.apply_async((1,), queue=direct_queue("a@test")).get(timeout=60) == 1
    wait_until(lambda: not pair.client.hlen(pair.keys.unacked), "every delivery has ended")
    assert result.state == "SUCCESS"


def test_a_signal_without_a_wish_changes_nothing(
    pair: FleetUnderTest, tasks: ModuleType, leaving: ModuleType
) -> None:
    """Late, stray, or meant for the task that ran before."""
    result = running_on_a(pair, leaving.afresh, "stray")
    other = tasks.gate.apply_async(("unrelated",), queue=direct_queue("t@test"))
    pair.client.hset(pair.keys.want(other.id), mapping={"move": "m", "queue": direct_queue("b@test")})
    os.kill(pool_process(pair, tasks), signal.SIGUSR2)
    pair.ledger.set("open:stray", 1)
    assert result.get(timeout=60) == "a@test"
    assert starts(pair, result.id) == ["a@test"]
    pair.client.delete(pair.keys.want(other.id))
    pair.ledger.set("open:unrelated", 1)
    assert other.get(timeout=60) == "unrelated"


def test_what_may_not_be_repeated_is_refused(
    pair: FleetUnderTest, tasks: ModuleType, leaving: ModuleType
) -> None:
    result = running_on_a(pair, tasks.gate, "once")
    ask(tasks.app, "running", result.id, "a", "b", preempt=True)
    wait_until(lambda: told(pair, result.id, "Refused", "notmigratable"), f"refused; {pair.said('a')}")
    os.kill(pool_process(pair, tasks), signal.SIGUSR2)
    pair.ledger.set("open:once", 1)
    assert result.get(timeout=60) == "once"
    assert starts(pair, result.id) == ["a@test"]
    assert not pair.client.exists(pair.keys.want(result.id))


def test_threads_refuse_what_cannot_checkpoint_and_wait_for_what_can(
    pair: FleetUnderTest, tasks: ModuleType, leaving: ModuleType
) -> None:
    afresh = leaving.afresh.apply_async(("threads",), queue=direct_queue("t@test"))
    wait_until(lambda: starts(pair, afresh.id), "it runs on t")
    ask(tasks.app, "running", afresh.id, "t", "b", preempt=True)
    why = "poolcannotbepre-empted"
    wait_until(lambda: told(pair, afresh.id, "Refused", why), f"refused; {pair.said('t')}")
    pair.ledger.set("open:threads", 1)
    assert afresh.get(timeout=60) == "t@test"
    saving = leaving.long_step.apply_async(("step",), queue=direct_queue("t@test"))
    wait_until(lambda: pair.ledger.exists(f"saved:{saving.id}"), "it runs on t and has saved")
    ask(tasks.app, "running", saving.id, "t", "b", preempt=True)
    wait_until(lambda: pair.client.exists(pair.keys.want(saving.id)), "the wish is there")
    pair.ledger.set("open:step", 1)
    assert saving.get(timeout=60) == 2
    assert starts(pair, saving.id) == ["t@test", "b@test"]
    assert told(pair, saving.id, "Refused") == 0


def test_a_checkpointing_task_goes_on_from_its_checkpoint(
    pair: FleetUnderTest, tasks: ModuleType, leaving: ModuleType
) -> None:
    result = running_on_a(pair, leaving.long_step, "interrupted")
    wait_until(lambda: pair.ledger.exists(f"saved:{result.id}"), "it has saved")
    ask(tasks.app, "running", result.id, "a", "b", preempt=True)
    wait_until(lambda: starts(pair, result.id) == ["a@test", "b@test"], f"it runs on b; {pair.said('a')}")
    pair.ledger.set("open:interrupted", 1)
    assert result.get(timeout=60) == 2
    handed = next(e for e in pair.moved_events(result.id) if b"HandedOver" in e)
    size = int(pair.client.hget(pair.keys.fence(result.id), "state_bytes") or 0)
    assert f'"state_bytes":{size}'.encode() in handed.replace(b" ", b"")
    assert size > 0


def test_a_task_that_has_ended_is_refused(
    pair: FleetUnderTest, tasks: ModuleType, leaving: ModuleType
) -> None:
    result = tasks.add.apply_async((1,), queue=direct_queue("a@test"))
    assert result.get(timeout=60) == 1
    ask(tasks.app, "running", result.id, "a", "b", preempt=True)
    # "unknown", or what its worker sees while the acknowledgement is on its way.
    wait_until(lambda: told(pair, result.id, "Refused"), f"refused; {pair.said('a')}")
    assert not pair.client.exists(pair.keys.want(result.id))
    assert starts(pair, result.id) == ["a@test"]
