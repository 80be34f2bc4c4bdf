"""The same tasks as a plain app and as a balanced one, each body and signal told to a ledger.

`PARITY_FLAVOUR` is "plain" or "balanced", `PARITY_SIGNALS` "1" to have receivers for the signals of
a run too (a task that nobody listens to takes a shorter way to its end); `BALANCER_TEST_URL` is
backend and, without `BALANCER_TEST_BROKER`, broker; `BALANCER_TEST_LEDGER` is the ledger, whose keys
begin with `PARITY_NAME`.
"""

from __future__ import annotations

import json
import os
import time
from functools import partial
from typing import Any

import redis
from celery import Celery, Task, chain, chord, current_task, group, signals
from celery.contrib.abortable import AbortableTask
from celery.exceptions import Ignore, Reject, SoftTimeLimitExceeded

URL = os.environ.get("BALANCER_TEST_URL", "redis://127.0.0.1:6379/0")
LEDGER = os.environ.get("BALANCER_TEST_LEDGER", URL)
NAME = os.environ.get("PARITY_NAME", "parity")
BALANCED = os.environ.get("PARITY_FLAVOUR") == "balanced"
SIGNALS = os.environ.get("PARITY_SIGNALS") == "1"

app = Celery("parity", broker=os.environ.get("BALANCER_TEST_BROKER") or URL, backend=URL)
app.conf.update(
    broker_connection_retry_on_startup=True,
    accept_content=["json", "pickle"],
    result_accept_content=["json", "pickle"],
    result_extended=True,
    task_send_sent_event=True,
    worker_send_task_events=True,
    task_default_priority=5,
    task_routes={"parity.routed": {"queue": "own"}},
    worker_prefetch_multiplier=4,
    worker_max_tasks_per_child=30,
    worker_max_memory_per_child=250_000,
)
if BALANCED:
    from workers import BalancedTask, install
    from workers.task import BalancedMixin

    app.conf.update(balancer_heartbeat_interval=0.5, balancer_db_path="")
    install(app)
    Base: Any = BalancedTask

    class Abortable(BalancedMixin, AbortableTask):  # type: ignore[misc]
        abstract = True
else:

    class Base(Task):  # type: ignore[misc,no-redef]
        """A plain task that promises what a balanced one does: it is acknowledged when it has ended."""

        abstract = True
        acks_late = True
        reject_on_worker_lost = True

    class Abortable(AbortableTask):  # type: ignore[misc,no-redef]
        abstract = True
        acks_late = True
        reject_on_worker_lost = True


task = partial(app.task, shared=False, base=Base, bind=True)


def ledger() -> Any:
    """The ledger of all that happened; nothing of the balancer writes to it."""
    return redis.Redis.from_url(LEDGER, decode_responses=True)


def say(task_id: str | None, word: str, detail: Any = None) -> None:
    """Tell the ledger, with the attempt that says it: "" is none, as in a worker's main process.

    What is published has none either: which member publishes a chord's body is a race.
    """
    ran = getattr(current_task, "request", None) if word != "published" else None
    attempt = f"{current_task.name} {ran.retries} {ran.replaced_task_nesting}" if ran is not None else ""
    ledger().rpush(f"{NAME}:log", json.dumps([task_id, word, detail, attempt], default=repr))


# Whose scenario a message belongs to: its root's or its parent's, or that of the client's turn.


class Turn:
    """The scenario whose turn it is in the client."""

    now = ""


@signals.before_task_publish.connect(weak=False)  # type: ignore[untyped-decorator]
def enter(headers: Any = None, **_: Any) -> None:
    with ledger() as client:
        kin = [headers.get(key) for key in ("root_id", "parent_id") if headers.get(key)]
        known = client.hmget(f"{NAME}:scenarios", kin) if kin else []
        scenario = Turn.now or next((name for name in known if name), "")
        client.hset(f"{NAME}:scenarios", headers["id"], scenario)
        client.hset(f"{NAME}:names", headers["id"], headers["task"])
    say(headers["id"], "published", headers.get("retries"))


@signals.task_received.connect(weak=False)  # type: ignore[untyped-decorator]
def received(request: Any = None, **_: Any) -> None:
    say(request.id, "signal received")


@signals.task_revoked.connect(weak=False)  # type: ignore[untyped-decorator]
def revoked(request: Any = None, terminated: Any = None, expired: Any = None, **_: Any) -> None:
    say(request.id, "signal revoked", [bool(terminated), bool(expired)])


@signals.task_unknown.connect(weak=False)  # type: ignore[untyped-decorator]
def unknown(name: Any = None, id: Any = None, **_: Any) -> None:
    say(id, "signal unknown", name)


@signals.task_failure.connect(weak=False)  # type: ignore[untyped-decorator]
def failed(task_id: Any = None, exception: Any = None, **_: Any) -> None:
    say(task_id, "signal failure", repr(exception))


