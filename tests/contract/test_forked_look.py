"""What is forked while a worker's thread waits for the fleet's answers touches none of its connections."""

from __future__ import annotations

import subprocess
import sys

import pytest

from balancer.adapters.embedded_redis import EmbeddedRedis
from tests.system.resilience import broker_url


@pytest.mark.parametrize("scheme", ["redis", "balanced-redis"])
def test_a_fork_comes_up_though_redis_answers_nobody(scheme: str) -> None:
    with EmbeddedRedis() as server:
        broker = broker_url(server.url, scheme)
        done = subprocess.run(
            [sys.executable, "-m", "tests.contract.forked_look", broker, server.url, str(server.pid)],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert done.stdout.split() == ["ended"], done.stdout + done.stderr
