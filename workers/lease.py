"""The lease of this worker: how long ago its last good report was, seen by every process of its pool.

A worker whose reports are older than the fleet's limit counts as dead, and its tasks are taken over.
It may not know that: frozen, starved, cut off from Redis, its clock set. So a process that is about to
begin a body on a claim taken earlier asks here, without a round trip; only when the answer is no
does it read the fence. A clock that goes on while the machine sleeps, in memory that the forked
processes of the pool share; a spawned process has none and always reads the fence.
"""

from __future__ import annotations

import mmap
import struct
import time
from typing import Final

#: The part of the fleet's age limit after which a report no longer vouches for a claim: whoever takes
#: over waits for the whole, by another clock.
MARGIN: Final = 0.7

#: Time of the last good report (s), the count of lapses.
_FIELDS: Final = struct.Struct("@dq")

#: On Linux the clock of the steady kind that counts sleep; elsewhere the steady clock does, or nearly.
_CLOCK: Final[int] = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class Lease:
    """Written by the reporter of one worker, read by the processes that it forks from then on."""

    #: The lease of the worker that this process belongs to, where it was inherited.
    current: Lease | None = None

    def __init__(self, age_limit_s: float) -> None:
        self.limit_s = MARGIN * age_limit_s
        self._memory = mmap.mmap(-1, mmap.PAGESIZE)

    def beat(self, sent_at: float) -> None:
        """A report was taken; it was sent at `sent_at` (of `now()`). A gap since the last is a lapse."""
        last, lapses = _FIELDS.unpack_from(self._memory)
        if last and sent_at - last > self.limit_s:
            # The lapse before the time: a reader that sees the new time sees the lapse.
            _FIELDS.pack_into(self._memory, 0, last, lapses + 1)
            lapses += 1
        _FIELDS.pack_into(self._memory, 0, sent_at, lapses)

    def lapses(self) -> int:
        """How often reports were too far apart: a claim is noted with this count."""
        return int(_FIELDS.unpack_from(self._memory)[1])

    def vouches(self, lapses: int) -> bool:
        """Whether a claim that was taken when there had been `lapses` cannot have been taken over yet."""
        last, count = _FIELDS.unpack_from(self._memory)
        return bool(count == lapses and now() - last <= self.limit_s)


def now() -> float:
    """The lease's clock (s)."""
    return time.clock_gettime(_CLOCK)


def beat(sent_at: float) -> None:
    """A report of this worker, sent at `sent_at` (of `now()`), was taken."""
    if Lease.current is not None:
        Lease.current.beat(sent_at)


def lapses() -> int:
    """The count of lapses that a claim which is taken now is noted with; -1 where there is no lease."""
    return Lease.current.lapses() if Lease.current is not None else -1


def vouches(noted: object) -> bool:
    """Whether a claim that was noted so certainly holds still. Where there is no lease nothing vouches."""
    lease = Lease.current
    return lease is not None and isinstance(noted, int) and lease.vouches(noted)