@signals.task_retry.connect(weak=False)  # type: ignore[untyped-decorator]
def retried(request: Any = None, reason: Any = None, **_: Any) -> None:
    say(request.id, "signal retry", repr(reason))


if SIGNALS:

    @signals.task_prerun.connect(weak=False)  # type: ignore[untyped-decorator]
    def prerun(task_id: Any = None, args: Any = None, kwargs: Any = None, **_: Any) -> None:
        say(task_id, "signal prerun", [args, kwargs])

    @signals.task_postrun.connect(weak=False)  # type: ignore[untyped-decorator]
    def postrun(task_id: Any = None, retval: Any = None, state: Any = None, **_: Any) -> None:
        say(task_id, "signal postrun", [repr(retval), state])

    @signals.task_success.connect(weak=False)  # type: ignore[untyped-decorator]
    def succeeded(sender: Any = None, result: Any = None, **_: Any) -> None:
        say(sender.request.id, "signal success", repr(result))


def body(self: Any, *detail: Any) -> None:
    say(self.request.id, "body", list(detail))


#: What a balanced task's request has more than a plain one's.
OURS = ("balancer", "balancer_run")


class OnPurpose(Exception):
    """What the tasks raise."""


@task(name="parity.add")
def add(self: Any, x: int, y: int = 0) -> int:
    body(self, x, y)
    return x + y


@task(name="parity.total")
def total(self: Any, values: list[int]) -> int:
    body(self, sorted(values, key=repr))
    return sum(values)


@task(name="parity.echo")
def echo(self: Any, *args: Any, **kwargs: Any) -> Any:
    body(self, args, kwargs)
    return [list(args), kwargs]


@task(name="parity.slow", track_started=True)
def slow(self: Any, seconds: float, value: Any = None) -> Any:
    body(self, "begins")
    time.sleep(seconds)
    body(self, "ends")
    return value


@task(name="parity.gate", track_started=True)
def gate(self: Any) -> None:
    """Ends once the client has said that it is opened."""
    opened, until = json.dumps([self.request.id, "opened", None, ""]), time.monotonic() + 30
    while time.monotonic() < until and ledger().lpos(f"{NAME}:log", opened) is None:
        time.sleep(0.05)


@task(name="parity.fail")
def fail(self: Any, *args: Any) -> None:
    body(self)
    try:
        {}["cause"]
    except KeyError as error:
        raise OnPurpose("said", 7) from error


@task(name="parity.kept", acks_on_failure_or_timeout=False)
def kept(self: Any) -> None:
    body(self)
    raise OnPurpose("not acknowledged")


@task(name="parity.flaky", max_retries=5)
def flaky(self: Any, times: int, value: int = 0) -> int:
    body(self, self.request.retries)
    if self.request.retries < times:
        raise self.retry(countdown=0.1, exc=OnPurpose("again"))
    return value + int(self.request.retries)


@task(name="parity.hopeless", max_retries=2)
def hopeless(self: Any, with_exception: bool = True) -> None:
    body(self, self.request.retries)
    raise self.retry(countdown=0, exc=OnPurpose("to the end") if with_exception else None)


@task(name="parity.other_arguments")
def other_arguments(self: Any, x: int, y: int = 1) -> int:
    body(self, x, y)
    if self.request.retries == 0:
        self.retry(
            args=(x + 1,), kwargs={"y": 10}, countdown=0, throw=False, priority=2, headers={"own": "said"}
        )
        raise Ignore
    return x + y + int(self.request.delivery_info["priority"]) + len(self.request.headers["own"])


@task(
    name="parity.automatic", autoretry_for=(OnPurpose,), retry_backoff=0.05, retry_jitter=False, max_retries=3
)
def automatic(self: Any, times: int) -> int:
    body(self, self.request.retries)
    if self.request.retries < times:
        raise OnPurpose("automatic")
    return int(self.request.retries)


@task(name="parity.replaced")
def replaced(self: Any, kind: str, value: int = 1) -> Any:
    body(self, kind, self.request.replaced_task_nesting)
    ways = {
        "task": lambda: add.s(value, 10),
        "chain": lambda: chain(add.s(value, 10), add.s(100)),
        "group": lambda: group(add.s(value, 10), add.s(value, 20)),
        "chord": lambda: chord([add.s(value, 10), add.s(value, 20)], total.s()),
        "twice": lambda: replaced.s("task", value + 1),
        "fails": lambda: fail.s(),
    }
    return self.replace(ways[kind]())


@task(name="parity.joins_chord")
def joins_chord(self: Any, x: int) -> int:
    body(self, x)
    self.add_to_chord(add.s(x, 1000))
    return x + 1000


@task(name="parity.parent")
def parent(self: Any, times: int) -> str:
    body(self)
    for number in range(times):
        add.delay(number)
    add.apply_async((99,), add_to_parent=False)
    return "called"


