"""A Celery app under test, with an independent ledger of what truly ran in another database.

`BALANCER_TEST_URL` is the broker and backend, the broker behind `BALANCER_TEST_SCHEME` ("balanced-" for the
balanced transport); the ledger is database 1 of the same server, or
`BALANCER_TEST_LEDGER` where that server is to be stopped; `BALANCER_TEST_TRANSPORT` is JSON with
further transport options of the broker.
"""

from __future__ import annotations

import json
import os
import signal
import time
from typing import Any

import redis
from celery import Celery, signals
from celery.contrib.abortable import AbortableTask

from tests.waiting import wait_until
from workers import BalancedTask, install
from workers.task import BalancedMixin

URL = os.environ.get("BALANCER_TEST_URL", "redis://127.0.0.1:6379/0")
LEDGER = os.environ.get("BALANCER_TEST_LEDGER") or URL.rsplit("/", 1)[0] + "/1"

SCHEME = os.environ.get("BALANCER_TEST_SCHEME", "")

app = Celery("fleet_app", broker=SCHEME + URL, backend=URL)
app.conf.update(
    broker_connection_retry_on_startup=True,
    broker_transport_options=json.loads(os.environ.get("BALANCER_TEST_TRANSPORT", "{}")),
    task_track_started=True,
    balancer_visibility_timeout=5,
    balancer_heartbeat_ttl=4,
    balancer_heartbeat_interval=0.5,
    balancer_db_path="",
    balancer_group_weights={"gold": 3.0},
    balancer_tasks={"tests.outside": {"hardware": ("cpu",), "profile": "outside"}},
)
install(app)


def ledger() -> Any:
    """The independent ledger: nothing of the balancer writes to it."""
    return redis.Redis.from_url(LEDGER, decode_responses=True)


@signals.task_success.connect  # type: ignore[untyped-decorator]
def finished(sender: Any = None, **_: Any) -> None:
    ledger().rpush(f"finished:{sender.request.id}", f"{os.getpid()}")


def note(task: Any, word: str) -> None:
    ledger().rpush(f"{word}:{task.request.id}", task.request.hostname or "")


@app.task(shared=False, base=BalancedTask, bind=True, name="tests.step", checkpoints=True, priority=3)
def step(self: Any, value: int, steps: int = 1, wait_s: float = 0.05, until: str = "") -> int:
    """Does `steps` small waits, saved after each, and returns value + steps. After the first it waits for the
    ledger's key `open:UNTIL`, if it is told one."""
    done = self.resume(0)
    note(self, "started")
    while done < steps:
        time.sleep(wait_s)
        done += 1
        ledger().rpush(f"step:{self.request.id}", done)
        self.checkpoint(done, share=done / steps)
        if until and done == 1:
            wait_until(lambda: ledger().exists(f"open:{until}"), f"{until} is open")
    return value + steps


@app.task(shared=False, base=BalancedTask, bind=True, name="tests.gate")
def gate(self: Any, name: str, timeout_s: float = 300.0) -> str:
    """Holds a slot until the ledger's key `open:NAME` is there."""
    note(self, "started")
    until = time.monotonic() + timeout_s
    while time.monotonic() < until and not ledger().exists(f"open:{name}"):
        time.sleep(0.02)
    return name


@app.task(shared=False, base=BalancedTask, bind=True, name="tests.total")
def total(self: Any, values: list[int], extra: int = 0) -> int:
    note(self, "started")
    return sum(values) + extra


@app.task(shared=False, base=BalancedTask, bind=True, name="tests.add")
def add(self: Any, value: int, other: int = 0) -> int:
    note(self, "started")
    return value + other


@app.task(shared=False, base=BalancedTask, bind=True, name="tests.flaky", max_retries=5)
def flaky(self: Any, times: int) -> int:
    """Fails `times` times by retry, then returns the number of attempts."""
    note(self, "started")
    if self.request.retries < times:
        raise self.retry(countdown=0)
    return int(self.request.retries)


class OverAGap(BalancedTask):
    """Its retries meet a broker that is away for as many publishes as its first argument says."""

    def apply_async(self, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
        if options.get("retries") and ledger().incr(f"gap:{options['task_id']}") <= args[0]:
            raise ConnectionError("the broker is away")
        return super().apply_async(args, kwargs, **options)


@app.task(shared=False, base=OverAGap, bind=True, name="tests.over_a_gap", max_retries=5)
def over_a_gap(self: Any, gap: int) -> int:
    note(self, "started")
    if not self.request.retries:
        raise self.retry(countdown=0)
    return gap


@app.task(shared=False, base=BalancedTask, bind=True, name="tests.limited", rate_limit="1/m")
def limited(self: Any, value: int) -> int:
    note(self, "started")
    return value


class Abortable(BalancedMixin, AbortableTask):  # type: ignore[misc]
    abstract = True


@app.task(shared=False, base=Abortable, bind=True, name="tests.abortable", checkpoints=True)
def abortable(self: Any, steps: int) -> str:
    """Leaves at a checkpoint when asked, and only then looks whether it is aborted."""
    done = self.resume(0)
    note(self, "started")
    while done < steps:
        time.sleep(0.05)
        done += 1
        self.checkpoint(done, share=done / steps)
    return "aborted" if self.is_aborted() else "whole"


@app.task(shared=False, base=BalancedTask, bind=True, name="tests.again", checkpoints=True)
def again(self: Any, steps: int, until: str = "") -> int:
    """Leaves at a checkpoint when asked, and retries once after it has done all its steps, when the ledger's
    key `open:UNTIL` is there if it is told one."""
    done = self.resume(0)
    note(self, "started")
    while done < steps:
        time.sleep(0.05)
        done += 1
        self.checkpoint(done, share=done / steps)
    if self.request.retries == 0:
        if until:
            wait_until(lambda: ledger().exists(f"open:{until}"), f"{until} is open")
        raise self.retry(countdown=0)
    return done


@app.task(shared=False, base=BalancedTask, bind=True, name="tests.unsaved")
def unsaved(self: Any) -> None:
    self.checkpoint(lambda: None)


@app.task(shared=False, base=BalancedTask, bind=True, name="tests.broken")
def broken(self: Any) -> None:
    note(self, "started")
    raise ValueError("broken on purpose")


@app.task(shared=False, base=BalancedTask, bind=True, name="tests.poison")
def poison(self: Any) -> str:
    """Kills the worker it runs on, with all its processes, until the ledger says `cured`."""
    note(self, "started")
    if not ledger().exists("cured"):
        time.sleep(0.3)  # what runs beside it begins
        os.killpg(os.getpgrp(), signal.SIGKILL)
    return "cured"


@app.task(shared=False, base=BalancedTask, bind=True, name="tests.greedy")
def greedy(self: Any, megabytes: int) -> str:
    """Fills so much memory, and returns the worker that had it."""
    note(self, "started")
    held = [b"x" * 1_000_000 for _ in range(megabytes)]
    return str(self.request.hostname) if len(held) == megabytes else ""


@app.task(shared=False, base=BalancedTask, bind=True, name="tests.replaced")
def replaced(self: Any, value: int) -> Any:
    return self.replace(add.s(value, other=10))


@app.task(shared=False, name="tests.outside")
def outside(value: int) -> int:
    """Knows nothing of us; `balancer_tasks` names it."""
    return value * 3


@app.task(shared=False, name="tests.plain")
def plain(value: int) -> int:
    """Declared nowhere: runs as plain Celery runs it."""
    return value * 2
