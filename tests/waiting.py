"""Waiting for something to become true, in place of sleeping and hoping."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

#: Between two looks (s).
LOOK_S = 0.02


def wait_until(
    predicate: Callable[[], object], description: str | Callable[[], str], timeout_s: float = 10
) -> None:
    """Return as soon as `predicate()` holds; fail with `description` after `timeout_s`, asked for only then
    where it is a function."""
    until = time.monotonic() + timeout_s
    pause = threading.Event()
    while not predicate():
        if time.monotonic() > until:
            what = description() if callable(description) else description
            raise AssertionError(f"not within {timeout_s:g} s: {what}")
        pause.wait(LOOK_S)
