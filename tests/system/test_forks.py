"""A pool process that is forked while its worker asks the fleet something comes up at once."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from types import ModuleType

import pytest

from balancer.routing import direct_queue
from balancer.strangers import ANSWER_S
from tests.system.fleet import fleet
from tests.waiting import wait_until

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]


@pytest.mark.parametrize("scheme", ["", "balanced-"])
def test_a_process_forked_while_the_fleet_is_asked_comes_up(
    module_redis_url: str, tasks: ModuleType, tmp_path: Path, scheme: str
) -> None:
    with fleet(module_redis_url, tmp_path) as under_test:
        under_test.client.flushall()
        under_test.scheme = scheme
        worker = under_test.worker("a")
        children = Path(f"/proc/{worker.pid}/task/{worker.pid}/children")
        # A worker that has begun looks for strangers, and waits so long for their answers.
        asking = under_test.keys.recovering("strangers")
        wait_until(lambda: under_test.client.exists(asking), lambda: under_test.said("a"))
        asked = time.monotonic()
        while time.monotonic() < asked + ANSWER_S:
            assert tasks.add.apply_async((1,), queue=direct_queue("a@test")).get(timeout=60) == 1
            for pid in children.read_text().split():
                os.kill(int(pid), signal.SIGKILL)
        assert tasks.add.apply_async((2,), queue=direct_queue("a@test")).get(timeout=60) == 2
        assert "Timed out waiting for UP" not in under_test.said("a")
