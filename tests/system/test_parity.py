"""What a plain Celery app does, a balanced one does: the same scenarios, and nothing seen differs.

One worker and one client process for each combination of app, transport and pool, all at the same
time; `parity_client` writes what was seen, and each scenario is then compared with plain Celery.
"""

from __future__ import annotations

import difflib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from balancer.adapters.embedded_redis import EmbeddedRedis
from tests.system.fleet import FleetUnderTest, fleet
from tests.system.parity_scenarios import scenarios
from tests.system.resilience import broker_url

pytestmark = [pytest.mark.system, pytest.mark.timeout(400)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One way to run the scenarios."""

    transport: str
    pool: str = "prefork"
    signals: bool = False

    def __str__(self) -> str:
        return "-".join((self.transport, self.pool, *(("signals",) if self.signals else ())))

    @property
    def plain(self) -> Way:
        return Way(transport="plain", pool=self.pool, signals=self.signals)

    @property
    def part(self) -> str:
        """Which scenarios: all where nobody listens to signals, else those of every pool."""
        return f"{self.pool}{'-signals' if self.signals else ''}"


BALANCED = [
    Way(transport="redis"),
    Way(transport="redis", signals=True),
    Way(transport="redis", pool="threads", signals=True),
    Way(transport="redis", pool="solo"),
    Way(transport="balanced-redis"),
    Way(transport="balanced-redis", signals=True),
    Way(transport="balanced-redis", pool="threads", signals=True),
    Way(transport="balanced-redis", pool="solo"),
]
WAYS = [*dict.fromkeys(way.plain for way in BALANCED), *BALANCED]


def run(under_test: FleetUnderTest, way: Way, logs: Path, ledger: str) -> Any:
    """A worker and a client of this way; returns what the client wrote."""
    scheme = "redis" if way.transport.startswith("plain") else way.transport
    environment = {
        "BALANCER_TEST_BROKER": broker_url(under_test.url, scheme),
        "PARITY_FLAVOUR": "plain" if way.transport.startswith("plain") else "balanced",
        "PARITY_SIGNALS": str(int(way.signals)),
        "PARITY_NAME": str(way),
        "C_FORCE_ROOT": "1",  # pickle is accepted, and CI may run as root
    }
    under_test.run(
        "worker", "worker", "-n", "w@parity", "-P", way.pool, "-c", "3", "-Q", "celery,own", "-E",
        "-l", "info", "--without-mingle", "--without-gossip", **environment,
    )  # fmt: skip
    written = logs / f"{way}.json"
    client = subprocess.run(
        [sys.executable, "-m", "tests.system.parity_client", str(written), way.part],
        env={
            **os.environ,
            "BALANCER_TEST_URL": under_test.url,
            "BALANCER_TEST_LEDGER": ledger,
            **environment,
        },
        capture_output=True,
        timeout=260,
        check=False,
    )
    assert client.returncode == 0, client.stderr.decode()[-3000:] + under_test.said("worker")
    return json.loads(written.read_text())


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[Way, Any]]:
    """What was seen, by way."""
    logs = tmp_path_factory.mktemp("parity")
    with EmbeddedRedis() as server, ThreadPoolExecutor(len(WAYS)) as threads:
        root = server.url.rsplit("/", 1)[0]

        def one(number: int, way: Way) -> Any:
            folder = logs / str(way)
            folder.mkdir()
            with fleet(f"{root}/{number}", folder, "tests.system.parity_app", f"{root}/15") as under_test:
                return run(under_test, way, logs, f"{root}/15")

        yield dict(zip(WAYS, threads.map(one, range(len(WAYS)), WAYS), strict=True))


@pytest.mark.parametrize(
    ("way", "scenario"),
    [
        pytest.param(way, name, id=f"{way}-{name}")
        for way in BALANCED
        for name in (*scenarios(way.part), "nothing_is_left")
    ],
)
def test_nothing_differs(seen: dict[Way, Any], way: Way, scenario: str) -> None:
    ours, plain = (
        json.dumps(found[scenario], indent=1).splitlines() for found in (seen[way], seen[way.plain])
    )
    differs = "\n".join(difflib.unified_diff(plain, ours, "plain", str(way), lineterm="", n=4))
    assert not differs, differs
