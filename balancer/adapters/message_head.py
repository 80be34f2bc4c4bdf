"""What the end of a queued message tells: whose it is, of what profile and size.

Only the headers are looked at, by a tolerant regular expression; a message is parsed whole only
where that fails. kombu's envelope is JSON with the body first, so the end of it holds the headers,
and a quote inside a JSON text is escaped, so that no argument can pass for a header.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

#: Bytes of a message's end that hold its headers: Celery cuts its argument texts at 1,024 each.
END_BYTES: Final = 8192

_BALANCER: Final = re.compile(rb'(?<!\\)"balancer"\s*:\s*(\{[^{}]*\})')
_TASK_ID: Final = re.compile(rb'(?<!\\)"headers"\s*:\s*\{.*?(?<!\\)"id"\s*:\s*"([^"\\]+)"', re.DOTALL)
_CORRELATION_ID: Final = re.compile(rb'(?<!\\)"correlation_id"\s*:\s*"([^"\\]+)"')
_EXPIRES: Final = re.compile(rb'(?<!\\)"expires"\s*:\s*"([^"\\]+)"')
_PRIORITY: Final = re.compile(rb'(?<!\\)"priority"\s*:\s*(\d{1,4})\b')


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """A queued message. `published_at` is the publisher's clock (s), so is `expires_at`, when it must have
    begun, unless it has; `profile` is "" when it names none, and `home` where it was moved out of no queue of
    the operator's own."""

    task_id: str
    profile: str = ""
    size: float = 1.0
    priority: int | None = None
    published_at: float | None = None
    expires_at: float | None = None
    home: str = ""


def read_head(end: bytes) -> Head | None:
    """The message that ends in `end`; `None` when it is no message of Celery's protocol 2."""
    marked = _BALANCER.search(end)
    ident = _TASK_ID.search(end) or _CORRELATION_ID.search(end)
    if marked is None or ident is None:
        return _parsed(end)
    try:
        balancer = json.loads(marked.group(1))
        task_id = ident.group(1).decode()
    except ValueError:
        return _parsed(end)
    priority, expires = _PRIORITY.findall(end), _EXPIRES.search(end)
    return _head(task_id, balancer, int(priority[-1]) if priority else None,
                 expires.group(1).decode("utf-8", "replace") if expires else None)


def _parsed(raw: bytes) -> Head | None:
    """The slow way, for a message that is there as a whole."""
    try:
        message = json.loads(raw)
        headers, properties = message["headers"], message["properties"]
        return _head(str(headers["id"]), headers.get("balancer"), properties.get("priority"),
                     headers.get("expires"))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _head(task_id: str, balancer: Any, priority: Any, expires: Any) -> Head:
    header = balancer if isinstance(balancer, dict) else {}
    profile, home = header.get("profile"), header.get("home")
    return Head(
        task_id=task_id,
        profile=profile if isinstance(profile, str) else "",
        size=_positive(header.get("size")) or 1.0,
        priority=priority if isinstance(priority, int) else None,
        published_at=_positive(header.get("at")),
        expires_at=None if header.get("begun") is True else _time(expires),
        home=home if isinstance(home, str) else "",
    )


def _time(text: Any) -> float | None:
    """A time as Celery writes it, ISO 8601, as seconds since 1970; one without a zone is local, as there."""
    try:
        return _positive(datetime.fromisoformat(text).timestamp())
    except (TypeError, ValueError, OverflowError, OSError):
        return None


def _positive(value: Any) -> float | None:
    """`value` as a finite number above 0; `None` when it is anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e300:
        return None
    return float(value)
