"""Waiting for something to become true, in place of sleeping and hoping."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

#: Between two looks (s).
LOOK_S = 0.02

#: Before a wait is given up (s): it is no bar for speed, and a machine may be busy with other things.
PATIENCE_S = 60.0


def wait_until(
    predicate: Callable[[], object], description: str | Callable[[], str], timeout_s: float = PATIENCE_S
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
