"""The ids of a task's callbacks: the same however often they are published.

What a chain publishes next has had its id from the beginning, and so a copy of it is refused by its
own fence. A callback (`link`) gets one only when it is published: a worker that takes over between
a task's commit and its ack publishes it again, and the copy would run as another task. So each is
given an id that follows from the task's own before the body begins.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import Any, Final
from uuid import UUID, uuid5

#: Of the ids that are made here (RFC 4122, version 5).
NAMESPACE: Final = UUID("7b0f5a52-54c8-5d0b-9a4f-0c3d3f1f6d1e")


def name_callbacks(request: Any) -> None:
    """Give the callbacks of a task's request, and all they are composed of, their ids."""
    for number, callback in enumerate(request.callbacks or ()):
        _name(callback, f"{request.id}/{number}")


def _name(signature: Any, place: str) -> None:
    """Ids for a signature, as a mapping; `place` is where it stands. What has an id keeps it."""
    if not isinstance(signature, MutableMapping):
        return
    inner = _inner(signature)
    for number, one in enumerate(inner):
        _name(one, f"{place}/{number}")
    options = signature.get("options")
    if not inner and isinstance(options, MutableMapping):
        options.setdefault("task_id", str(uuid5(NAMESPACE, place)))


def _inner(signature: Mapping[str, Any]) -> list[Any]:
    """The signatures that a canvas is composed of; none for a task."""
    parts = signature.get("kwargs") or {}
    kind = signature.get("subtask_type")
    if kind in ("chain", "group"):
        return _listed(parts.get("tasks"))
    if kind == "chord":
        header = parts.get("header")
        return [*([header] if isinstance(header, Mapping) else _listed(header)), parts.get("body")]
    return []


def _listed(tasks: Any) -> list[Any]:
    return list(tasks) if isinstance(tasks, list | tuple) else []
