"""Starts threads that no signal of the process is ever given to, nor to any thread that they start.

Python runs a signal's handler in the main thread, and a main thread that sleeps learns of it only by being
interrupted. A signal to the process is taken by whichever thread first looks, though: one that starts another
(DuckDB does for each file it opens) looks, and may take it from a main thread that has yet to wake up. That
one then sleeps on, in beat for up to five minutes.
"""

from __future__ import annotations

import signal
from threading import Thread
from typing import Final

#: What a thread brings upon itself stays its own.
FAULTS: Final = frozenset((signal.SIGILL, signal.SIGTRAP, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE,
                           signal.SIGSEGV, signal.SIGSYS))


def start(thread: Thread) -> None:
    """Start a thread that inherits blocked signals; one that comes meanwhile is handled afterwards.

    Where a platform has no signal masks (Windows), no other thread takes the main one's signals either.
    """
    if not hasattr(signal, "pthread_sigmask"):
        thread.start()
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals() - FAULTS)
    try:
        thread.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
