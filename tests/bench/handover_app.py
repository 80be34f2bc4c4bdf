"""The app whose tasks the benchmark moves: each notes when its body begins, by the host's steady clock.

`BALANCER_BENCH_URL` is the broker; what is noted lies in database 1 of the same server.
"""

from __future__ import annotations

import os
import time
from typing import Any

import redis
from celery import Celery

from workers import BalancedTask, install

URL = os.environ["BALANCER_BENCH_URL"]
PLAIN_URL = os.environ["BALANCER_BENCH_PLAIN_URL"]

#: Seconds between the checkpoints of `saving`.
INTERVAL_S = 0.05

app = Celery("handover_app", broker=URL, backend=PLAIN_URL)
app.conf.update(
    broker_connection_retry_on_startup=True,
    balancer_heartbeat_ttl=10,
    balancer_heartbeat_interval=0.2,
    balancer_db_path="",
)
install(app)

notes = redis.Redis.from_url(PLAIN_URL.rsplit("/", 1)[0] + "/1", decode_responses=True)


def began(task: Any) -> None:
    at = time.monotonic()
    notes.rpush(f"began:{task.request.id}", f"{at} {task.request.hostname}")


def let_on(task: Any) -> bool:
    return bool(notes.exists(f"end:{task.request.id}"))


@app.task(shared=False, base=BalancedTask, bind=True, name="bench.afresh", restartable=True)
def afresh(self: Any) -> None:
    began(self)
    while not let_on(self):
        time.sleep(0.005)


@app.task(shared=False, base=BalancedTask, bind=True, name="bench.saving", checkpoints=True)
def saving(self: Any) -> None:
    began(self)
    while not let_on(self):
        time.sleep(INTERVAL_S)
        notes.set(f"saved:{self.request.id}:{self.request.hostname}", time.monotonic())
        self.checkpoint({"step": 1})


@app.task(shared=False, base=BalancedTask, bind=True, name="bench.short")
def short(self: Any) -> None:
    began(self)
