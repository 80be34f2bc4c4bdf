"""The visibility timeout is shortened only while no worker without the plug-in serves the fleet's queues."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from balancer.adapters.redis_connection import Connection
from balancer.strangers import last_look
from tests.system.fleet import fleet
from tests.waiting import wait_until

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]


def test_a_stranger_is_named_and_the_timeout_stays_the_brokers(
    module_redis_url: str, tasks: Any, tmp_path: Path
) -> None:
    with fleet(module_redis_url, tmp_path) as under_test:
        connection = Connection.of_client(under_test.client, under_test.keys)

        def timeout() -> Any:
            answers = tasks.app.control.inspect(timeout=1)._request("balancer_status") or {}
            return answers.get("a@test", {}).get("visibility_timeout")

        under_test.worker("a")
        under_test.ready("a")
        wait_until(lambda: timeout() == 5, "nobody speaks against the short timeout")
        command = [sys.executable, "-m", "celery", "-b", under_test.url, "worker", "-n", "plain@test", "-Q",
                   "celery", "-c", "1", "--without-gossip", "--without-mingle"]
        with (tmp_path / "plain.log").open("wb") as log:
            under_test.processes["plain"] = subprocess.Popen(
                command, cwd=tmp_path, stdout=log, stderr=log, start_new_session=True)
        wait_until(lambda: tasks.app.control.ping(["plain@test"], timeout=1), "the stranger serves")
        under_test.client.delete(under_test.keys.recovering("strangers"))  # a minute has passed
        wait_until(lambda: (look := last_look(connection)) is not None and not look.clear, "it is found")
        assert last_look(connection).strangers == {"plain@test": ("celery",)}
        wait_until(lambda: timeout() == 3600, "the timeout is the broker's again")
        assert "plain@test (celery)" in under_test.said("a")
        assert "plain@test (celery)" in under_test.command("status")
