"""Runs all scenarios over one worker and writes what happened as JSON: `python -m … FILE PART`.

What cannot be equal (ids, times, processes, and what a balanced message is documented to have
otherwise) is given equal names here.
"""

from __future__ import annotations

import json
import re
import sys
import threading
import time
from pathlib import Path
from typing import Any

import redis

from tests.system import parity_app
from tests.system.parity_scenarios import Scenario, scenarios

#: A scenario may take this long (s); then the outcome says for what it waited.
LIMIT_S = 150

#: Events that come in a fixed order: a retry is received, told and sent by three processes.
ORDERED = (
    ("task-sent",),
    ("task-retried",),
    ("task-received", "task-started", "task-succeeded", "task-failed", "task-rejected", "task-revoked"),
)

#: Scenarios in which it is a race whose callback another task is.
ANY_PARENT = ("chord_joined_at_run_time",)

UUID = re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b")

#: What of an event is compared.
TOLD = (
    "type",
    "name",
    "args",
    "kwargs",
    "retries",
    "result",
    "exception",
    "requeue",
    "queue",
    "exchange",
    "routing_key",
    "root_id",
    "parent_id",
    "signum",
    "terminated",
    "expired",
)


class Client:
    """The module of tasks as a scenario sees it."""

    def __init__(self) -> None:
        self.client = parity_app.ledger()
        self._log: list[tuple[str, str, Any, str]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(parity_app, name)

    def log(self) -> list[tuple[str, str, Any, str]]:
        new = self.client.lrange(f"{parity_app.NAME}:log", len(self._log), -1)
        self._log += [tuple(json.loads(entry)) for entry in new]
        return self._log

    def happened(self, task_id: str, word: str) -> Any:
        return lambda: any(entry[:2] == (task_id, word) for entry in self.log())


class Listener:
    """Hears events and published results, each in a thread of its own."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.told: list[tuple[str, str]] = []
        for hear in (self._hear_events, self._hear_results):
            threading.Thread(target=hear, daemon=True).start()

    def _hear_events(self) -> None:
        with parity_app.app.connection_for_read() as connection:
            receiver = parity_app.app.events.Receiver(connection, handlers={"*": self.events.append})
            receiver.capture(limit=None, timeout=None, wakeup=True)

    def _hear_results(self) -> None:
        pubsub = redis.Redis.from_url(parity_app.app.conf.result_backend).pubsub()
        pubsub.psubscribe("celery-task-meta-*")
        for message in pubsub.listen():
            if message["type"] == "pmessage":
                meta = parity_app.app.backend.decode(message["data"])
                self.told.append((meta["task_id"], meta["status"]))

    def heard(self, kind: str, task_id: str) -> bool:
        return any(event["type"] == kind and event.get("uuid") == task_id for event in self.events)


class Turns:
    """All scenarios side by side in one thread: each waits for what it has yielded."""

    def __init__(self, client: Client, scenarios: dict[str, Scenario]) -> None:
        self.running: dict[str, Any] = {name: run(client) for name, run in scenarios.items()}
        self.waits: dict[str, Any] = dict.fromkeys(scenarios)
        self.outcomes: dict[str, Any] = {}

    def run(self) -> dict[str, Any]:
        until = time.monotonic() + LIMIT_S
        while self.running and time.monotonic() < until:
            for name in list(self.running):
                self._turn(name)
            threading.Event().wait(0.05)
        for name in self.running:
            self.outcomes[name] = f"waits for {self.waits[name]!r} after {LIMIT_S} s"
        return self.outcomes

    def _turn(self, name: str) -> None:
        parity_app.Turn.now = name
        try:
            waits = self.waits[name]
            if waits is None or (waits() if callable(waits) else waits.ready()):
                self.waits[name] = next(self.running[name])
        except StopIteration as end:
            self.outcomes[name] = end.value
            del self.running[name]
        except Exception as error:
            self.outcomes[name] = f"raised {error!r}"
            del self.running[name]
        finally:
            parity_app.Turn.now = ""


class Names:
    """Equal names for what cannot be equal."""

    def __init__(self, names: dict[str, str]) -> None:
        self.names = names

    def of(self, value: Any) -> Any:
        if isinstance(value, dict):
            if isinstance(value.get("stamped_headers"), list):  # made from a set
                value = {**value, "stamped_headers": sorted(value["stamped_headers"])}
            return {
                key: self.of(item) for key, item in sorted(value.items()) if key not in ("reply_to", "origin")
            }
        if isinstance(value, list | tuple):
            return [self.of(item) for item in value]
        if isinstance(value, str):
            return self._text(value)
        return value if isinstance(value, int | float | bool | None) else repr(value)

    def _text(self, text: str) -> str:
        if text in self.names:
            return f"<{self.names[text]}>"
        text = UUID.sub(lambda found: f"<{self.names.get(found[0], 'id')}>", text)
        if len(text) > 400:
            return "<long text>"  # cut off somewhere
        text = re.sub(r"\d{4}-\d\d-\d\dT[\d:.+]+", "<time>", text)
        text = re.sub(r"gen\d+@[\w.-]+", "<client>", text)
        text = re.sub(r"bal\.lane\.[\w.]+", "celery", text)  # a balanced task's queue is its lane
        text = re.sub(r"own-[\w-]+", "own", text)
        return re.sub(r"0x[0-9a-f]+|\bpid \d+|Job: \d+", "<number>", text)

    def traceback(self, text: str | None) -> Any:
        """The task's own frames and what was said last; between them are Celery's frames and ours."""
        if not text:
            return text
        frames = re.findall(r'parity_app\.py", line \d+, in (\w+)', text)
        return [frames, self._text(text.strip().splitlines()[-1])]


def stored(names: Names, task_id: str) -> Any:
    """What the backend has of a task, and for how many hours it will."""
    backend = parity_app.app.backend
    key = backend.get_key_for_task(task_id)
    raw = backend.client.get(key)
    if raw is None:
        return None
    meta = backend.decode(raw)
    dated = meta.pop("date_done", None) is not None
    traceback = names.traceback(meta.pop("traceback", None))
    meta["children"] = sorted(map(repr, names.of(meta.get("children") or [])))
    if isinstance(meta.get("result"), dict):
        meta["result"].pop("pid", None)
    return [names.of(meta), traceback, dated, round(backend.client.ttl(key) / 3600)]


def attempts(names: Names, log: list[tuple[str, Any, str]]) -> dict[str, list[Any]]:
    """What was logged, by attempt: between two attempts, and two processes, there is no fixed order."""
    found: dict[str, list[Any]] = {}
    for word, detail, attempt in log:
        found.setdefault(attempt, []).append([word, names.of(detail)])
    return found


def history(client: Client, listener: Listener, with_events: bool) -> dict[str, list[Any]]:
    """By scenario, each of its tasks: what was logged, told, published and stored of it."""
    hashes = [client.client.hgetall(f"{parity_app.NAME}:{what}") for what in ("scenarios", "names")]
    names, log = Names(hashes[1]), client.log()
    found: dict[str, list[Any]] = {}
    for task_id, scenario in hashes[0].items():
        heard = [e for e in listener.events if e.get("uuid") == task_id] if with_events else []
        keys = [key for key in TOLD if scenario not in ANY_PARENT or key not in ("root_id", "parent_id")]
        told = [{key: names.of(e[key]) for key in keys if key in e} for e in heard]
        # Who sends a task tells of it over a connection of its own.
        told.sort(key=lambda event: json.dumps(event) if event["type"] == "task-sent" else "")
        found.setdefault(scenario, []).append(
            {
                "name": hashes[1][task_id],
                "log": attempts(names, [entry[1:] for entry in log if entry[0] == task_id]),
                "events": [[event for event in told if event["type"] in kinds] for kinds in ORDERED],
                "published": [status for who, status in listener.told if who == task_id],
                "stored": None if scenario in ANY_PARENT else stored(names, task_id),
            }
        )
    return {
        name: sorted(tasks, key=lambda one: json.dumps(one, sort_keys=True, default=repr))
        for name, tasks in found.items()
    }


def waits(predicate: Any, limit_s: float = 15) -> None:
    """Until it holds or the time is over: what is missing then will differ."""
    until = time.monotonic() + limit_s
    while not predicate() and time.monotonic() < until:
        threading.Event().wait(0.05)


def main(file: str, part: str = "prefork") -> None:
    client, listener = Client(), Listener()
    with_events = part == "prefork"
    waits(lambda: parity_app.app.control.ping(timeout=0.5, limit=1), 60)
    turns = Turns(client, scenarios(part))
    outcomes = turns.run()
    with redis.Redis.from_url(parity_app.app.conf.result_backend) as broker:
        waits(lambda: not broker.hlen("unacked"))
        outcomes["nothing_is_left"] = [broker.hlen("unacked"), broker.zcard("unacked_index")]
    # Events of one worker come in their order: when this one's are here, all others' are.
    last = parity_app.add.delay(0, 0)
    kinds = ("task-sent", "task-succeeded") if with_events else ()
    waits(lambda: last.ready() and all(listener.heard(kind, last.id) for kind in kinds))
    names = Names(client.client.hgetall(f"{parity_app.NAME}:names"))
    tasks = history(client, listener, with_events)
    found = {name: {"outcome": names.of(outcomes[name]), "tasks": tasks.get(name, [])} for name in outcomes}
    Path(file).write_text(json.dumps(found, indent=1, sort_keys=True, default=repr))


if __name__ == "__main__":
    main(*sys.argv[1:])
