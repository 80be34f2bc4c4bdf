"""Which held deliveries a report renews in the broker's index, so that none ever lapses.

All of them while they are few. A worker may hold a hundred thousand tasks that wait for their time:
then each report renews a part, and every one of them four times within the visibility timeout.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from zlib import crc32

#: Deliveries that are renewed at once without a thought.
AT_ONCE: Final = 2_000

#: How often within the visibility timeout each is renewed at least.
TIMES: Final = 4


def due(tags: Sequence[str], turn: int, *, timeout_s: float, interval_s: float) -> list[str]:
    """The part of `tags` whose turn it is; `turn` counts reports, which come each `interval_s`."""
    parts = min(-(-len(tags) // AT_ONCE), max(1, int(timeout_s / TIMES / interval_s)))
    if parts <= 1:
        return list(tags)
    return [tag for tag in tags if crc32(tag.encode()) % parts == turn % parts]
