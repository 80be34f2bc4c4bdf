"""The apps whose idle dispatch `latency.py` times: plain Celery, or ours on one of two transports.

`BENCH_LATENCY` is the kind, `BENCH_URL` the Redis.
"""

from __future__ import annotations

import os
import time

from celery import Celery

from workers import BalancedTask, install

#: By kind: whether the app is ours, and what its broker's URL begins with.
KINDS = {
    "stock": (False, ""),
    "ours": (True, "balanced-"),
    "ours_on_stock": (True, ""),
    "plain_on_ours": (False, "balanced-"),
}


def make_app(kind: str, url: str) -> Celery:
    """An app with one task, which says when its body began (s, of the machine's steady clock)."""
    balanced, scheme = KINDS[kind]
    app = Celery(kind, broker=scheme + url, backend=url, set_as_current=False)
    if balanced:
        app.conf.balancer_db_path = ""
        install(app)
    options = {"base": BalancedTask} if balanced else {}

    @app.task(shared=False, name="bench.begun", **options)
    def begun() -> float:
        return time.monotonic()

    return app


app = make_app(os.environ.get("BENCH_LATENCY", "stock"), os.environ.get("BENCH_URL", "redis://"))
