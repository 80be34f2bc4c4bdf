"""A worker that stands still while the fleet takes over what it holds, and then goes on as if nothing was.

Frozen whole, its main process alone, a pool process alone, with its clock set back by the time it was
away, and cut off from Redis: nothing that had not begun begins twice, and nothing ends twice. Without
the lease's rule (`lease.vouches` always true) what waited in the frozen workers' hands begins twice.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil
import pytest

from balancer.adapters.embedded_redis import EmbeddedRedis
from tests.chaos.partition import Wire
from tests.system.fleet import FleetUnderTest, fleet
from tests.system.resilience import SCHEMES, broker_url, load_tasks, publish, starts, told, value_of
from tests.waiting import wait_until

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

#: Age limit of a report (s): the lease.
LEASE_S = float(os.environ.get("RESILIENCE_LEASE_S", "1.5"))
CONF = {
    "balancer_heartbeat_interval": LEASE_S / 5,
    "balancer_heartbeat_ttl": LEASE_S,
    "balancer_visibility_timeout": 0,
}
CASES = ["frozen", "parent", "child", "clock", "cut"]

#: A clock that can be set: shifts `time.time` by what a file says.
SITECUSTOMIZE = """
import os, time
_true = time.time
def _shifted():
    try:
        return _true() + float(open(os.environ["CLOCK_FILE"]).read())
    except (OSError, ValueError):
        return _true()
