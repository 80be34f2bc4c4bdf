"""Sets the stage of a demo: Redis, the folder, the processes; and clears it, whatever happens.

What it starts it ends. A Redis of one's own is only used when it was named.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from balancer.adapters.embedded_redis import EmbeddedRedis, find
from balancer.demo.children import Child, Children
from balancer.demo.crew import Member, crew
from balancer.demo.look import ENVIRONMENT, redis_sentence, write_environment
from balancer.demo.place import Place
from balancer.demo.settings import LEDGER
from balancer.demo.watch import Watch
from balancer.errors import BalancerError, NoRedisError

#: The database of the independent book, on the same server and apart from the broker's.
WATCH_DATABASE: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What was asked for on the command line. `seconds` is the time the whole should take, about."""

    seconds: float = 120.0
    jobs: int = 320
    strategy: str = "priced"
    seed: int = 0
    warm: bool = True
    kill_beat: bool = False
    second_balancer: bool = False
    flower: bool = True
    redis_url: str | None = None
    folder: Path = field(default_factory=lambda: Path("demo-out"))

    @property
    def bound_s(self) -> float:
        """The lower bound that the work is scaled to: half of the time there is."""
        return self.seconds / 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """What stands: the app, the independent book, and the processes. `redis` is a sentence."""

    app: Any
    redis: str
    place: Place
    watch: Watch
    children: Children
    flower_url: str | None = None

    def start(self, members: Sequence[Member]) -> None:
        """Beat, and the workers that are there from the beginning, all at once."""
        self.start_beat("beat")
        for member in members:
            if not member.joins_later:
                self.start_worker(member)

    def start_worker(self, member: Member) -> Child:
        """One worker process, as a user would start it."""
        return self.children.start(
            member.name, "worker", "--hardware", member.hardware, "-n", member.name, "-P", member.pool,
            "-c", "1", "-l", "INFO", "-E", "--without-mingle", "--without-gossip",
        )

    def start_beat(self, name: str) -> Child:
        """Beat with the balancer in it."""
        schedule = self.children.folder / f"{name}-schedule"
        return self.children.start(name, "beat", "-l", "INFO", "-s", str(schedule), "--pidfile=")


@contextmanager
def stage(
    make_app: Callable[[Place], Any], name: str, options: Options, block_s: float
) -> Iterator[Stage]:
    """Everything but the workers, standing while the context lasts. `make_app` makes the app for
    this process, which publishes; its children find theirs under the module path `name`.

    Raises `NoRedisError` when there is no Redis and none can be started, or the given one is silent.
    """
    options.folder.mkdir(parents=True, exist_ok=True)
    folder = options.folder.resolve()
    _clear(folder)
    with _redis(options.redis_url) as (url, sentence):
        place = Place(redis=url, watch=_other_database(url), folder=str(folder), strategy=options.strategy,
                      block_s=block_s, warm=options.warm)
        watch = Watch(place.watch)
        if watch.client.dbsize():
            raise BalancerError("the demo keeps its book in database 1 of the given Redis; it is not empty")
        children = Children(name, place.environment(), folder)
        write_environment(place, folder)
        try:
            flower_url = _start_flower(children, place.redis) if options.flower else None
            yield Stage(
                app=make_app(place), redis=sentence, place=place, watch=watch, children=children,
                flower_url=flower_url,
            )
        finally:
            children.stop()
            watch.client.flushdb()


@contextmanager
def _redis(given: str | None) -> Iterator[tuple[str, str]]:
    """The URL of the demo's Redis, and a sentence on what it is."""
    found = find(given)
    if found.note:
        raise NoRedisError(f"the Redis that was given is of no use: {found.note}")
    if found.kind == "url":
        yield found.url, redis_sentence(found, found.url)
        return
    with EmbeddedRedis(found.binary) as server:
        yield server.url, redis_sentence(found, server.url)


def _other_database(url: str) -> str:
    """The same server's database of the book."""
    base, _, database = url.rpartition("/")
    if not database.isdigit():
        raise BalancerError(f"the Redis URL must end in a database number, such as /0: {url}")
    return f"{base}/{WATCH_DATABASE if int(database) != WATCH_DATABASE else WATCH_DATABASE + 1}"


def _clear(folder: Path) -> None:
    """Remove what an earlier demo left in its folder, and nothing else."""
    logs = [f"{name}.log" for name in ("beat", "beat-2", "flower", "report")]
    logs += [f"{member.name.partition('@')[0]}.log" for member in crew()]
    left = (f"{LEDGER}*", "report.html", "foreign-load-*", "beat-schedule*", "beat-2-schedule*", "book.jsonl",
            ENVIRONMENT)
    for pattern in (*left, *logs):
        for path in folder.glob(pattern):
            path.unlink()


def _start_flower(children: Children, broker: str) -> str | None:
    """Flower on a free port; `None` when it is not installed. It reads queue lengths by the scheme of the
    broker's URL and knows the stock ones; the environment hides the password that an argument would show."""
    if find_spec("flower") is None:
        return None
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    children.start("flower", "flower", "--address=127.0.0.1", f"--port={port}", BROKER_URL=broker)
    return f"http://127.0.0.1:{port}"