@task(name="parity.inline")
def inline(self: Any) -> Any:
    """Calls others in its own process: directly, eagerly, and by asking for a result."""
    body(self)
    eager = add.apply((5, 6))
    from celery.result import allow_join_result

    with allow_join_result():
        waited = add.delay(7, 8).get(timeout=20)
    return [add(1, 2), eager.result, eager.state, waited, self.request.is_eager, self.request.called_directly]


@task(name="parity.asked")
def asked(self: Any, *args: Any, **kwargs: Any) -> Any:
    """What a task can learn of its request."""
    request = self.request
    fields = {key: value for key, value in vars(request).items() if not key.startswith("_")}
    seen: dict[str, Any] = json.loads(json.dumps(fields, default=repr))
    for key in OURS:
        seen.pop(key, None)
        seen["headers"] = {name: said for name, said in (seen["headers"] or {}).items() if name != key}
    for callback in seen["callbacks"] or ():
        # A balanced task's callbacks have their ids before its body begins.
        callback["options"].pop("task_id", None)
    return seen


@task(name="parity.progress")
def progress(self: Any, steps: int) -> None:
    body(self)
    for step in range(steps):
        self.update_state(state="PROGRESS", meta={"step": step})
    raise Ignore


@task(name="parity.done_custom")
def done_custom(self: Any) -> str:
    self.update_state(state="HALF", meta={"half": True})
    return "whole"


@task(name="parity.rejects")
def rejects(self: Any, requeue: bool) -> str:
    body(self, bool(self.request.delivery_info.get("redelivered")))
    if not self.request.delivery_info.get("redelivered"):
        raise Reject("on purpose", requeue=requeue)
    return "second"


@task(name="parity.unpicklable")
def unpicklable(self: Any) -> None:
    class Local(Exception):
        def __init__(self, a: Any, b: Any) -> None:
            super().__init__("only text")

    raise Local(1, lambda: None)


@task(name="parity.not_json")
def not_json(self: Any) -> Any:
    body(self)
    return object


@task(name="parity.soft")
def soft(self: Any, catches: bool) -> str:
    body(self)
    try:
        time.sleep(20)
    except SoftTimeLimitExceeded:
        if not catches:
            raise
    return "caught"


@task(name="parity.declared_limits", soft_time_limit=31, time_limit=61)
def declared_limits(self: Any) -> Any:
    return self.request.timelimit


@task(name="parity.limited", rate_limit="4/s")
def limited(self: Any) -> None:
    body(self)


@task(name="parity.unstored", ignore_result=True)
def unstored(self: Any, x: int) -> int:
    body(self, x)
    return x


@task(name="parity.pickled", serializer="pickle", compression="gzip")
def pickled(self: Any, value: Any) -> Any:
    body(self, repr(value))
    return sorted(value)


@task(name="parity.routed")
def routed(self: Any) -> Any:
    return self.request.delivery_info["routing_key"]


@task(name="parity.memory")
def memory(self: Any, size: int) -> None:
    assert len(b"x" * size) == size
    ledger().set(f"{NAME}:pid", os.getpid())


@task(name="parity.strict")
def strict(self: Any, x: int, *, y: int) -> int:
    body(self, x, y)
    return x + y


@task(name="parity.errback", bind=False)
def errback(request: Any, exc: Any, traceback: Any) -> None:
    """An errback of the new style: called with the request in the process that saw the failure."""
    say(request.id, "errback", [type(exc).__name__, "OnPurpose" in str(traceback)])


@task(name="parity.old_errback")
def old_errback(self: Any, task_id: str) -> None:
    """An errback of the old style: a task of its own, given the failed task's id."""
    say(task_id, "old errback", self.request.parent_id == task_id)


@task(name="parity.abortable", base=Abortable)
def abortable(self: Any) -> str:
    body(self)
    until = time.monotonic() + 20
    while time.monotonic() < until:
        if self.is_aborted():
            say(self.request.id, "aborted")
            return "stopped"
        time.sleep(0.02)
    return "never stopped"


class Hooks(Base):  # type: ignore[misc]
    """All the hooks a task class may have."""

    abstract = True

    def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
        say(task_id, "before_start", [args, kwargs])

    def on_success(self, retval: Any, task_id: str, args: Any, kwargs: Any) -> None:
        say(task_id, "on_success", [retval, args, kwargs])

    def on_failure(self, exc: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        say(task_id, "on_failure", [repr(exc), args, kwargs])

    def on_retry(self, exc: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        say(task_id, "on_retry", [repr(exc), args, kwargs])

    def after_return(
        self, status: str, retval: Any, task_id: str, args: Any, kwargs: Any, einfo: Any
    ) -> None:
        say(task_id, "after_return", [status, repr(retval), args, kwargs])


@task(name="parity.hooked", base=Hooks)
def hooked(self: Any, what: str) -> str:
    body(self)
    if what == "retry" and self.request.retries == 0:
        raise self.retry(countdown=0)
    if what == "fail":
        raise OnPurpose("hooked")
    return what
