"""A process dies right before or right after each script: the task ends once all the same.

Each case has a worker of its own, which takes one task and kills itself at its moment; others
take over. All cases share one Redis, whose append-only file is the witness.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
import pytest
import redis
from celery import chord
from celery._state import _set_task_join_will_block

from balancer.adapters.embedded_redis import EmbeddedRedis
from balancer.adapters.redis_handover import RedisHandOver
from balancer.adapters.redis_keys import Keys
from balancer.model import Move, Score
from balancer.routing import direct_queue
from tests.chaos.broker import ChaosRedis
from tests.chaos.journal import Journal
from tests.chaos.ledger import Ledger
from tests.chaos.nursery import Nursery
from tests.chaos.verdict import READY, doubles
from tests.waiting import wait_until

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]

TRANSPORT = "balanced-redis"

#: Cases at once: workers start by a fork, so most of a case is waiting.
AT_ONCE = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """`shape` is the call, `point` and `when` the moment, `whole` whether the whole worker dies."""

    shape: str
    point: str
    when: str
    whole: bool = True
    pool: str = "prefork"

    @property
    def name(self) -> str:
        who = "worker" if self.whole else "process"
        return f"{self.when}-{self.point}-{self.shape}-{self.pool}-{who}".replace(" ", "_")


def moments(shape: str, *points: str, whole: bool = True, pool: str = "prefork") -> list[Case]:
    return [
        Case(shape=shape, point=point, when=when, whole=whole, pool=pool)
        for point in points
        for when in ("before", "after")
    ]


CASES = [
    Case(shape="plain", point="pop", when="after"),
    *moments("plain", "started", "finish", "ack"),
    *moments("plain", "finish", whole=False),
    *moments("silent", "ack"),
    *moments("linked", "commit", "callback", "result", "ack"),
    *moments("linked", "commit", "callback", "result", whole=False),
    *moments("member", "chord"),
    *moments("member", "chord", whole=False),
    *moments("failing", "commit", "failure", "callback", "ack"),
    *moments("failing", "commit", "failure", whole=False),
    *moments("retried", "retry result", "ack"),
    *moments("step", "checkpoint", "report"),
    *moments("step", "checkpoint", whole=False),
    *moments("plain", "begin", "finish", "ack", pool="threads"),
    *moments("leaving", "relinquish"),
    *moments("leaving", "relinquish", whole=False),
    *moments("reserved", "relinquish"),
]


@dataclass(slots=True, kw_only=True)
class Stage:
    """The Redis, its ledger, the nursery and the app as a client of it."""

    server: ChaosRedis
    ledger: Ledger
    nursery: Nursery
    tasks: Any
    logs: Path
    keys: Keys = field(default_factory=Keys)
    pids: list[int] = field(default_factory=list)
    lasting: list[int] = field(default_factory=list)

    def worker(self, name: str, pool: str, crash: dict[str, Any] | None = None, slots: int = 1) -> int:
        arguments = [
            "worker", "-n", f"{name}@crash", "--hardware", "cpu", "-c", str(slots), "-P", pool,
            "--prefetch-multiplier", "2", "-l", "info", "--without-mingle", "--without-gossip",
        ]  # fmt: skip
        environment = {"CRASH": json.dumps(crash)} if crash else {}
        pid = self.nursery.start(name, arguments, self.logs / f"{name}.log", **environment)
        self.pids.append(pid)
        return pid

    def beat(self, name: str, crash: dict[str, Any] | None = None) -> int:
        arguments = [
            "beat", "-l", "info", "-s", str(self.logs / name), "--pidfile=", "--check-interval", "1",
            "--db-path", "",
        ]  # fmt: skip
        environment = {"CRASH": json.dumps(crash)} if crash else {}
        pid = self.nursery.start(name, arguments, self.logs / f"{name}.log", **environment)
        self.pids.append(pid)
        return pid

    def client(self) -> redis.Redis:
        return redis.Redis.from_url(self.server.url)

    def reports(self, name: str) -> bool:
        with self.client() as client:
            return bool(client.hexists(self.keys.beats, f"{name}@crash"))

    def words(self, task_id: str) -> list[str]:
        with redis.Redis.from_url(self.ledger.url, decode_responses=True) as client:
            lines = [line.split("\t") for line in client.lrange("ledger", 0, -1)]
        return [line[0] for line in lines if line[1] == task_id]

    def crashed(self, case: Case) -> bool:
        with redis.Redis.from_url(self.ledger.url) as client:
            return bool(client.exists(f"crashed:{case.name}"))

    def said(self, name: str) -> str:
        path = self.logs / f"{name}.log"
        return path.read_text()[-3000:] if path.exists() else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """The ids of a case's task and callback, and the value that each must have; `None` for a failure."""

    ends: dict[str, int | None]
    silent: str = ""


