"""A Celery app whose workers are frozen, starved and cut off, and whose Redis fails over.

`BALANCER_TEST_URL` is the backend, `BALANCER_TEST_BROKER` the broker (the same where it is left out),
`BALANCER_TEST_LEDGER` the ledger of what truly ran, `RESILIENCE_CONF` JSON of settings.
`RESILIENCE_NO_RENEWAL=1` keeps workers from renewing what they hold, to see what then happens.
"""

from __future__ import annotations

import json
import os
import time
from typing import Any

import redis
from celery import Celery

from workers import BalancedTask, held, install

URL = os.environ.get("BALANCER_TEST_URL", "redis://127.0.0.1:6379/0")
BROKER = os.environ.get("BALANCER_TEST_BROKER") or URL
LEDGER = os.environ.get("BALANCER_TEST_LEDGER") or URL.rsplit("/", 1)[0] + "/1"

app = Celery("resilience", broker=BROKER, backend=URL)
app.conf.update(
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    balancer_db_path="",
    **json.loads(os.environ.get("RESILIENCE_CONF", "{}")),
)
install(app)

if os.environ.get("RESILIENCE_NO_RENEWAL") == "1":
    held.deliveries = lambda consumer: []


def ledger() -> Any:
    """The independent ledger: nothing of the balancer writes to it."""
    return redis.Redis.from_url(LEDGER, decode_responses=True)


def started(self: Any) -> None:
    ledger().rpush(f"started:{self.request.id}", f"{self.request.hostname} {time.time():.3f}")


@app.task(shared=False, base=BalancedTask, bind=True, name="resilience.takes")
def takes(self: Any, seconds: float) -> str:
    started(self)
    time.sleep(seconds)
    return str(self.request.id)


@app.task(shared=False, base=BalancedTask, bind=True, name="resilience.waits")
def waits(self: Any, gate: str) -> str:
    """Ends when the ledger has the gate's key."""
    started(self)
    client, until = ledger(), time.monotonic() + 60
    while time.monotonic() < until and not client.exists(gate):
        time.sleep(0.02)
    client.rpush(f"ended:{self.request.id}", str(self.request.hostname))
    return str(self.request.id)


@app.task(shared=False, base=BalancedTask, bind=True, name="resilience.double")
def double(self: Any, value: int) -> int:
    started(self)
    return 2 * value


@app.task(shared=False, base=BalancedTask, bind=True, name="resilience.after")
def after(self: Any, before: str) -> str:
    """A callback: what it was told is what committed."""
    ledger().rpush(f"after:{before}", str(self.request.id))
    return before
