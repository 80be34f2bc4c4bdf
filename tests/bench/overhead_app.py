"""The apps whose cost a task is compared: plain Celery, and ours on the stock and on our own transport.

`BENCH_VARIANT` says which; `BENCH_URL` is the broker and backend. Run as a program it publishes:
`python -m tests.bench.overhead_app COUNT TASK BYTES`.
"""

from __future__ import annotations

import os
import sys

from celery import Celery

VARIANT = os.environ.get("BENCH_VARIANT", "plain")
URL = os.environ.get("BENCH_URL", "redis://127.0.0.1:6379/0")

#: Every variant has its results in a database of its own, as Celery keeps them.
app = Celery("overhead", broker=URL.replace("redis://", "balanced-redis://") if VARIANT == "atomic" else URL)
app.conf.update(result_backend=URL, broker_connection_retry_on_startup=True)

if VARIANT == "plain":
    options: dict[str, object] = {}
else:
    from workers import BalancedTask, install

    app.conf.balancer_db_path = ""
    install(app)
    options = {"base": BalancedTask}


@app.task(shared=False, name="bench.stored", **options)
def stored(argument: str) -> None:
    """Does nothing, and its result is stored."""


@app.task(shared=False, name="bench.ignored", ignore_result=True, **options)
def ignored(argument: str) -> None:
    """Does nothing, and has no result."""


if __name__ == "__main__":
    count, name, size = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    task = app.tasks[f"bench.{name}"]
    with app.producer_pool.acquire(block=True) as producer:
        for _ in range(count):
            task.apply_async(("x" * size,), producer=producer)
