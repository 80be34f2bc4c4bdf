"""Messages as Celery and kombu put them into a Redis list."""

from __future__ import annotations

import base64
import json
from typing import Any


def raw_message(
    task_id: str,
    profile: str = "",
    *,
    size: Any = 1.0,
    priority: int = 0,
    at: float | None = None,
    expires: str | None = None,
    queue: str = "",
    body: str = "[[], {}, {}]",
    args: str = "()",
    home: str = "",
) -> bytes:
    """One envelope; without a profile it bears no header of ours."""
    headers: dict[str, Any] = {"lang": "py", "task": "proj.train", "id": task_id, "shadow": None}
    headers |= {"eta": None, "expires": expires, "group": None, "retries": 0, "timelimit": [None, None]}
    headers |= {"root_id": task_id, "parent_id": None, "argsrepr": args, "kwargsrepr": "{}"}
    if profile:
        balancer: dict[str, Any] = {} if at is None else {"at": at}
        headers["balancer"] = {**balancer, "v": 1, "profile": profile, "size": size, "epoch": 0}
        headers["balancer"] |= {"home": home} if home else {}
    properties: dict[str, Any] = {"correlation_id": task_id, "reply_to": "reply", "delivery_mode": 2}
    properties["delivery_info"] = {"exchange": "", "routing_key": queue}
    properties |= {"priority": priority, "body_encoding": "base64", "delivery_tag": f"tag-{task_id}"}
    message = {
        "body": base64.b64encode(body.encode()).decode(),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": headers,
        "properties": properties,
    }
    return json.dumps(message).encode()
