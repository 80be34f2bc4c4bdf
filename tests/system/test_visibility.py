"""A short visibility timeout and long tasks: live workers renew what they hold, so each starts once.

By hand at full length: `RESILIENCE_TIMEOUT_S=5 pytest tests/system/test_visibility.py`; to see it
fail, `RESILIENCE_NO_RENEWAL=1`.
"""

from __future__ import annotations

import json
import os
import re
from contextlib import ExitStack
from pathlib import Path

import pytest

from balancer.adapters.embedded_redis import EmbeddedRedis
from tests.system.fleet import FleetUnderTest, fleet
from tests.system.resilience import SCHEMES, broker_url, load_tasks, publish, starts, told, value_of
from tests.waiting import wait_until

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

TIMEOUT_S = float(os.environ.get("RESILIENCE_TIMEOUT_S", "1.5"))
WORKERS = ["a", "b", "c", "d"]
CONF = {
    "balancer_visibility_timeout": TIMEOUT_S,
    "balancer_heartbeat_interval": TIMEOUT_S / 5,
    "balancer_heartbeat_ttl": TIMEOUT_S * 2,
}


def received(under_test: FleetUnderTest, task_id: str) -> int:
    """How often a worker's log says that it was delivered."""
    logs = [(under_test.logs / f"{name}.log").read_text() for name in WORKERS]
    return sum(len(re.findall(rf"{task_id}\] received", log)) for log in logs)


def test_each_starts_once(system_server: EmbeddedRedis, tmp_path: Path) -> None:
    """Both transports at the same time: tasks of four timeouts, some that wait, one three timeouts ahead."""
    tasks = load_tasks(system_server.url)
    with ExitStack() as stack:
        servers = [stack.enter_context(EmbeddedRedis()) for _ in SCHEMES]
        fleets, published = [], []
        for scheme, server in zip(SCHEMES, servers, strict=True):
            (tmp_path / scheme).mkdir()
            under_test = stack.enter_context(
                fleet(server.url, tmp_path / scheme, "tests.system.resilience_app")
            )
            fleets.append(under_test)
            for name in WORKERS:
                environment = {
                    "BALANCER_TEST_BROKER": broker_url(server.url, scheme),
                    "RESILIENCE_CONF": json.dumps(CONF),
                }
                under_test.worker(name, "-Q", "long", prefetch=2, **environment)
        for scheme, server, under_test in zip(SCHEMES, servers, fleets, strict=True):
            under_test.ready(*WORKERS)
            url = broker_url(server.url, scheme)
            # The first take every slot, the next wait in the workers' hands; one waits for its time.
            lengths_s = [*[4 * TIMEOUT_S] * len(WORKERS), *[0.0] * len(WORKERS)]
            ids = [publish(url, tasks.takes, "long", length_s) for length_s in lengths_s]
            published.append([*ids, publish(url, tasks.takes, "long", 0.0, countdown=3 * TIMEOUT_S)])
        for scheme, under_test, ids in zip(SCHEMES, fleets, published, strict=True):
            wait_until(
                lambda: all(value_of(under_test, one) for one in ids),  # noqa: B023
                f"all end over {scheme}; {under_test.said(*WORKERS)}",
                15 * TIMEOUT_S + 15,
            )
            assert {one: len(starts(under_test, one)) for one in ids} == dict.fromkeys(ids, 1)
            assert {one: received(under_test, one) for one in ids} == dict.fromkeys(ids, 1)
            assert not told(under_test, "Duplicate")
