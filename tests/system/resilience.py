"""What tests of resilience share: publishing past lanes, and what each witness says of a task.

The witnesses are the ledger (bodies that began), the fleet's stream (commits) and the backend.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from types import ModuleType
from typing import Any

from kombu import Connection

from tests.system.fleet import FleetUnderTest

#: The transports; `RESILIENCE_SCHEMES` names others than the two.
SCHEMES = os.environ.get("RESILIENCE_SCHEMES", "redis,balanced-redis").split(",")


def broker_url(url: str, scheme: str) -> str:
    return url.replace("redis://", f"{scheme}://", 1)


def load_tasks(url: str) -> ModuleType:
    """The app's module in this process, which publishes with it; its backend is `url`."""
    os.environ["BALANCER_TEST_URL"] = url
    import tests.system.resilience_app as module

    return module


def publish(url: str, task: Any, queue: str, *args: Any, **options: Any) -> str:
    with Connection(url) as connection:
        return str(task.apply_async(args, queue=queue, connection=connection, **options).id)


def value_of(under_test: FleetUnderTest, task_id: str) -> Any:
    """What the backend has as a success, else `None`."""
    raw = under_test.client.get(f"celery-task-meta-{task_id}")
    document = json.loads(raw) if raw else {}
    return document.get("result") if document.get("status") == "SUCCESS" else None


def starts(under_test: FleetUnderTest, task_id: str) -> list[str]:
    """Workers on which its body began, in order."""
    return [word.split("@")[0] for word in under_test.ledger.lrange(f"started:{task_id}", 0, -1)]


def told(under_test: FleetUnderTest, kind: str, **fields: str) -> Counter[str]:
    """How often the fleet's stream says this of each task."""
    found: Counter[str] = Counter()
    for _, entry in under_test.client.xrange(under_test.keys.events):
        event = json.loads(entry[b"e"])
        if event["type"] == kind and all(event.get(key) == value for key, value in fields.items()):
            found[event["task_id"]] += 1
    return found