time.time = _shifted
"""


@dataclass(slots=True, kw_only=True)
class Case:
    """One worker that will stand still, and its tasks by what they were when it did."""

    name: str
    early: str = ""
    late: str = ""
    waiting: list[str] = field(default_factory=list)

    @property
    def running(self) -> list[str]:
        return [self.early, self.late]

    @property
    def ids(self) -> list[str]:
        return [*self.running, *self.waiting]


class Standstill:
    """A worker for each case, all of one fleet; and one that takes over."""

    def __init__(self, under_test: FleetUnderTest, scheme: str, tasks: ModuleType) -> None:
        self.fleet = under_test
        self.scheme = scheme
        self.tasks = tasks
        self.clock = under_test.logs / "clock"
        self.wire = Wire(int(under_test.client.connection_pool.connection_kwargs["port"]))
        self.cases = {name: Case(name=name) for name in CASES}
        self.published: Counter[str] = Counter()

    def start(self) -> None:
        folder = self.fleet.logs / "sitecustomize"
        folder.mkdir()
        (folder / "sitecustomize.py").write_text(SITECUSTOMIZE)
        for name in CASES:
            port = str(self.fleet.client.connection_pool.connection_kwargs["port"])
            url = self.fleet.url.replace(port, str(self.wire.port)) if name == "cut" else self.fleet.url
            shifted = {"PYTHONPATH": str(folder), "CLOCK_FILE": str(self.clock)} if name == "clock" else {}
            self.worker(name, url, "-Q", name, slots=2, prefetch=2, **shifted)

    def worker(self, name: str, url: str, *arguments: str, **options: Any) -> None:
        options |= {
            "BALANCER_TEST_URL": url,
            "BALANCER_TEST_BROKER": broker_url(url, self.scheme),
            "RESILIENCE_CONF": json.dumps(CONF),
        }
        self.fleet.worker(name, *arguments, **options)

    def fill(self) -> None:
        """Each has two tasks that run, two that wait in its hands and one that waits for its time."""
        self.fleet.ready(*CASES)
        for case in self.cases.values():
            case.early = self._publish(case, "early", link=self.tasks.after.s())
            case.late = self._publish(case, "late")
        for case in self.cases.values():
            wait_until(
                lambda: all(starts(self.fleet, one) for one in case.running),  # noqa: B023
                f"every slot of {case.name} is held; {self.fleet.said(case.name)}",
            )
            # What waits for its time comes first: it gives its worker's credit back.
            case.waiting = [self._publish(case, "late", countdown=LEASE_S * 2)]
            case.waiting += [self._publish(case, "late") for _ in range(2)]
        wait_until(
            lambda: self.fleet.client.hlen(self.fleet.keys.unacked) == 5 * len(CASES),
            f"all is taken; {self.fleet.said(*CASES)}",
        )

    def _publish(self, case: Case, gate: str, **options: Any) -> str:
        url = broker_url(self.fleet.url, self.scheme)
        return publish(url, self.tasks.waits, case.name, f"{gate}:{case.name}", **options)

    def open(self, gate: str, *cases: str) -> None:
        for case in cases:
            self.fleet.ledger.set(f"{gate}:{case}", 1)

    def signal(self, number: int) -> None:
        """Stop them, or let them go on."""
        for name in ("frozen", "clock"):
            os.killpg(self.fleet.processes[name].pid, number)
        os.kill(self.fleet.processes["parent"].pid, number)
        for child in psutil.Process(self.fleet.processes["child"].pid).children():
            child.send_signal(number)
        if number == signal.SIGSTOP:
            self.wire.hold()
        else:
            self.wire.mend()

    def settled(self) -> bool:
        """All have ended, and whatever began has come to its end, too, and was judged."""
        client, judged = self.fleet.client, told(self.fleet, "RunFinished")
        return all(
            value_of(self.fleet, one) == one
            and self.fleet.ledger.llen(f"ended:{one}") == len(starts(self.fleet, one)) <= judged[one]
            for case in self.cases.values()
            for one in case.ids
        ) and not client.hlen(self.fleet.keys.unacked)


@pytest.fixture(params=SCHEMES)
def standstill(
    request: pytest.FixtureRequest, system_server: EmbeddedRedis, tmp_path: Path
) -> Iterator[Standstill]:
    tasks = load_tasks(system_server.url)
    with EmbeddedRedis() as server, fleet(server.url, tmp_path, "tests.system.resilience_app") as under_test:
        one = Standstill(under_test, request.param, tasks)
        try:
            yield one
        finally:
            one.wire.close()
            for process in under_test.processes.values():
                os.killpg(process.pid, signal.SIGCONT)


def stand_still(standstill: Standstill) -> None:
    """Three leases long; another worker takes over what the fleet thinks lost; then all go on."""
    fleet, cases = standstill.fleet, standstill.cases
    stopped_at = time.monotonic()
    standstill.signal(signal.SIGSTOP)
    # A body ends while only its main process stands still: nobody has taken over yet.
    standstill.open("early", "parent")
    standstill.worker("rescuer", fleet.url, "-Q", ",".join(CASES), pool="threads", slots=30)
    away = [case for name, case in cases.items() if name != "child"]
    wait_until(
        lambda: all("rescuer" in starts(fleet, one) for case in away for one in (case.late, *case.waiting)),
        f"all that was held is taken over; {fleet.said('rescuer')}",
    )
    standstill.open("early", "cut", "frozen")
    wait_until(lambda: time.monotonic() - stopped_at > 3 * LEASE_S, "three leases pass")
    standstill.clock.write_text(f"-{time.monotonic() - stopped_at:.3f}")
    before = fleet.client.hgetall(fleet.keys.beats)
    standstill.signal(signal.SIGCONT)
    wait_until(
        lambda: all(
            fleet.client.hget(fleet.keys.beats, f"{name}@test") != before.get(f"{name}@test".encode())
            for name in CASES
        ),
        "they report again",
    )
    for gate in ("early", "late"):
        standstill.open(gate, *CASES)
    wait_until(standstill.settled, f"all ends; {fleet.said(*CASES, 'rescuer')}")


def test_what_stood_still_does_nothing_twice(standstill: Standstill) -> None:
    fleet, cases = standstill.fleet, standstill.cases
    standstill.start()
    standstill.fill()
    published: Counter[str] = Counter()
    with fleet.client.pubsub() as channel:
        channel.psubscribe("celery-task-meta-*")
        assert channel.get_message(timeout=5), "the subscription is confirmed"
        stand_still(standstill)
        while message := channel.get_message(timeout=0.2):
            published[message["channel"].decode().removeprefix("celery-task-meta-")] += 1
    committed = told(fleet, "RunFinished", outcome="success")
    for case in cases.values():
        # Of what had not begun each begins once; of all, each is committed once and told once.
        seen = {one: (len(starts(fleet, one)), committed[one], published[one]) for one in case.ids}
        assert seen == {
            one: (1 if one in case.waiting else len(starts(fleet, one)), 1, 1) for one in case.ids
        }, case.name
        assert fleet.ledger.llen(f"after:{case.early}") == 1, case.name
    assert [starts(fleet, one) for one in cases["child"].running] == [["child"], ["child"]]
