"""A Redis for real workers, and the app under test as a client of it sees it."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from types import ModuleType

import pytest
import redis

from balancer.adapters.embedded_redis import EmbeddedRedis
from tests.stalls import StoodStill, Witness
from tests.system.fleet import FleetUnderTest

WITNESS = Witness()


@pytest.fixture(scope="session")
def system_server() -> Iterator[EmbeddedRedis]:
    with EmbeddedRedis() as server:
        yield server


@pytest.fixture(scope="module")
def module_redis_url(system_server: EmbeddedRedis, tasks: ModuleType) -> str:
    """Its URL, empty at the start of a module: workers outlive a single test."""
    tasks.app.conf.task_routes[-1].lanes.forget()
    with redis.Redis.from_url(system_server.url) as client:
        client.flushall()
    return system_server.url


@pytest.fixture(scope="session")
def tasks(system_server: EmbeddedRedis) -> ModuleType:
    """The app's module in this process; imported once, since task names are the process's own."""
    os.environ["BALANCER_TEST_URL"] = system_server.url
    import tests.system.fleet_app as module

    return module


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failure tells what the workers said: on another machine nothing else can. Where the machine stood
    still meanwhile that is its cause, and the test is tried once more (`--only-rerun` in pyproject.toml)."""
    if call.excinfo is not None and (stalls := WITNESS.since(call.start)):
        call.excinfo.value.__cause__ = StoodStill("; ".join(map(str, stalls)))
    report, fleet = (yield), FleetUnderTest.latest
    if report.failed and fleet is not None and item.nodeid.startswith(fleet.made_in):
        for log in sorted(fleet.logs.glob("*.log")):
            report.sections.append((f"log of {log.stem}", fleet.said(log.stem)))
    return report
