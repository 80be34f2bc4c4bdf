"""`celery beat` with the balancer in it: one works, the next takes over, and beat outlives it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from balancer.adapters.duckdb_ledger import read
from balancer.errors import LedgerError
from tests.system.fleet import FleetUnderTest, fleet
from tests.waiting import wait_until

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]


@pytest.fixture
def beats(module_redis_url: str, tmp_path: Path) -> Iterator[FleetUnderTest]:
    with fleet(module_redis_url, tmp_path) as under_test:
        under_test.client.flushall()
        yield under_test


def start(under_test: FleetUnderTest, name: str, *arguments: str) -> subprocess.Popen[bytes]:
    schedule = str(under_test.logs / f"{name}.schedule")
    return under_test.run(name, "beat", "-l", "info", "-s", schedule, *arguments)


def said(under_test: FleetUnderTest, name: str) -> str:
    return (under_test.logs / f"{name}.log").read_text()


def rows(under_test: FleetUnderTest, statement: str) -> list[dict[str, Any]]:
    """Of the ledger, none while it is not there or held."""
    try:
        return read(str(under_test.logs / "ledger.duckdb"), statement)
    except LedgerError:
        return []


def balancing(under_test: FleetUnderTest, name: str) -> subprocess.Popen[bytes]:
    return start(under_test, name, "--check-interval", "1", "--price-interval", "0.2",
                 "--disable-predictive-balancing", "--balancer-strategy", "static",
                 "--db-path", str(under_test.logs / "ledger.duckdb"))


def test_one_works_and_the_next_takes_over(beats: FleetUnderTest) -> None:
    first = balancing(beats, "first")
    beats.worker("w", pool="threads")
    wait_until(lambda: beats.client.exists(beats.keys.order("cpu-test")), "an order is published")
    wait_until(lambda: rows(beats, "SELECT 1 FROM worker_samples"), "a tick saw the worker")
    ticks = "SELECT metrics FROM load_balancer_metrics"
    wait_until(lambda: any(json.loads(row["metrics"])["features"]["predictive_balancing"] is False
                           for row in rows(beats, ticks)), "beat's own options reach the tick", 30)
    holder = beats.client.get(beats.keys.lease)

    second = balancing(beats, "second")
    wait_until(lambda: "this balancer waits and changes nothing" in said(beats, "second"), "it waits")
    assert beats.client.get(beats.keys.lease) == holder
    assert "holds the lease" not in said(beats, "second")

    os.killpg(first.pid, signal.SIGKILL)
    first.wait(timeout=60)
    wait_until(lambda: "holds the lease (fence 2)" in said(beats, "second"), "the second takes over")
    second.send_signal(signal.SIGTERM)
    assert second.wait(timeout=90) == 0, said(beats, "second")
    assert "the balancer has stopped" in said(beats, "second")
    assert not beats.client.exists(beats.keys.lease)


def test_an_impossible_option_ends_beat_with_a_sentence(beats: FleetUnderTest) -> None:
    bad = start(beats, "bad", "--utilization-threshold-high", "1.5")
    assert bad.wait(timeout=60) == 2
    assert "balancer_utilization_threshold_high = '1.5': must be a number from 0 to 1; the nearest is 1" in (
        said(beats, "bad").replace("\n", " "))
    assert "Traceback" not in said(beats, "bad")


def test_a_balancer_that_cannot_run_does_not_touch_beat(beats: FleetUnderTest) -> None:
    beats.client.set(beats.keys.memory, "of another type")
    beats.client.lpush(beats.keys.lease, "of another type")
    beat = balancing(beats, "troubled")
    wait_until(lambda: "a turn of the balancer failed" in said(beats, "troubled"), "its fault is logged")
    assert beat.poll() is None
    beats.client.delete(beats.keys.lease)
    wait_until(lambda: "holds the lease" in said(beats, "troubled"), "it goes on when it can")
    wait_until(lambda: beats.client.type(beats.keys.memory) == b"hash", "it keeps its memory again")
    assert beats.client.hexists(beats.keys.memory, "fence")


def test_beat_alone(beats: FleetUnderTest) -> None:
    beat = start(beats, "alone", "--no-balancer", "-l", "debug")
    wait_until(lambda: "beat: Waking up" in said(beats, "alone"), "beat ticks")
    beat.send_signal(signal.SIGTERM)
    assert beat.wait(timeout=60) == 0
    assert "the balancer starts" not in said(beats, "alone")
    assert not beats.client.exists(beats.keys.lease)
