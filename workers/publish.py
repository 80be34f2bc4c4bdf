"""What a publishing client does: choose the lane of a call and mark its message.

`LaneRouter` goes last in `task_routes`, so that routes and queues of the operator's own win.
A fault here never stops a publish: the task then takes the way plain Celery would send it.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from celery import Celery
from celery.utils.log import get_logger
from kombu import Exchange, Queue

from balancer.adapters.documents import profile_document
from balancer.adapters.redis_connection import Connection, connect, load_script
from balancer.model import TaskProfile
from balancer.routing import lane_queue
from balancer.settings import Settings
from workers.declared import declarations, group_of, profile_name, profile_of, size_of

logger = get_logger(__name__)

#: A lane is entered in the table again by each publishing process after this time (s), so that
#: one that is in use is never forgotten, and a Redis that lost its data soon knows it again.
REGISTER_AGAIN_S: Final = 5.0


def plain_queue(name: str) -> Queue:
    """A queue that is reached through the default exchange, so that it needs no binding."""
    return Queue(name, Exchange("", type="direct"), routing_key=name)


def lane_document(profile: TaskProfile, digest: str, used_at: float) -> str:
    """The entry of a lane in the lane table, with the digest that `register_lane.lua` looks for."""
    return profile_document(profile, used_at=used_at)[:-1] + f',"digest":"{digest}"}}'


def digest_of(profile: TaskProfile) -> str:
    return hashlib.blake2s(profile_document(profile).encode(), digest_size=8).hexdigest()


class LaneTable:
    """Enters lanes in the fleet's table, every few seconds a process."""

    def __init__(self, app: Celery, settings: Settings) -> None:
        self.app = app
        self.settings = settings
        self._connection: Connection | None = None
        self._entered: dict[tuple[str, str], tuple[float, str]] = {}

    def enter(self, profile: TaskProfile) -> str:
        """The queue to publish this profile's tasks to. Raises what Redis raises."""
        digest = digest_of(profile)
        at, queue = self._entered.get((profile.name, digest), (float("-inf"), ""))
        if time.monotonic() - at < REGISTER_AGAIN_S:
            return queue
        queue = self._register(profile, digest)
        self._entered[profile.name, digest] = (time.monotonic(), queue)
        return queue

    def forget(self) -> None:
        """Enter every lane again at its next use: this Redis is another, or was emptied."""
        self._entered.clear()

    def _register(self, profile: TaskProfile, digest: str) -> str:
        if self._connection is None:
            self._connection = connect(self.app, namespace=self.settings.namespace)
        keys, now = self._connection.keys, time.time()
        shared = replace(profile, name=profile.task, group="")
        shared_digest = digest_of(shared)
        script = load_script(self._connection.client, "register_lane")
        answer = script(
            keys=[keys.lanes, keys.lanes_revision],
            args=[
                lane_queue(profile.name),
                lane_document(profile, digest, now),
                digest,
                self.settings.lanes_limit,
                lane_queue(shared.name),
                lane_document(shared, shared_digest, now),
                shared_digest,
            ],
        )
        queue = str(answer.decode())
        if queue != lane_queue(profile.name):
            logger.warning(
                "there are %d lanes already: profile %r shares the lane of its task %r "
                "(balancer_lanes_limit)",
                self.settings.lanes_limit,
                profile.name,
                profile.task,
            )
        return queue


class LaneRouter:
    """A `task_routes` entry: the lane of a balanced task, `None` for every other."""

    def __init__(self, app: Celery, settings: Settings) -> None:
        self.app = app
        self.settings = settings
        self.lanes = LaneTable(app, settings)

    def __call__(
        self, name: str, args: Any, kwargs: Any, options: Mapping[str, Any], task: Any = None, **_: Any
    ) -> dict[str, Any] | None:
        if options.get("queue") or options.get("exchange") or not self.balances(name, task):
            return None
        try:
            declared = declarations(task or self.app.tasks.get(name), self.settings, name)
            chosen = (options.get("headers") or {}).get("balancer") or {}
            group = self.group(declared, args, kwargs, chosen.get("group"))
            profile = profile_name(declared, name, args, kwargs, chosen.get("profile"), group)
            queue = plain_queue(self.lane(declared, name, profile, group))
            priority = declared.get("priority")
            return {"queue": queue} if priority is None else {"queue": queue, "priority": int(priority)}
        except Exception:
            logger.exception("task %s goes the way plain Celery would send it: no lane could be found", name)
            return None

    def lane(self, declared: Mapping[str, Any], name: str, profile: str, group: str = "") -> str:
        """The queue of a profile's lane, which is in the table from now on. Raises what Redis raises."""
        return self.lanes.enter(profile_of(declared, name, profile, self.settings, group))

    def group(self, declared: Mapping[str, Any], args: Any, kwargs: Any, chosen: str | None) -> str:
        """Whose task one call is; "" where fairness between groups is not asked for."""
        return group_of(declared, args, kwargs, chosen) if self.settings.group_weights else ""

    def lane_again(self, task: Any, profile: str, group: str = "") -> str | None:
        """The lane of a task that comes back under its id; `None` where that cannot be found out."""
        try:
            return self.lane(declarations(task, self.settings, task.name), task.name, profile, group)
        except Exception:
            logger.exception("task %s goes back where it came from: no lane could be found", task.name)
            return None

    def balances(self, name: str, task: Any = None) -> bool:
        task = task or self.app.tasks.get(name)
        return bool(getattr(task, "balanced", False)) or name in self.settings.tasks

    def mark(self, headers: dict[str, Any], body: Any) -> None:
        """Complete the `balancer` header of a message that is about to be published."""
        name = headers.get("task", "")
        if not self.balances(name):
            return
        declared = declarations(self.app.tasks.get(name), self.settings, name)
        chosen = headers.get("balancer") or {}
        args, kwargs = (body[0], body[1]) if isinstance(body, tuple | list) and len(body) > 1 else ((), {})
        group = self.group(declared, args, kwargs, chosen.get("group"))
        headers["balancer"] = {
            "at": round(time.time(), 6),  # tasks go back in the order of it
            "v": 1,
            "profile": profile_name(declared, name, args, kwargs, chosen.get("profile"), group),
            **({"group": group} if group else {}),
            "size": size_of(declared, args, kwargs, chosen.get("size")),
            "epoch": int(chosen.get("epoch", 0)),
        }
