"""Real workers as a test starts them, and ends them by their process ids."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import redis

from balancer.adapters.redis_keys import Keys
from tests.waiting import wait_until


class FleetUnderTest:
    """Workers, beats and clients over one Redis."""

    #: The one that was made last in this process, for the report of a test that failed.
    latest: ClassVar[FleetUnderTest | None] = None

    def __init__(
        self, url: str, logs: Path, module: str = "tests.system.fleet_app", ledger_url: str = ""
    ) -> None:
        self.url = url
        self.ledger_url = ledger_url or url.rsplit("/", 1)[0] + "/1"
        self.module = module
        self.logs = logs
        self.keys = Keys()
        #: What the broker's URL begins with before the Redis's ("balanced-").
        self.scheme = os.environ.get("BALANCER_TEST_SCHEME", "")
        self.client = redis.Redis.from_url(url)
        self.ledger = redis.Redis.from_url(self.ledger_url, decode_responses=True)
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.made_in = os.environ.get("PYTEST_CURRENT_TEST", "").partition("::")[0]
        FleetUnderTest.latest = self

    def run(self, name: str, *arguments: str, **environment: str) -> subprocess.Popen[bytes]:
        """Start `celery -A MODULE ARGUMENTS`, its output in a log of that name."""
        log = (self.logs / f"{name}.log").open("ab")
        self.processes[name] = subprocess.Popen(
            [sys.executable, "-m", "celery", "-A", self.module, *arguments],
            env={
                **os.environ,
                "BALANCER_TEST_URL": self.url,
                "BALANCER_TEST_LEDGER": self.ledger_url,
                "BALANCER_TEST_SCHEME": self.scheme,
                **environment,
            },
            stdout=log,
            stderr=log,
            cwd=Path(__file__).parents[2],
            start_new_session=True,
        )
        return self.processes[name]

    def command(self, *arguments: str) -> str:
        """What `celery balancer ARGUMENTS` prints, as a person runs it."""
        done = subprocess.run(
            [sys.executable, "-m", "celery", "-A", self.module, "balancer", *arguments],
            capture_output=True,
            text=True,
            cwd=Path(__file__).parents[2],
            timeout=60,
            check=False,
            env={**os.environ, "BALANCER_TEST_URL": self.url, "BALANCER_TEST_LEDGER": self.ledger_url},
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def worker(
        self,
        name: str,
        *arguments: str,
        hardware: str = "cpu,model=test",
        slots: int = 1,
        prefetch: int = 1,
        pool: str = "prefork",
        **environment: str,
    ) -> subprocess.Popen[bytes]:
        return self.run(
            name,
            "worker",
            "-n",
            f"{name}@test",
            "--hardware",
            hardware,
            "-c",
            str(slots),
            "-P",
            pool,
            "--prefetch-multiplier",
            str(prefetch),
            "-l",
            "info",
            "--without-mingle",
            "--without-gossip",
            *arguments,
            **environment,
        )

    def ready(self, *names: str) -> None:
        """Wait until these workers report."""
        wait_until(
            lambda: all(self.client.hexists(self.keys.beats, f"{n}@test") for n in names),
            lambda: f"workers {', '.join(names)} report; logs: {self.said(*names)}",
        )

    def said(self, *names: str) -> str:
        return "\n".join((self.logs / f"{name}.log").read_text()[-3000:] for name in names)

    def kill(self, name: str) -> None:
        """kill -9 of a worker and its pool."""
        process = self.processes.pop(name)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=60)

    def close(self) -> None:
        for process in self.processes.values():
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(timeout=60)
        self.processes.clear()

    def fence(self, task_id: str) -> dict[str, str]:
        return {
            k.decode(): v.decode()
            for k, v in self.client.hgetall(self.keys.fence(task_id)).items()
            if k != b"value"
        }

    def runs_on(self, task_id: str, worker: str) -> bool:
        """Whether its body is running there: the claim alone may have come with a delivery that waits."""
        fence = self.fence(task_id)
        if fence.get("state") != "run" or fence.get("worker") != f"{worker}@test":
            return False
        raw = self.client.hget(self.keys.holds, f"{worker}@test") or b""
        reported = task_id.encode() in raw.partition(b'"reserved"')[0]
        return reported or self.ledger.lindex(f"started:{task_id}", -1) == f"{worker}@test"

    def reserved_by(self, task_id: str, worker: str) -> bool:
        raw = self.client.hget(self.keys.holds, f"{worker}@test") or b""
        return task_id.encode() in raw.partition(b'"reserved"')[2]

    def waiting(self, queue: str) -> int:
        return sum(int(self.client.llen(key)) for key in self.keys.queue_lists(queue))

    def requeue(self, source: str, target: str) -> None:
        """What a person would do by hand: all that waits in one queue goes to another."""
        for key, to in zip(self.keys.queue_lists(source), self.keys.queue_lists(target), strict=True):
            while self.client.lmove(key, to, "RIGHT", "LEFT") is not None:
                pass

    def moved_events(self, task_id: str) -> list[bytes]:
        return [
            fields[b"e"]
            for _, fields in self.client.xrange(self.keys.events)
            if task_id.encode() in fields[b"e"]
        ]

    def finishes(self, task_id: str) -> int:
        return int(self.ledger.llen(f"finished:{task_id}"))

    def finished_once(self, task_id: str) -> None:
        """The independent ledger saw one completion; it is told just after the client."""
        wait_until(lambda: self.finishes(task_id) > 0, f"{task_id} completes")
        assert self.finishes(task_id) == 1


@contextmanager
def fleet(
    url: str, logs: Path, module: str = "tests.system.fleet_app", ledger_url: str = ""
) -> Iterator[FleetUnderTest]:
    under_test = FleetUnderTest(url, logs, module, ledger_url)
    try:
        yield under_test
    finally:
        under_test.close()


@contextmanager
def balanced_pair(url: str, logs: Path, hints: Mapping[str, Mapping[str, float]]) -> Iterator[FleetUnderTest]:
    """Workers a and b of one slot each, and a balancer of many turns a second; all are told run times (s)."""
    told = {"BALANCER_HINTS": json.dumps(hints)}
    with fleet(url, logs) as under_test:
        for name in ("a", "b"):
            under_test.worker(name, pool="threads", **told)
        under_test.run("balancer", "balancer", "run", "--price-interval", "0.2", **told)
        under_test.ready("a", "b")
        yield under_test


def states_until_ready(result: Any, seen: set[str]) -> Callable[[], bool]:
    """A predicate that notes each state a client sees."""

    def ready() -> bool:
        seen.add(result.state)
        return bool(result.ready())

    return ready
