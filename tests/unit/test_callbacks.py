"""Callbacks have the ids that follow from their task's: a second publish is a copy, not another task."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

from celery import Celery, chain, chord, group

from workers.callbacks import name_callbacks

app = Celery("callbacks", set_as_current=False)


@app.task(shared=False, name="callbacks.one")
def one(*values: Any) -> Any:
    return values


def ids(task_id: str, *callbacks: Any) -> list[str]:
    """Every id in the callbacks of a message, once they are named."""
    request = SimpleNamespace(id=task_id, callbacks=json.loads(json.dumps(callbacks)))
    name_callbacks(request)
    found: list[str] = []

    def look(value: Any) -> None:
        if isinstance(value, dict):
            if "task_id" in value.get("options", {}):
                found.append(value["options"]["task_id"])
            for inner in value.values():
                look(inner)
        elif isinstance(value, list):
            for inner in value:
                look(inner)

    look(request.callbacks)
    return found


def test_each_has_an_id_of_its_own_and_always_the_same() -> None:
    callbacks = [
        one.s(),
        one.s(),
        chain(one.s(), one.s()),
        group(one.s(), chain(one.s(), one.s())),
        chord([one.s(), one.s()], one.s()),
        chain(one.s(), chord([one.s(), one.s()], one.s()), one.s()),
    ]
    named = ids("a", *callbacks)
    assert len(named) == len(set(named)) == 2 + 2 + 3 + 3 + 5
    assert ids("a", *callbacks) == named
    assert not set(ids("b", *callbacks)) & set(named)


def test_an_id_that_is_there_stays() -> None:
    assert ids("a", one.s().set(task_id="mine")) == ["mine"]


def test_what_is_no_signature_is_left_alone() -> None:
    request = SimpleNamespace(id="a", callbacks=["text", None, {"options": None}, {"kwargs": 3}])
    name_callbacks(request)
    assert request.callbacks == ["text", None, {"options": None}, {"kwargs": 3}]
    name_callbacks(SimpleNamespace(id="a", callbacks=None))
