"""The app under test with tasks that end badly, or that their authors wrote without a thought of us."""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import Any

from tests.system.fleet_app import app, ledger, note
from workers import BalancedTask

__all__ = ["app"]


@app.task(shared=False, base=BalancedTask, bind=True, name="hostile.exits")
def exits(self: Any, code: int) -> None:
    note(self, "started")
    sys.exit(code)


@app.task(shared=False, base=BalancedTask, bind=True, name="hostile.greedy")
def greedy(self: Any) -> None:
    note(self, "started")
    raise MemoryError("too much")


@app.task(shared=False, base=BalancedTask, bind=True, name="hostile.strange")
def strange(self: Any) -> object:
    note(self, "started")
    return object()


@app.task(shared=False, base=BalancedTask, bind=True, name="hostile.hangs")
def hangs(self: Any, seconds: float) -> str:
    """Holds on for `seconds`, whatever asks it to stop but SIGKILL."""
    note(self, "started")
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            time.sleep(0.05)
        except SystemExit:
            continue
    return "done"


@app.task(
    shared=False, base=BalancedTask, bind=True, name="hostile.vanishes", checkpoints=True,
    retry_on_worker_lost=True, default_retry_delay=0,
)  # fmt: skip
def vanishes(self: Any, how: str) -> list[Any]:
    """Takes its process with it the first time."""
    note(self, "started")
    if self.request.retries == 0:
        self.checkpoint("half")
        ledger().set(f"process:{self.request.id}", os.getpid())
        sys.exit(3) if how == "exits" else os.kill(os.getpid(), signal.SIGKILL)
    return [self.request.retries, self.resume()]


class Careless(BalancedTask):
    """Its author did not call the method it overrides."""

    abstract = True

    def after_return(self, *args: Any, **kwargs: Any) -> None:
        ledger().rpush(f"after:{args[2]}", "")


@app.task(shared=False, base=Careless, bind=True, name="hostile.careless", checkpoints=True)
def careless(self: Any, fails: bool = False) -> str:
    note(self, "started")
    self.checkpoint({"some": "state"})
    if fails:
        raise ValueError("on purpose")
    return "done"


@app.task(shared=False, base=BalancedTask, bind=True, name="hostile.swallows", checkpoints=True)
def swallows(self: Any, steps: int) -> int:
    """Catches everything that is raised in it, so it can leave only when its author lets it."""
    note(self, "started")
    for step in range(steps):
        try:
            time.sleep(0.05)
            self.checkpoint(step)
        except BaseException:
            continue
    return steps


@app.task(shared=False, base=BalancedTask, bind=True, name="hostile.boasts", checkpoints=True)
def boasts(self: Any, share: Any) -> None:
    self.checkpoint({}, share=share)