def play(stage: Stage, case: Case, number: int) -> Played:
    """Start the case's worker, make its call, and wait until it has died and the call has ended."""
    name, ids = f"v{number}", (str(uuid4()), str(uuid4()))
    crash = {"case": case.name, "point": case.point, "when": case.when, "id": ids[0], "other": ids[1]}
    pid = stage.worker(name, case.pool, {**crash, "whole": case.whole})
    try:
        return through(stage, case, name, pid, ids)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)


def through(stage: Stage, case: Case, name: str, pid: int, ids: tuple[str, str]) -> Played:
    wait_until(lambda: stage.reports(name), f"{name} reports: {stage.said(name)}")
    played = publish(stage, case, name, ids)
    wait_until(lambda: stage.crashed(case), f"{case.name} has its moment: {stage.said(name)}")
    if case.whole:
        wait_until(lambda: not psutil.pid_exists(pid), f"{name} is dead")
    for task_id in played.ends:
        wait_until(partial(ended, stage, task_id), f"{task_id} of {case.name} ends: {stage.said(name)}")
    if played.silent:
        wait_until(lambda: "end" in stage.words(played.silent), f"the body of {case.name} ends")
    return played


@contextmanager
def _no_subscriptions() -> Iterator[None]:
    """Nobody here waits for results as a client does, so that none is left when the server is gone."""
    _set_task_join_will_block(True)
    try:
        yield
    finally:
        _set_task_join_will_block(False)


def ended(stage: Stage, task_id: str) -> bool:
    with stage.client() as client:
        raw = client.get(f"celery-task-meta-{task_id}")
    return bool(raw) and json.loads(raw)["status"] in READY


def publish(stage: Stage, case: Case, name: str, ids: tuple[str, str]) -> Played:
    """Make the call of a case in the worker's own queue, and move it where the case is a move."""
    tasks, queue = stage.tasks, direct_queue(f"{name}@crash")
    where = {"queue": queue, "task_id": ids[0]}
    if case.shape == "plain":
        tasks.quick.apply_async((7,), **where)
    elif case.shape == "silent":
        tasks.silent.apply_async((7,), **where)
        return Played(ends={}, silent=ids[0])
    elif case.shape == "linked":
        link = tasks.quick.s(other=1).set(task_id=ids[1])
        tasks.quick.apply_async((7,), link=link, **where)
        return Played(ends={ids[0]: 7, ids[1]: 8})
    elif case.shape == "member":
        other = tasks.quick.s(1).set(queue=direct_queue("r0@crash"))
        with _no_subscriptions():
            chord([tasks.quick.s(7).set(**where), other])(tasks.total.s().set(task_id=ids[1]))
        return Played(ends={ids[0]: 7, ids[1]: 8})
    elif case.shape == "failing":
        errback = tasks.errback.s().set(task_id=ids[1])
        tasks.broken.apply_async(link_error=errback, **where)
        return Played(ends={ids[0]: None, ids[1]: 0})
    elif case.shape == "retried":
        tasks.flaky.apply_async((1, 1.0), **where)
        return Played(ends={ids[0]: 1})
    elif case.shape == "step":
        tasks.step.apply_async((0, 7), {"pause_s": 0.1}, **where)
    elif case.shape == "leaving":
        tasks.step.apply_async((-23, 30), {"pause_s": 0.1}, **where)
        wait_until(lambda: "step" in stage.words(ids[0]), f"{case.name} runs")
        move(stage, "running", ids[0], name)
    else:
        tasks.whole.apply_async((0, 2.0), queue=queue)
        tasks.quick.apply_async((7,), **where)
        wait_until(lambda: reserved(stage, name, ids[0]), f"{case.name} waits")
        move(stage, "reserved", ids[0], name)
    return Played(ends={ids[0]: 7})


