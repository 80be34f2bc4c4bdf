"""A witness of a machine that stands still: virtual processors are taken away for seconds at a time.

A worker on such a processor is silent past the age limit, and what it runs is begun again elsewhere, as it
should be. A test that counts beginnings then fails, and its report has to say why.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import Final

#: How often each witness looks at the clock, and what counts as standing still (s).
LOOK_S: Final = 0.1
STALL_S: Final = 1.0


class StoodStill(Exception):
    """Why a test that counts on processes going on may have failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stall:
    """A processor that ran nothing of its witness for `seconds` until `until` (s since the epoch)."""

    processor: int
    until: float
    seconds: float

    def __str__(self) -> str:
        clock = time.strftime("%H:%M:%S", time.gmtime(self.until))
        return f"processor {self.processor} stood still for {self.seconds:.1f} s until {clock} UTC"


class Witness:
    """One thread on each processor; started once in a process."""

    def __init__(self) -> None:
        self.stalls: deque[Stall] = deque(maxlen=100)
        for processor in sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else ():
            threading.Thread(target=self._watch, args=(processor,), daemon=True).start()

    def since(self, at: float) -> list[Stall]:
        """Those that ended after `at` (s since the epoch)."""
        return [stall for stall in tuple(self.stalls) if stall.until >= at]

    def _watch(self, processor: int) -> None:
        os.sched_setaffinity(threading.get_native_id(), {processor})
        last, nobody = time.monotonic(), threading.Event()
        while not nobody.wait(LOOK_S):
            now = time.monotonic()
            if now - last - LOOK_S > STALL_S:
                self.stalls.append(
                    Stall(processor=processor, until=time.time(), seconds=now - last - LOOK_S))
            last = now
