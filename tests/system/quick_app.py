"""Tasks with nothing of their own between body and ack: their commit goes with the result, or with the ack.

Nobody hears `task_success` here, which would make each commit a step of its own.
"""

from __future__ import annotations

import os
from typing import Any

from celery import Celery

from workers import BalancedTask, install

URL = os.environ.get("BALANCER_TEST_URL", "redis://127.0.0.1:6379/0")

app = Celery("quick_app", broker=os.environ.get("BALANCER_TEST_SCHEME", "") + URL, backend=URL)
app.conf.update(
    broker_connection_retry_on_startup=True,
    result_extended=True,
    result_expires=500,
    balancer_heartbeat_interval=0.5,
    balancer_db_path="",
)
install(app)


@app.task(shared=False, base=BalancedTask, name="quick.stored")
def stored(value: Any) -> Any:
    return value


@app.task(shared=False, base=BalancedTask, name="quick.ignored", ignore_result=True)
def ignored(value: Any) -> Any:
    return value


@app.task(shared=False, base=BalancedTask, bind=True, name="quick.silenced")
def silenced(self: Any, value: Any) -> Any:
    """Decides in its body that nobody wants its result."""
    self.request.ignore_result = True
    return value


@app.task(shared=False, base=BalancedTask, name="quick.unstorable")
def unstorable() -> Any:
    return object()


class OwnCall(BalancedTask):
    """A class whose `__call__` passes ours by."""

    abstract = True

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.run(*args, **kwargs)


@app.task(shared=False, base=OwnCall, name="quick.own_call")
def own_call(value: Any) -> Any:
    return value
