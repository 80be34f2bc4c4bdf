"""The app under test with tasks that are interrupted: restartable ones, and ones that will not go."""

from __future__ import annotations

import time
from typing import Any

from tests.system.fleet_app import app, ledger, note
from workers import BalancedTask

__all__ = ["app"]

#: Seconds a body runs at most, far beyond any test: what ends sooner ended otherwise.
LONGEST_S = 300.0


def opened(name: str) -> bool:
    return bool(ledger().exists(f"open:{name}"))


@app.task(shared=False, base=BalancedTask, bind=True, name="tests.afresh", restartable=True)
def afresh(self: Any, name: str) -> str:
    """Waits in Python until the ledger's key `open:NAME` is there; begun again it begins afresh."""
    note(self, "started")
    until = time.monotonic() + LONGEST_S
    while time.monotonic() < until and not opened(name):
        time.sleep(0.005)
    return str(self.request.hostname)


@app.task(shared=False, base=BalancedTask, bind=True, name="tests.stubborn", checkpoints=True)
def stubborn(self: Any, name: str, saved: int = 7) -> int:
    """Saves once and swallows whatever it is told, until the ledger's key is there."""
    before = self.resume(0)
    note(self, "started")
    if not before:
        self.checkpoint(saved, share=0.5)
        ledger().set(f"saved:{self.request.id}", saved)
    until = time.monotonic() + LONGEST_S
    while True:
        try:
            while time.monotonic() < until and not opened(name):
                time.sleep(0.01)
            return int(before or saved)
        except BaseException:
            note(self, "swallowed")


@app.task(shared=False, base=BalancedTask, bind=True, name="tests.last_words", restartable=True)
def last_words(self: Any, name: str) -> str:
    """Needs a moment on its way out."""
    until = time.monotonic() + LONGEST_S
    try:
        note(self, "started")
        while time.monotonic() < until and not opened(name):
            time.sleep(0.005)
    finally:
        note(self, "unwound")
    return str(self.request.hostname)


@app.task(shared=False, base=BalancedTask, bind=True, name="tests.long_step", checkpoints=True)
def long_step(self: Any, name: str) -> int:
    """Saves, works until it is let on, saves and ends."""
    done = self.resume(0)
    note(self, "started")
    if not done:
        self.checkpoint(1, share=0.5)
        ledger().set(f"saved:{self.request.id}", 1)
    until = time.monotonic() + LONGEST_S
    while time.monotonic() < until and not opened(name):
        time.sleep(0.005)
    self.checkpoint(done + 1, share=1.0)
    return int(done + 1)


@app.task(shared=False, base=BalancedTask, bind=True, name="tests.retries", restartable=True, max_retries=3)
def retries(self: Any, name: str) -> str:
    """Retries once after it was let on; begun anew it does so again."""
    note(self, "started")
    until = time.monotonic() + LONGEST_S
    while time.monotonic() < until and not opened(name):
        time.sleep(0.005)
    if self.request.retries == 0:
        raise self.retry(countdown=0)
    return str(self.request.hostname)


@app.task(shared=False, name="tests.early", acks_late=False)
def early(name: str) -> str:
    """Plain Celery's: acknowledged as it begins."""
    ledger().rpush(f"began:{name}", 1)
    until = time.monotonic() + LONGEST_S
    while time.monotonic() < until and not opened(name):
        time.sleep(0.01)
    return name
