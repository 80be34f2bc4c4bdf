"""Celery's own Redis result backends for an app that gives broker and results one URL of ours."""

from __future__ import annotations

import re
from typing import Any

from celery.backends import redis


def stock(url: Any) -> Any:
    """A URL, or several with semicolons between, as Celery's backends take it."""
    return re.sub(r"(^|;)balanced-", r"\1", url) if isinstance(url, str) else url


def redis_backend(*args: Any, url: Any = None, **options: Any) -> redis.RedisBackend:
    """As `redis://` and `rediss://`."""
    return redis.RedisBackend(*args, url=stock(url), **options)


def sentinel_backend(*args: Any, url: Any = None, **options: Any) -> redis.SentinelBackend:
    """As `sentinel://`."""
    return redis.SentinelBackend(*args, url=stock(url), **options)
