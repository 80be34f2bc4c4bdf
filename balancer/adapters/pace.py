"""How much to ask of Redis at once: batches that keep every script short for the others."""

from __future__ import annotations

from typing import Final

#: Longest that one script should hold Redis (s): other clients' PING then stays near 2 ms.
TARGET_S: Final = 0.002


class Pace:
    """A batch size that doubles while calls are quick and halves when one is slow."""

    def __init__(self, *, size: int, low: int, high: int, target_s: float = TARGET_S) -> None:
        self.size = size
        self._low = low
        self._high = high
        self._target_s = target_s

    def record(self, asked: int, seconds: float) -> None:
        """A call for `asked` items took `seconds`, without the way there and back."""
        if seconds > self._target_s:
            self.size = max(self._low, min(self.size, asked) // 2)
        elif seconds < self._target_s / 2 and asked >= self.size:
            self.size = min(self._high, self.size * 2)
