"""The chaos app in a worker that kills itself at one moment: right before or right after one script.

`CRASH` is JSON `{"case", "point", "when", "id", "other", "whole"}`: at which `POINTS`, "before" it is
sent or "after" Redis has done it and before its answer is read, for which task (`other` is the id of
a callback), and whether the whole worker dies or the process alone. Each case dies once.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Mapping
from typing import Any, Final

from celery.worker import state as worker_state
from redis.connection import AbstractConnection

from balancer.adapters.scripts import script_text
from tests.chaos import app as chaos

app = chaos.app


def runs(name: str) -> Callable[[bytes, Mapping[str, Any]], bool]:
    """Whether a command runs this script for the task, by its hash or by its text."""
    text, sha = script_text(name)

    def matches(data: bytes, crash: Mapping[str, Any]) -> bool:
        return (sha.encode() in data or text.encode() in data) and crash["id"].encode() in data

    return matches


def any_of(*names: str) -> Callable[[bytes, Mapping[str, Any]], bool]:
    matchers = [runs(name) for name in names]
    return lambda data, crash: any(matches(data, crash) for matches in matchers)


def stores(state: bytes) -> Callable[[bytes, Mapping[str, Any]], bool]:
    """Whether a command stores the task's result as Celery does, in this state."""
    finish, sha = script_text("finish")

    def matches(data: bytes, crash: Mapping[str, Any]) -> bool:
        fused = sha.encode() in data or finish.encode() in data
        key = b"celery-task-meta-" + crash["id"].encode()
        return not fused and key in data and b'"status": "' + state + b'"' in data

    return matches


def stores_going_on(state: bytes) -> Callable[[bytes, Mapping[str, Any]], bool]:
    """Whether a command stores what the task says of itself while it goes on."""
    text, sha = script_text("tell")

    def matches(data: bytes, crash: Mapping[str, Any]) -> bool:
        tells = sha.encode() in data or text.encode() in data
        return tells and crash["id"].encode() in data and b'"status": "' + state + b'"' in data

    return matches


def publishes(data: bytes, crash: Mapping[str, Any]) -> bool:
    """Whether a command pushes the callback's message."""
    text, sha = script_text("put")
    pushes = b"LPUSH" in data or sha.encode() in data or text.encode() in data
    return pushes and f'"id": "{crash["other"]}"'.encode() in data


def tells_its_chord(data: bytes, crash: Mapping[str, Any]) -> bool:
    """Whether a command tells the task's chord that it has ended."""
    return b"celery-taskset-meta-" in data and crash["id"].encode() in data


def reports(data: bytes, crash: Mapping[str, Any]) -> bool:
    """Whether a command is a report of the worker while it has the task."""
    text, sha = script_text("publish")
    sent = sha.encode() in data or text.encode() in data
    return sent and any(request.id == crash["id"] for request in list(worker_state.active_requests))


def pops(data: bytes, crash: Mapping[str, Any]) -> bool:
    """Whether a command pops; whether it brought the task is seen in its answer."""
    text, sha = script_text("pop")
    return sha.encode() in data or text.encode() in data


def saves(data: bytes, crash: Mapping[str, Any]) -> bool:
    text, sha = script_text("save_memory")
    return sha.encode() in data or text.encode() in data


POINTS: Final[dict[str, Callable[[bytes, Mapping[str, Any]], bool]]] = {
    "pop": pops,
    "receive": runs("receive"),
    "begin": runs("begin"),
    "started": stores_going_on(b"STARTED"),
    "checkpoint": runs("checkpoint"),
    "finish": runs("finish"),
    "commit": runs("commit"),
    "callback": publishes,
    "result": stores(b"SUCCESS"),
    "chord": tells_its_chord,
    "failure": stores(b"FAILURE"),
    "retry result": stores_going_on(b"RETRY"),
    "settle": runs("settle"),
    # An ack may ride on the next pop.
    "ack": any_of("ack", "pop"),
    "reject": runs("reject"),
    "release": runs("release"),
    "relinquish": runs("relinquish"),
    "recover": runs("recover"),
    "report": reports,
    "save_memory": saves,
}


def die(crash: Mapping[str, Any]) -> None:
    """kill -9 of this process, or of its whole group; once a case."""
    if not chaos.ledger(os.getpid()).set(f"crashed:{crash['case']}", os.getpid(), nx=True):
        return
    if crash["whole"]:
        os.killpg(os.getpgrp(), signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)


def arm(crash: Mapping[str, Any]) -> None:
    """Watch every command that this process and its children send."""
    matches, send, read = (
        POINTS[crash["point"]],
        AbstractConnection.send_packed_command,
        AbstractConnection.read_response,
    )

    def watched_send(self: Any, command: Any, check_health: bool = True) -> Any:
        data = command if isinstance(command, bytes) else b"".join(command)
        hit = matches(data, crash)
        if hit and crash["when"] == "before":
            die(crash)
        self.crash_due = hit
        return send(self, command, check_health=check_health)

    def watched_read(self: Any, *arguments: Any, **options: Any) -> Any:
        answer = read(self, *arguments, **options)
        if getattr(self, "crash_due", False) and crash["when"] == "after":
            self.crash_due = False
            if crash["point"] != "pop" or crash["id"] in repr(answer):
                die(crash)
        return answer

    AbstractConnection.send_packed_command = watched_send  # type: ignore[method-assign]
    AbstractConnection.read_response = watched_read  # type: ignore[method-assign]


def become(environment: Mapping[str, str]) -> None:
    chaos.become(environment)
    if environment.get("CRASH"):
        arm(json.loads(environment["CRASH"]))
