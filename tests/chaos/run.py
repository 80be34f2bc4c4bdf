"""One run: a fleet, its Redis, a client that publishes and reads, what disturbs them, and the count."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from redis.exceptions import RedisError

from balancer.adapters.embedded_redis import EmbeddedRedis
from tests.chaos.broker import ChaosRedis
from tests.chaos.calls import Publisher
from tests.chaos.crew import Crew
from tests.chaos.disturb import Disturber
from tests.chaos.journal import Journal
from tests.chaos.ledger import Ledger
from tests.chaos.moves import Mover
from tests.chaos.nursery import Nursery
from tests.chaos.partition import Wire
from tests.chaos.verdict import (
    Verdict,
    culprits,
    doubles,
    judge_doubles,
    judge_leftovers,
    judge_lost,
    judge_work,
    reached,
)

#: Tasks that may be published and not ended. Enough that no worker ever waits for the client.
AHEAD: Final = 400

#: Once nothing disturbs the fleet any more, this long (s) without an end means that none will come.
PATIENCE_S: Final = 25.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    seed: int
    tasks: int
    kills: int
    every_s: float
    transport: str
    logs: Path


@dataclass(slots=True, kw_only=True)
class Client:
    """Reads what became of each call, as a client of the result backend does."""

    publisher: Publisher
    ledger: Ledger
    results: Any
    wrong: dict[str, str] = field(default_factory=dict)

    def look(self) -> int:
        """Close what has ended; returns how many did."""
        self.ledger.look()
        opened = list(self.publisher.open.items())
        silent = [task_id for task_id, (_, end) in opened if end == "silent"]
        told = [(task_id, end) for task_id, (_, end) in opened if end != "silent"]
        ended = [task_id for task_id in silent if task_id in self.ledger.ended]
        try:
            metas = self.results.mget([f"celery-task-meta-{task_id}" for task_id, _ in told]) if told else []
        except (RedisError, OSError):
            metas = []
        for (task_id, end), raw in zip(told, metas, strict=False):
            what = reached(raw, end)
            if what == "wrong":
                self.wrong[task_id] = f"WRONG: expected {end!r}, the client reads {raw!r}"
            if what != "open":
                ended.append(task_id)
        for task_id in ended:
            self.publisher.open.pop(task_id, None)
        return len(ended)


@contextmanager
def setting(options: Options) -> Iterator[tuple[ChaosRedis, str, Crew, Any]]:
    """Broker, ledger, crew and this process's client app."""
    with ExitStack() as stack:
        server = stack.enter_context(ChaosRedis(options.logs))
        ledger_url = stack.enter_context(EmbeddedRedis()).url
        environment = {
            "CHAOS_URL": server.url,
            "CHAOS_LEDGER": ledger_url,
            "CHAOS_TRANSPORT": options.transport,
        }
        os.environ.update(environment)
        from celery import _state

        from tests.chaos import app as tasks

        tasks.app.conf.update(broker_url=tasks.broker_of(server.url), result_backend=server.url)
        # This client reads results by itself: no subscription for each of them.
        _state._set_task_join_will_block(True)
        wire = Wire(server.port)
        crew = Crew(url=server.url, nursery=Nursery(environment), wire=wire, logs=options.logs)
        stack.callback(crew.close)
        for name in (*crew.workers, "beat"):
            crew.start(name)
        crew.ready()
        yield server, ledger_url, crew, tasks


def run(options: Options) -> Verdict:
    verdict = Verdict(seeds=[options.seed], transport=options.transport)
    with setting(options) as (server, ledger_url, crew, tasks):
        began = time.monotonic()
        chance = random.Random(options.seed)
        disturber = Disturber(
            crew=crew,
            server=server,
            random=chance,
            kills=options.kills,
            every_s=options.every_s,
            published=lambda: publisher.published / options.tasks,
        )
        publisher = Publisher(
            tasks=tasks,
            random=random.Random(chance.random()),
            wanted=options.tasks,
            ahead=AHEAD,
            share=disturber.share,
        )
        client = Client(publisher=publisher, ledger=Ledger(url=ledger_url), results=crew.client)
        mover = Mover(crew=crew, app=tasks.app, random=random.Random(chance.random()), every_s=0.1)
        act(publisher, client, disturber, mover)
        verdict.seconds = time.monotonic() - began
        settle(crew)
        judge_leftovers(verdict, crew.client, crew.keys)
        verdict.kills = disturber.killed_so_far()
        verdict.disturbances = disturber.done
        verdict.moves_asked = mover.asked
        slow = [one.until - one.since for one in disturber.recoveries if one.until and one.held]
        verdict.recovery_max_s = round(max(slow, default=0.0), 2)
        pieces = server.journal()
        judge(verdict, client, pieces, disturber)
    return verdict


def act(publisher: Publisher, client: Client, disturber: Disturber, mover: Mover) -> None:
    """Publish and disturb until both are done, then wait until all is quiet."""
    over, calm = threading.Event(), threading.Event()
    threads = [
        _thread(publisher.run, over),
        _thread(disturber.run, over),
        _thread(mover.run, calm),
        _thread(_watch, calm, disturber),
    ]
    try:
        while threads[0].is_alive() or threads[1].is_alive():
            client.look()
            calm.wait(0.1)
        since = time.monotonic()
        while publisher.open and time.monotonic() - since < PATIENCE_S:
            if client.look():
                since = time.monotonic()
            calm.wait(0.1)
    finally:
        over.set()
        calm.set()
        for thread in threads:
            thread.join(timeout=60)


def _thread(target: Callable[..., None], *arguments: Any) -> threading.Thread:
    thread = threading.Thread(target=target, args=arguments, name=target.__qualname__)
    thread.start()
    return thread


def _watch(over: threading.Event, disturber: Disturber) -> None:
    while not over.wait(0.05):
        disturber.watch()


def settle(crew: Crew) -> None:
    """Let acks and reports come to their end before what lies about is counted."""
    pause = threading.Event()
    for _ in range(40):
        if not crew.client.hlen(crew.keys.unacked):
            return
        pause.wait(0.1)


def judge(verdict: Verdict, client: Client, pieces: list[Path], disturber: Disturber) -> None:
    publisher, ledger = client.publisher, client.ledger
    ledger.look()
    lost = culprits(publisher.open, client.wrong)
    journal = Journal(curious=frozenset((*publisher.open, *client.wrong))).read(pieces)
    found = doubles(journal, ledger)
    if found:
        curious = frozenset((*publisher.open, *client.wrong, *found))
        journal = Journal(curious=curious).read(pieces)
    verdict.tasks, verdict.calls = publisher.published, len(publisher.calls)
    verdict.publishes_repeated = publisher.refused
    verdict.tasks_per_s = round(verdict.tasks / verdict.seconds, 1)
    verdict.wrong = len(client.wrong)
    for task_id, what in client.wrong.items():
        verdict.stories[task_id] = [what, *journal.story.get(task_id, [])[-40:]]
    judge_lost(verdict, lost, journal, ledger)
    judge_doubles(verdict, found, journal, ledger)
    judge_work(verdict, journal, ledger, disturber.killed)
