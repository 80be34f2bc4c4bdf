"""A thread for work that may take longer than a report may wait: at most one run of it at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from celery.utils.log import get_logger

logger = get_logger(__name__)


class Beside:
    """Runs one kind of work beside the report. Whatever it raises is logged: the next call tries again."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._thread: threading.Thread | None = None

    def run(self, work: Callable[..., Any], *arguments: Any) -> bool:
        """Start it, unless the last one still runs (`False`)."""
        if self._thread is not None and self._thread.is_alive():
            return False
        self._thread = threading.Thread(
            target=self._guarded, args=(work, arguments), name=f"balancer-{self._name}", daemon=True
        )
        self._thread.start()
        return True

    def _guarded(self, work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        try:
            work(*arguments)
        except Exception:
            # Redis, the broker's client, a result backend: each raises its own.
            logger.warning("%s did not come to its end and is tried again", self._name, exc_info=True)