def reserved(stage: Stage, name: str, task_id: str) -> bool:
    with stage.client() as client:
        raw = client.hget(stage.keys.holds, f"{name}@crash") or b""
    return task_id.encode() in raw.partition(b'"reserved"')[2]


def move(stage: Stage, kind: Any, task_id: str, source: str) -> None:
    from balancer.adapters.redis_connection import connect

    app = stage.tasks.app

    def tell(worker: str, arguments: Any) -> None:
        app.control.broadcast("balancer_relinquish", arguments=dict(arguments), destination=[worker])

    RedisHandOver(connect(app), tell).request(
        Move(
            move_id=f"m-{task_id}", task_id=task_id, profile="p", kind=kind, source=f"{source}@crash",
            target="r0@crash", target_queue=direct_queue("r0@crash"), reason="test",
            score=Score(cost=0.0, benefit=1.0), at=0.0,
        ),
        timeout_s=20,
    )  # fmt: skip


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Two workers that never die by themselves, and room for those that do."""
    logs = tmp_path_factory.mktemp("crash")
    with ExitStack() as stack:
        server = stack.enter_context(ChaosRedis(logs))
        ledger = Ledger(url=stack.enter_context(EmbeddedRedis()).url)
        environment = {
            "CHAOS_URL": server.url,
            "CHAOS_LEDGER": ledger.url,
            "CHAOS_TRANSPORT": TRANSPORT,
            "CHAOS_HEARTBEAT_TTL": "1.5",
        }
        os.environ.update(environment)
        import tests.chaos.app as tasks

        tasks.app.conf.update(broker_url=tasks.broker_of(server.url), result_backend=server.url)
        nursery = Nursery(environment, "tests.system.crash_app")
        stack.callback(nursery.close)
        built = Stage(server=server, ledger=ledger, nursery=nursery, tasks=tasks, logs=logs)
        stack.callback(end, built)
        for name in ("r0", "r1"):
            built.lasting.append(built.worker(name, "threads", slots=3))
        wait_until(lambda: built.reports("r0") and built.reports("r1"), "the workers report")
        # Each lane is known from its first call; what a dead worker leaves in its own queue goes there.
        for task, arguments in ((tasks.quick, (0,)), (tasks.silent, (0,)), (tasks.step, (0, 1)),
                                (tasks.flaky, (0,)), (tasks.whole, (0, 0.0)), (tasks.broken, ())):
            task.apply_async(arguments)
        yield built
        tasks.app.pool.force_close_all()


def end(stage: Stage) -> None:
    for pid in stage.pids:
        if psutil.pid_exists(pid):
            os.killpg(pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def plays(stage: Stage) -> Iterator[dict[str, Future[Played]]]:
    """Every case, a few at once."""
    with ThreadPoolExecutor(AT_ONCE) as threads:
        yield {case.name: threads.submit(play, stage, case, n) for n, case in enumerate(CASES)}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_death_at_this_moment_costs_no_end_and_makes_no_second(
    stage: Stage, plays: dict[str, Future[Played]], case: Case
) -> None:
    played = plays[case.name].result(timeout=200)
    with stage.client() as client:
        for task_id, value in played.ends.items():
            meta = json.loads(client.get(f"celery-task-meta-{task_id}") or b"{}")
            assert meta["status"] == ("FAILURE" if value is None else "SUCCESS"), meta
            assert meta["result"].get("v") == value
    ends_once(stage, {*played.ends, played.silent} - {""})


@pytest.mark.parametrize("when", ["before", "after"])
def test_who_dies_as_it_recovers_leaves_it_to_the_next(
    stage: Stage, plays: dict[str, Future[Played]], when: str
) -> None:
    all_played(plays)
    case, task_id = Case(shape="dying", point="recover", when=when), str(uuid4())
    crash = {"case": case.name, "point": "recover", "when": when, "id": task_id, "other": "", "whole": True}
    doomed, recoverer = stage.worker(f"doomed-{when}", "threads"), stage.worker(f"heir-{when}", "solo", crash)
    for name in (f"doomed-{when}", f"heir-{when}"):
        wait_until(partial(stage.reports, name), f"{name} reports: {stage.said(name)}")
    where = {"queue": direct_queue(f"doomed-{when}@crash"), "task_id": task_id}
    stage.tasks.step.apply_async((0, 7), {"pause_s": 0.2}, **where)
    wait_until(lambda: "step" in stage.words(task_id), "it runs")
    os.killpg(doomed, signal.SIGKILL)
    with frozen(stage.lasting):
        wait_until(lambda: stage.crashed(case), f"it recovers and dies: {stage.said(f'heir-{when}')}")
        wait_until(lambda: not psutil.pid_exists(recoverer), "it is dead")
    wait_until(partial(ended, stage, task_id), "the task ends")
    ends_once(stage, {task_id})


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_beat_that_dies_as_it_remembers_is_followed_by_another(
    stage: Stage, plays: dict[str, Future[Played]], when: str
) -> None:
    all_played(plays)
    case = Case(shape="beat", point="save_memory", when=when)
    crash = {"case": case.name, "point": "save_memory", "when": when, "id": "", "other": "", "whole": True}
    stage.beat(f"beat-{when}", crash)
    wait_until(lambda: stage.crashed(case), f"it dies: {stage.said(f'beat-{when}')}")
    with stage.client() as client:
        before = int(client.hget(stage.keys.memory, "fence") or 0)
        heir = stage.beat(f"beat-after-{when}")
        try:
            task_id = stage.tasks.quick.apply_async((7,)).id
            wait_until(
                lambda: int(client.hget(stage.keys.memory, "fence") or 0) > before,
                f"another writes: {stage.said(f'beat-after-{when}')}",
                40,
            )
            wait_until(partial(ended, stage, task_id), "work goes on")
        finally:
            os.killpg(heir, signal.SIGKILL)


def all_played(plays: dict[str, Future[Played]]) -> None:
    for played in plays.values():
        with suppress(Exception):
            played.result(timeout=200)


@contextmanager
def frozen(pids: list[int]) -> Iterator[None]:
    for pid in pids:
        os.killpg(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.killpg(pid, signal.SIGCONT)


def ends_once(stage: Stage, ids: set[str]) -> None:
    """No other end of these tasks came through, by the broker's file and the ledger."""
    stage.ledger.look()
    journal = Journal(curious=frozenset(ids)).read(stage.server.journal())
    found = {i: why for i, why in doubles(journal, stage.ledger).items() if i in ids}
    assert not found, "\n".join([str(found), *(line for i in ids for line in journal.story[i])])


def test_nothing_is_left_behind(stage: Stage, plays: dict[str, Future[Played]]) -> None:
    all_played(plays)
    with stage.client() as client:
        wait_until(lambda: not client.hlen(stage.keys.unacked), "every delivery has ended")
        assert client.zcard(stage.keys.unacked_index) == 0
        assert list(client.scan_iter(match=stage.keys.ours("held", "*"))) == []
        assert list(client.scan_iter(match="bal.*", _type="list")) == []
