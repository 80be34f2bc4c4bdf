"""A soft time limit that is over while a run ends: it is not told as a failure over what Redis has taken."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, NoReturn

import pytest
from celery.exceptions import Retry, SoftTimeLimitExceeded

from balancer.adapters.redis_connection import Connection
from balancer.adapters.redis_fence import Fence
from tests.contract.test_fence import FIRST, STARTED, alive, hold
from workers import leaving
from workers.header import Header
from workers.run import Run, through


class LimitIsOver(Fence):
    """Its answers come when the limit of the body, which is raised once, is over."""

    over = False

    def _run(self, name: str, keys: list[str], args: list[Any]) -> Any:
        answer = super()._run(name, keys, args)
        if name in ("relinquish", "commit") and not self.over:
            self.over = True
            raise SoftTimeLimitExceeded
        return answer


@pytest.fixture
def run(connection: Connection) -> Run:
    alive(connection, "w:1:1")
    hold(connection, FIRST.tag)
    fence = LimitIsOver(connection, owner="w:1:1", worker="w@h", fence_ttl_s=100, heartbeat_ttl_s=10)
    request = SimpleNamespace(
        id="t", retries=0, replaced_task_nesting=0, eta=None, properties={"delivery_tag": FIRST.tag}
    )
    token = fence.claim(FIRST, STARTED).token
    return Run(request=request, fence=fence, profile="p", header=Header(), token=token)


def test_what_was_handed_over_has_not_failed(connection: Connection, run: Run) -> None:
    def body() -> NoReturn:
        raise leaving.Leave("m", "target")

    with pytest.raises((leaving.HandedOver, leaving.RefusedDelivery)):
        through(run, body)
    assert connection.client.llen("target") == 1


def test_what_was_sent_as_a_retry_has_not_failed(run: Run) -> None:
    def body() -> NoReturn:
        raise Retry()

    with pytest.raises(Retry):
        through(run, body)
