"""What goes wrong in a run: kills, freezes, cut wires, stops, at random moments, and their repair."""

from __future__ import annotations

import heapq
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Final

from redis.exceptions import RedisError

from tests.chaos.app import HEARTBEAT_TTL_S
from tests.chaos.broker import ChaosRedis
from tests.chaos.crew import WORKERS, Crew

#: How often each disturbance comes, in parts of the whole.
WEIGHTS: Final = {
    "kill_worker": 40,
    "kill_child": 12,
    "kill_redis": 6,
    "kill_beat": 5,
    "freeze_worker": 14,
    "freeze_redis": 4,
    "refuse_writes": 5,
    "freeze_beat": 2,
    "cut_all": 6,
    "part": 7,
    "stop_warm": 3,
    "stop_cold": 3,
}


@dataclass(slots=True, kw_only=True)
class Recovery:
    """A worker that was killed: since when, and when nothing was left in its hands."""

    instance: str
    since: float
    held: bool = False
    until: float | None = None


@dataclass(slots=True, kw_only=True)
class Disturber:
    """Disturbs a crew and its Redis until `kills` processes were killed.

    It goes hand in hand with the client: `published` says how much of the work there is already.
    """

    crew: Crew
    server: ChaosRedis
    random: random.Random
    kills: int
    every_s: float
    published: Callable[[], float]
    done: Counter[str] = field(default_factory=Counter)
    recoveries: list[Recovery] = field(default_factory=list)
    killed: list[tuple[str, float]] = field(default_factory=list)
    repairs: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)
    numbers: count[int] = field(default_factory=count)
    redis_down: bool = False

    def run(self, over: threading.Event) -> None:
        due = time.monotonic() + self.every_s
        while (self.killed_so_far() < self.kills or self.repairs) and not over.wait(0.02):
            now = time.monotonic()
            while self.repairs and self.repairs[0][0] <= now:
                heapq.heappop(self.repairs)[2]()
            self._restart_deserters()
            if now >= due and self.killed_so_far() < self.kills * self.published():
                due = now + self.random.uniform(0.3, 1.7) * self.every_s
                what = self.random.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
                if getattr(self, f"_{what}")():
                    self.done[what] += 1
        while self.repairs:
            heapq.heappop(self.repairs)[2]()

    def killed_so_far(self) -> int:
        return sum(times for what, times in self.done.items() if what.startswith("kill"))

    def share(self) -> float:
        """How much of the disturbances there was, and the next one."""
        return (self.killed_so_far() + 1) / max(1, self.kills)

    def watch(self) -> None:
        """Look whether what dead workers held is in other hands; called often."""
        if self.redis_down:
            return
        now = time.time()
        for one in (one for one in self.recoveries if one.until is None):
            try:
                left = self.crew.client.scard(self.crew.keys.ours("held", one.instance))
            except (RedisError, OSError):
                continue
            one.held = one.held or left > 0
            one.until = None if left else now

    def _later(self, seconds: float, repair: Callable[[], None]) -> None:
        heapq.heappush(self.repairs, (time.monotonic() + seconds, next(self.numbers), repair))

    def _worker(self, pool: str = "") -> str | None:
        """A busy worker that may be disturbed; one at least is always left alone."""
        if self.redis_down:
            return None
        up = self.crew.up()
        able = [name for name, kind, *_ in WORKERS if name in up and pool in ("", kind)]
        if len(up) < 2 or not able:
            return None
        busiest = [name for name in up if name in able][:2]
        return self.random.choice(busiest if self.random.random() < 0.5 else able)

    def _restart_deserters(self) -> None:
        """A supervisor would, too; but nobody here told it to end."""
        for name in self.crew.deserters():
            self.done[f"{name} ended by itself"] += 1
            self.crew.start(name)

    def _kill_worker(self) -> bool:
        name = self._worker()
        if name is None:
            return False
        self._kill(name)
        return True

    def _kill(self, name: str) -> None:
        instance = self.crew.instance(name)
        self.crew.kill(name)
        now = time.time()
        self.killed.append((name, now))
        if instance:
            self.recoveries.append(Recovery(instance=instance, since=now))
        self._later(self.random.uniform(0, 2), lambda: self.crew.start(name))

    def _kill_child(self) -> bool:
        name = self._worker("prefork")
        return name is not None and self.crew.kill_child(name)

    def _kill_beat(self) -> bool:
        if self.crew.states.get("beat") != "up":
            return False
        self.crew.kill("beat")
        self._later(self.random.uniform(0, 3), lambda: self.crew.start("beat"))
        return True

    def _freeze_beat(self) -> bool:
        if self.crew.states.get("beat") != "up":
            return False
        self.crew.freeze("beat")
        self._later(self.random.uniform(1, 8), lambda: self.crew.thaw("beat"))
        return True

    def _freeze_worker(self) -> bool:
        """Some for less than their lease, some for three; one in five never wakes."""
        name = self._worker()
        if name is None:
            return False
        self.crew.freeze(name)
        dies = self.random.random() < 0.2
        self._later(
            self.random.uniform(0.3, 3 * HEARTBEAT_TTL_S),
            lambda: self._kill_frozen(name) if dies else self.crew.thaw(name),
        )
        return True

    def _kill_frozen(self, name: str) -> None:
        self.done["kill_frozen"] += 1
        self._kill(name)

    def _kill_redis(self) -> bool:
        if self.redis_down:
            return False
        self.server.shorten()
        self.redis_down = True
        self.server.kill()
        self._later(self.random.uniform(0.1, 2), self._start_redis)
        return True

    def _start_redis(self) -> None:
        self.server.start()
        self._redis_is_back()

    def _freeze_redis(self) -> bool:
        if self.redis_down:
            return False
        self.redis_down = True
        self.server.freeze()
        self._later(self.random.uniform(0.3, 4), self._thaw_redis)
        return True

    def _thaw_redis(self) -> None:
        self.server.thaw()
        self._redis_is_back()

    def _refuse_writes(self) -> bool:
        """Redis is full, or lacks its replicas, for less or for longer than a lease."""
        if self.redis_down:
            return False
        option, refusing = self.random.choice([("maxmemory", 1), ("min-replicas-to-write", 1)])
        self.redis_down = True
        self.crew.client.config_set(option, refusing)
        self._later(self.random.uniform(0.3, 1.5 * HEARTBEAT_TTL_S), lambda: self._take_writes(option))
        return True

    def _take_writes(self, option: str) -> None:
        self.crew.client.config_set(option, 0)
        self._redis_is_back()

    def _redis_is_back(self) -> None:
        """Nobody could recover anything meanwhile: those clocks begin anew."""
        self.redis_down = False
        for one in self.recoveries:
            if one.until is None:
                one.since = time.time()

    def _cut_all(self) -> bool:
        if self.redis_down:
            return False
        self.server.cut_all()
        return True

    def _part(self) -> bool:
        """The wire of one worker passes nothing on, for less or for longer than its lease."""
        name = WORKERS[-1][0]
        if self.crew.states.get(name) != "up" or len(self.crew.up()) < 2:
            return False
        self.crew.wire.hold()
        self.crew.states[name] = "cut"
        self._later(self.random.uniform(0.3, 2.5 * HEARTBEAT_TTL_S), self._mend)
        return True

    def _mend(self) -> None:
        self.crew.wire.mend()
        self.crew.states[WORKERS[-1][0]] = "up"

    def _stop_warm(self) -> bool:
        return self._stop(signal.SIGTERM)

    def _stop_cold(self) -> bool:
        return self._stop(signal.SIGQUIT)

    def _stop(self, number: int) -> bool:
        name = self._worker()
        if name is None:
            return False
        self.crew.tell_to_stop(name, number)
        self._later(self.random.uniform(3, 6), lambda: self._restart(name))
        return True

    def _restart(self, name: str) -> None:
        """What has not stopped by now is killed."""
        self.crew.kill(name)
        self.crew.start(name)
