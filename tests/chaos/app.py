"""The app under chaos: small tasks of every shape that tell an independent ledger what truly ran.

`CHAOS_URL` is the broker and backend as this process reaches it, `CHAOS_TRANSPORT` the broker's URL
scheme, `CHAOS_LEDGER` the ledger's own Redis, which nothing disturbs. Each run of a body makes up a
random word and returns it with its value: two ends of one task cannot look like one.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any, Final

import redis
from celery import Celery

from balancer.settings import Settings
from tests.chaos.ledger import LEDGER, Line
from workers import BalancedTask, install

URL: Final = os.environ.get("CHAOS_URL", "redis://127.0.0.1:6379/0")
TRANSPORT: Final = os.environ.get("CHAOS_TRANSPORT", "redis")

#: A worker silent for this long (s) is taken for dead.
HEARTBEAT_TTL_S: Final = float(os.environ.get("CHAOS_HEARTBEAT_TTL", "3"))

#: A task that keeps dying with its workers is set aside in real life; here it only has bad luck.
DEATHS: Final = 1000


def broker_of(url: str) -> str:
    return TRANSPORT + "://" + url.partition("://")[2]


app = Celery("chaos", broker=broker_of(URL), backend=URL)
app.conf.update(
    broker_connection_retry_on_startup=True,
    task_track_started=True,
    result_expires=900,
    balancer_fence_ttl=900,
    balancer_visibility_timeout=6,
    balancer_heartbeat_ttl=HEARTBEAT_TTL_S,
    balancer_heartbeat_interval=0.5,
    balancer_db_path="",
)
if hasattr(Settings, "deaths_limit"):
    app.conf.balancer_deaths_limit = DEATHS
install(app)


def become(environment: Mapping[str, str]) -> None:
    """A process of the nursery's reaches its broker by the address that it is given."""
    if url := environment.get("CHAOS_URL"):
        app.conf.update(broker_url=broker_of(url), result_backend=url)


@cache
def ledger(pid: int) -> redis.Redis:
    """The ledger's client of this process."""
    return redis.Redis.from_url(os.environ["CHAOS_LEDGER"])


def note(task: Any, word: str, what: str = "") -> None:
    """Write one line; the body goes on when it stands."""
    request = task.request
    header = getattr(request, "balancer", None) or {}
    line = Line(
        word=word,
        task_id=request.id,
        retries=int(request.retries or 0),
        epoch=int(header.get("epoch", 0)),
        what=what,
        worker=(request.hostname or "").partition("@")[0],
        at=time.time(),
    )
    ledger(os.getpid()).rpush(LEDGER, line.text())


@contextmanager
def noted(task: Any, *given: Any) -> Iterator[str]:
    """A run of a body, from its first moment to its last; yields the word it made up.

    `given` are values of earlier tasks: their words tell which of those tasks' ends came through.
    """
    run = secrets.token_hex(4)
    words = [value["run"] for value in given if isinstance(value, dict)]
    note(task, "start", ",".join((run, *words)))
    try:
        yield run
    except BaseException as error:
        note(task, "left", type(error).__name__)
        raise
    note(task, "end", run)


def number(value: Any) -> int:
    return int(value["v"]) if isinstance(value, dict) else int(value)


@app.task(shared=False, base=BalancedTask, bind=True, name="chaos.quick")
def quick(self: Any, value: Any, other: int = 0) -> dict[str, Any]:
    with noted(self, value) as run:
        return {"v": number(value) + other, "run": run}


@app.task(shared=False, base=BalancedTask, bind=True, name="chaos.silent", ignore_result=True)
def silent(self: Any, value: Any) -> None:
    with noted(self, value):
        pass


@app.task(shared=False, base=BalancedTask, bind=True, name="chaos.total")
def total(self: Any, values: list[Any]) -> dict[str, Any]:
    with noted(self, *values) as run:
        return {"v": sum(number(value) for value in values), "run": run}


@app.task(shared=False, base=BalancedTask, bind=True, name="chaos.step", checkpoints=True, priority=3)
def step(self: Any, value: Any, steps: int = 1, pause_s: float = 0.03) -> dict[str, Any]:
    """Does `steps` small waits, saved after each."""
    with noted(self, value) as run:
        done = self.resume(0)
        while done < steps:
            time.sleep(pause_s)
            done += 1
            note(self, "step", str(done))
            self.checkpoint(done, share=done / steps)
        return {"v": number(value) + steps, "run": run}


@app.task(shared=False, base=BalancedTask, bind=True, name="chaos.whole", restartable=True)
def whole(self: Any, value: Any, seconds: float) -> dict[str, Any]:
    """Saves nothing, so it can only be run again from its beginning."""
    with noted(self, value) as run:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            time.sleep(0.02)
        return {"v": number(value), "run": run}


@app.task(shared=False, base=BalancedTask, bind=True, name="chaos.flaky", max_retries=9)
def flaky(self: Any, times: int, countdown: float = 0) -> dict[str, Any]:
    """Comes back `times` times by retry."""
    with noted(self) as run:
        if self.request.retries < times:
            raise self.retry(countdown=countdown)
        return {"v": int(self.request.retries), "run": run}


@app.task(shared=False, base=BalancedTask, bind=True, name="chaos.broken")
def broken(self: Any) -> None:
    with noted(self) as run:
        raise ValueError(f"broken on purpose, run={run}")


@app.task(shared=False, base=BalancedTask, bind=True, name="chaos.errback")
def errback(self: Any, failed_id: str) -> dict[str, Any]:
    with noted(self) as run:
        return {"v": 0, "run": run}
