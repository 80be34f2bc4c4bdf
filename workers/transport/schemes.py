"""Makes the balanced transport's URL schemes known to kombu and Celery, without importing it."""

from __future__ import annotations

from typing import Final

from celery.app.backends import BACKEND_ALIASES
from kombu.transport import TRANSPORT_ALIASES

#: For a broker's URL.
TRANSPORTS: Final = {
    "balanced-redis": "workers.transport.channel:Transport",
    "balanced-rediss": "workers.transport.channel:SecureTransport",
    "balanced-sentinel": "workers.transport.channel:SentinelTransport",
}

#: For a result backend that was given the broker's URL: results are kept as by Celery's own.
BACKENDS: Final = {
    "balanced-redis": "workers.transport.results:redis_backend",
    "balanced-rediss": "workers.transport.results:redis_backend",
    "balanced-sentinel": "workers.transport.results:sentinel_backend",
}


def register() -> None:
    TRANSPORT_ALIASES.update(TRANSPORTS)
    BACKEND_ALIASES.update(BACKENDS)
