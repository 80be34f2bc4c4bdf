"""Tells a client the end of a task that no worker will run: it was set aside, or cancelled in its queue.

The result goes through the app's own backend, with what Celery does for a task that fails or is
revoked: its chord, the rest of its chain and its errbacks hear of it.
"""

from __future__ import annotations

import base64
import logging
from typing import Any

from celery import Celery
from celery.app.task import Context
from kombu import serialization

from balancer.adapters import redis_failed
from balancer.adapters.held_message import HeldMessage
from balancer.adapters.redis_connection import Connection
from balancer.errors import ProcessLostError

log = logging.getLogger("balancer")

#: How long one process may take to tell clients before another does it again (s).
TELLING_S = 30


def tell_set_aside(app: Celery, connection: Connection) -> int:
    """Tell the clients of tasks that were set aside; how many. One process at a time.

    One that dies in the middle leaves the rest, and perhaps the last one's errbacks a second time, to
    the next. Raises what Redis or the result backend raises.
    """
    lock, client = connection.keys.recovering("clients"), connection.client
    if not client.set(lock, "1", nx=True, ex=TELLING_S):
        return 0
    try:
        waiting = redis_failed.untold(connection)
        for task_id in waiting:
            failed = redis_failed.found(connection, task_id)
            if failed is not None and failed.held is not None:
                log.error("task %s (%s) is set aside and will not run again by itself: %s",
                          task_id, failed.task, failed.reason)
                tell_failed(app, failed.held, failed.reason)
            redis_failed.told(connection, task_id)
    finally:
        client.delete(lock)
    return len(waiting)


def tell_failed(app: Celery, held: HeldMessage, reason: str) -> None:
    """FAILURE with `ProcessLostError`, as if the task had raised it."""
    error = ProcessLostError(f"task {held.task}[{held.task_id}] {reason}")
    stores, backend = _stores(app, held)
    backend.mark_as_failure(held.task_id, error, request=context_of(app, held), store_result=stores)


def tell_revoked(app: Celery, held: HeldMessage, reason: str) -> None:
    """REVOKED, as a worker announces it."""
    stores, backend = _stores(app, held)
    backend.mark_as_revoked(held.task_id, reason, request=context_of(app, held), store_result=stores)


def open_result(app: Celery, task_id: str, state: str) -> None:
    """Forget a result that says `state`, so that who asks next waits for the end that is to come.

    Before the task is sent again: afterwards it might be the new end that is forgotten.
    """
    try:
        if app.backend.get_state(task_id) == state:
            app.backend.forget(task_id)
    except Exception as error:
        # Whatever a result backend raises, also where there is none: the task is sent all the same.
        log.warning("the result of task %s could not be opened again: %r", task_id, error)


def _stores(app: Celery, held: HeldMessage) -> tuple[bool, Any]:
    """Whether the end of this task is stored, and by which backend."""
    task = app.tasks.get(held.task)
    ignored = held.headers.get("ignore_result")
    stores = not ignored or bool(getattr(task, "store_errors_even_if_ignored", False))
    return stores, task.backend if task is not None else app.backend


def context_of(app: Celery, held: HeldMessage) -> Context:
    """The request as a worker would see it, with callbacks and chord where the body can be read."""
    message = held.message
    properties = message["properties"]
    fields = {**held.headers, "delivery_info": properties["delivery_info"],
              "reply_to": properties.get("reply_to"), "correlation_id": properties.get("correlation_id")}
    try:
        body = message["body"]
        body = base64.b64decode(body) if properties.get("body_encoding") == "base64" else body
        args, kwargs, embed = serialization.loads(
            body, message["content-type"], message["content-encoding"],
            accept=serialization.prepare_accept_content(app.conf.accept_content))
        fields |= {"args": args, "kwargs": kwargs, **(embed or {})}
    except Exception as error:
        # Whatever a serializer raises: the client still hears of its own task's end.
        log.warning("the body of task %s cannot be read, so nobody linked to it is told: %r",
                    held.task_id, error)
    return Context(fields)
