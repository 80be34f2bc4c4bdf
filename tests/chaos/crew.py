"""The processes of a run: workers of two pools, a beat, and the wire that one worker hangs on."""

from __future__ import annotations

import json
import os
import signal
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import psutil
import redis
from redis.exceptions import RedisError

from balancer.adapters.redis_keys import Keys
from tests.chaos.nursery import Nursery
from tests.chaos.partition import Wire
from tests.waiting import wait_until

#: Name, pool, slots and hardware of each worker; the last one hangs on the wire.
WORKERS: Final = (
    ("w0", "prefork", 2, "cpu,model=fast"),
    ("w1", "threads", 3, "cpu,model=slow"),
    ("w2", "prefork", 2, "cpu,model=slow"),
    ("w3", "threads", 3, "cpu,model=fast"),
    ("w4", "prefork", 2, "cpu,model=fast"),
)
CLASSES: Final = ("cpu-fast", "cpu-slow")

State = Literal["up", "down", "frozen", "cut"]


@dataclass(slots=True, kw_only=True)
class Crew:
    """Starts, kills, freezes and restarts by name; knows in which state each of them is."""

    url: str
    nursery: Nursery
    wire: Wire
    logs: Path
    keys: Keys = field(default_factory=Keys)
    pids: dict[str, int] = field(default_factory=dict)
    states: dict[str, State] = field(default_factory=dict)
    client: Any = None

    def __post_init__(self) -> None:
        self.client = redis.Redis.from_url(self.url, socket_timeout=5)

    @property
    def workers(self) -> list[str]:
        return [name for name, *_ in WORKERS]

    def start(self, name: str) -> None:
        arguments = self._beat() if name == "beat" else self._worker(name)
        last = name == WORKERS[-1][0]
        url = f"redis://127.0.0.1:{self.wire.port}/0" if last else self.url
        self.pids[name] = self.nursery.start(name, arguments, self.logs / f"{name}.log", CHAOS_URL=url)
        self.states[name] = "up"

    def _worker(self, name: str) -> list[str]:
        _, pool, slots, hardware = next(one for one in WORKERS if one[0] == name)
        prefetch = 1 if name in ("w0", "w1") else 3
        return [
            "worker", "-n", f"{name}@chaos", "--hardware", hardware, "-c", str(slots), "-P", pool,
            "--prefetch-multiplier", str(prefetch), "-l", "info", "--without-mingle", "--without-gossip",
        ]  # fmt: skip

    def _beat(self) -> list[str]:
        schedule = str(self.logs / "schedule")
        return [
            "beat", "-l", "info", "-s", schedule, "--pidfile=", "--check-interval", "1", "--db-path", "",
            "--balancer-strategy", "adaptive",
        ]  # fmt: skip

    def ready(self) -> None:
        """Wait until every worker reports."""
        wait_until(
            lambda: all(self.client.hexists(self.keys.beats, f"{name}@chaos") for name in self.workers),
            f"the workers report, see {self.logs}",
            timeout_s=60,
        )

    def kill(self, name: str) -> None:
        """kill -9 of the process and all it started."""
        self._signal(name, signal.SIGKILL)
        self.states[name] = "down"
        wait_until(lambda: not psutil.pid_exists(self.pids[name]), f"{name} is gone")

    def kill_child(self, name: str) -> bool:
        """kill -9 of one pool process; `False` where there is none."""
        try:
            children = psutil.Process(self.pids[name]).children()
            if children:
                children[0].kill()
            return bool(children)
        except psutil.Error:
            return False

    def freeze(self, name: str) -> None:
        self._signal(name, signal.SIGSTOP)
        self.states[name] = "frozen"

    def thaw(self, name: str) -> None:
        self._signal(name, signal.SIGCONT)
        self.states[name] = "up"

    def tell_to_stop(self, name: str, number: int) -> None:
        """A warm or a cold shutdown, as an operator asks for it; whoever asked restarts it."""
        with suppress(ProcessLookupError):
            os.kill(self.pids[name], number)
        self.states[name] = "down"

    def _signal(self, name: str, number: int) -> None:
        try:
            os.killpg(self.pids[name], number)
        except ProcessLookupError:
            self.states[name] = "down"

    def up(self, *, of: list[str] | None = None) -> list[str]:
        """Workers that are up, busiest first as far as they say."""
        busy = self.holds()
        names = [name for name in of or self.workers if self.states.get(name) == "up"]
        return sorted(names, key=lambda name: -len(busy.get(name, {}).get("running", ())))

    def holds(self) -> dict[str, dict[str, list[str]]]:
        """What each worker says it runs and keeps; nothing where Redis does not answer."""
        try:
            said = self.client.hgetall(self.keys.holds)
        except (RedisError, OSError):
            return {}
        documents = {name.decode().partition("@")[0]: json.loads(raw) for name, raw in said.items()}
        return {
            name: {kind: [t["task_id"] for t in doc.get(kind, [])] for kind in ("running", "reserved")}
            for name, doc in documents.items()
        }

    def instance(self, name: str) -> str:
        """The instance of a worker as it described itself; "" where that is not known."""
        try:
            raw = self.client.hget(self.keys.workers, f"{name}@chaos")
        except (RedisError, OSError):
            return ""
        return str(json.loads(raw).get("instance", "")) if raw else ""

    def deserters(self) -> list[str]:
        """Who ended by itself: a worker that should be there and is not."""
        return [name for name, state in self.states.items() if state == "up" and not self._there(name)]

    def _there(self, name: str) -> bool:
        return psutil.pid_exists(self.pids[name])

    def close(self) -> None:
        for name in list(self.pids):
            if psutil.pid_exists(self.pids[name]):
                self._signal(name, signal.SIGKILL)
        self.wire.close()
        self.nursery.close()
