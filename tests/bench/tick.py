"""`make bench-tick`: how long a tick takes, by workers, tasks, profiles and classes, and what it needs.

`decide_ms` is the pure core, `tick_ms` a whole turn of a balancer alone in its process over a real Redis,
`price_ms` the short turn each second; medians of the wall clock. The CPU time of the process (`…_cpu_ms`)
stands beside them: others on the machine move the first and hardly the second. The last line is one JSON
object.
"""

from __future__ import annotations

import gc
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import redis

from balancer import state
from balancer.adapters.embedded_redis import EmbeddedRedis
from balancer.adapters.redis_connection import Connection
from balancer.adapters.redis_store import RedisFleetStore
from balancer.decide import engine
from balancer.decide import memory as memories
from balancer.decide.learn import learn
from balancer.decide.memory import Memory
from balancer.decide.prices import solve
from balancer.decide.strategies import by_name
from balancer.model import Fleet
from balancer.model.table import in_columns
from tests.bench import highs
from tests.bench.fleets import ended_runs, large_fleet, later, learned, looked_at_again
from tests.bench.nested_loops import seconds_a_pair
from tests.bench.one_balancer import SETTINGS
from tests.bench.redis_fleet import beat_once, put

#: The case that the figures are of, and how much smaller the ones are that tell how it grows.
WORKERS: Final = 10_000
TASKS: Final = 1_000_000
SMALLER: Final = 10

#: The sizes that the pure core is timed over, and the largest number of profiles and of classes.
WORKER_SIZES: Final = (10, 100, 1_000)
TASK_SIZES: Final = (1_000, 10_000, 100_000)
MANY: Final = (1_000, 100)

#: Ticks before a memory is as long as it gets, and ticks that are timed.
WARM: Final = 14
TIMED: Final = 15

#: Turns of a balancer that are not counted (the first reads everything), and those that are.
BEFORE: Final = 3
TURNS: Final = 9

#: Share of the workers whose holdings change from one look to the next.
BUSY: Final = 0.05

#: Ended runs that are learned from at once: a second of 10,000 workers with tasks of two seconds; and those
#: learned from before each tick of the pure core, whose tasks take about twenty.
RUNS: Final = 5_000
ENDED: Final = 500

#: Tasks the nested loops are timed with; the rest is told as extrapolated.
SAMPLE: Final = 20

Times = list[tuple[float, float]]


def timed(step: Callable[[int], object], count: int, before: Callable[[int], object] = int) -> Times:
    """Milliseconds of each `step`, by the wall clock and of CPU time; what comes `before` it is not timed."""
    times = []
    for i in range(count):
        before(i)
        began, cpu = time.perf_counter(), time.process_time()
        step(i)
        times.append((1e3 * (time.perf_counter() - began), 1e3 * (time.process_time() - cpu)))
    return times


def told(name: str, times: Times) -> tuple[float, float]:
    """The medians by the wall clock and of CPU time; prints them with the spread."""
    walls, cpus = zip(*times, strict=True)
    wall, cpu = statistics.median(walls), statistics.median(cpus)
    print(f"{name:<68} {wall:9.1f} ms  ({min(walls):.1f} to {max(walls):.1f}; CPU {cpu:.1f})", flush=True)
    return wall, cpu


def decide_ms(workers: int, tasks: int, lanes: int = 200, classes: int = 20) -> tuple[float, float]:
    """The pure tick, with a memory as long as it gets; each comes after a new look, and after a second's
    events were learned."""
    fleet = in_columns(large_fleet(workers, lanes=lanes, classes=classes, tasks=tasks))
    strategy, memory = by_name("priced"), replace(memories.fresh(SETTINGS), estimates=learned(fleet))
    for i in range(WARM):
        memory, _ = engine.decide(memory, later(fleet, 30.0 * i), SETTINGS, strategy, ())
    now = later(fleet, 30.0 * WARM)
    ended = [ended_runs(fleet, memory.estimates, ENDED, seed=i) for i in range(TIMED)]
    given: list[tuple[Memory, Fleet]] = []

    def look(i: int) -> None:
        fleet = looked_at_again(now)
        given.append((learn(memory, ended[i], fleet, SETTINGS), fleet))

    gc.collect()
    times = timed(lambda i: engine.decide(*given[i], SETTINGS, strategy, ()), TIMED, before=look)
    size = "" if (lanes, classes) == (200, 20) else f", {lanes:,} profiles × {classes} classes"
    return told(f"decide, {workers:,} workers, {tasks:,} tasks{size}", times)


def learn_us() -> tuple[float, float]:
    """Microseconds an ended run, from the events to the estimates, by the wall clock and of CPU time."""
    fleet = in_columns(large_fleet(WORKERS, tasks=0))
    memory = replace(memories.fresh(SETTINGS), estimates=learned(fleet))
    batches = [ended_runs(fleet, memory.estimates, RUNS, seed=i) for i in range(TIMED)]
    gc.collect()
    times = timed(lambda i: learn(memory, batches[i], fleet, SETTINGS), TIMED)
    wall, cpu = told(f"learn from {RUNS:,} ended runs, {WORKERS:,} workers", times)
    return 1e3 * wall / RUNS, 1e3 * cpu / RUNS


class Turns:
    """A balancer in a process of its own, and the fleet that beats between its turns."""

    def __init__(self, child: subprocess.Popen[str], connection: Connection, fleet: Fleet) -> None:
        self._child = child
        self._connection = connection
        self._fleet = fleet

    def take(self, kind: str) -> Times:
        """`TURNS` turns of a kind, after `BEFORE` that do not count."""
        taken = [self._one(kind) for _ in range(BEFORE + TURNS)]
        return taken[BEFORE:]

    def end(self) -> float:
        """The most memory that the balancer held (MB)."""
        out, _ = self._child.communicate(timeout=60)
        return float(out)

    def _one(self, kind: str) -> tuple[float, float]:
        beat_once(self._connection.client, self._connection.keys, self._fleet, BUSY)
        if self._child.stdin is None or self._child.stdout is None:
            raise RuntimeError("the balancer has no pipes")
        print(kind, file=self._child.stdin, flush=True)
        wall, cpu = self._child.stdout.readline().split()
        return float(wall), float(cpu)


@contextmanager
def turns_over(fleet: Fleet, *, ledger: str = "") -> Iterator[Turns]:
    """A real Redis that holds the fleet and what a balancer has learned of it, and one that goes on."""
    with EmbeddedRedis() as server:
        client = redis.Redis.from_url(server.url)
        connection = Connection.of_client(client)
        put(client, connection.keys, fleet)
        store, kept = RedisFleetStore(connection), replace(memories.fresh(SETTINGS), estimates=learned(fleet))
        store.save_memory(state.to_document(state.State(memory=kept)), 0)
        command = [sys.executable, "-m", "tests.bench.one_balancer", server.url, ledger]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
            yield Turns(child, connection, fleet)
        client.close()


def program_ms() -> tuple[float, float]:
    """The prices' program, 200 × 20, from nothing: by `prices.solve` and by HiGHS; the larger one beside."""
    found = []
    for lanes, classes, times in ((200, 20, 3), (*MANY, 1)):
        rng = np.random.default_rng(0)
        waiting, capacity = rng.integers(1, 10_000, lanes).astype(float), rng.uniform(50, 500, classes)
        seconds = rng.lognormal(3.0, 1.0, (lanes, classes))
        work = capacity * rng.uniform(0, 20, classes)
        name = f"prices, {lanes:,} profiles × {classes} classes"
        ours = told(f"{name}: ours, from nothing", timed(
            lambda _, given=(waiting, seconds, capacity, work): solve(*given), TIMED))
        theirs = told(f"{name}: HiGHS", timed(
            lambda _, given=(waiting, seconds, capacity, work): highs.drain_s(*given), times))
        found.append((ours[0], theirs[0]))
    return found[0]


def pure_figures() -> dict[str, float]:
    """The core without I/O, and what it stands beside."""
    wall, cpu = decide_ms(WORKERS, TASKS)
    by_workers = {n: decide_ms(n, TASKS)[1] for n in WORKER_SIZES}
    by_tasks = {n: decide_ms(WORKERS, n)[1] for n in TASK_SIZES}
    many, _ = decide_ms(WORKERS, TASKS, *MANY)
    (ours, theirs), (learned_us, learned_cpu_us) = program_ms(), learn_us()
    loops_ms = 1e3 * seconds_a_pair(large_fleet(1_000, tasks=100_000), SAMPLE) * 1_000 * 100_000
    print(f"nested loops, 1,000 workers, 100,000 tasks: {loops_ms / 1e3:.1f} s, extrapolated "
          f"from {SAMPLE} tasks", flush=True)
    return {
        "decide_ms": wall, "decide_cpu_ms": cpu, "growth_workers_10x": cpu / by_workers[WORKERS // SMALLER],
        "growth_tasks_10x": cpu / by_tasks[TASKS // SMALLER], "decide_1000x100_ms": many,
        "prices_ms": ours, "highs_ms": theirs, "nested_loops_ms": loops_ms, "learn_us": learned_us,
        "learn_cpu_us": learned_cpu_us,
    }


def turn_figures() -> dict[str, float]:
    """Whole turns over a real Redis, by a balancer in its own process."""
    with turns_over(large_fleet(WORKERS, tasks=TASKS)) as turns:
        name = f"{WORKERS:,} workers, {TASKS:,} tasks"
        wall, cpu = told(f"whole tick with Redis, {name}", turns.take("whole"))
        price, price_cpu = told(f"price turn with Redis, {name}", turns.take("price"))
        rss = turns.end()
    with tempfile.TemporaryDirectory() as folder:
        few = large_fleet(WORKERS, tasks=TASKS // SMALLER)
        with turns_over(few, ledger=str(Path(folder) / "ledger.duckdb")) as turns:
            name = f"{WORKERS:,} workers, {TASKS // SMALLER:,} tasks"
            logged, _ = told(f"whole tick with Redis and a ledger, {name}", turns.take("whole"))
            price_few, _ = told(f"price turn with Redis, {name}", turns.take("price"))
            rss_logged = turns.end()
    return {
        "tick_ms": wall, "tick_cpu_ms": cpu, "price_ms": price, "price_cpu_ms": price_cpu,
        "price_growth_tasks_10x": price / price_few, "tick_with_ledger_ms": logged, "rss_mb": rss,
        "rss_with_ledger_mb": rss_logged,
    }


def main() -> None:
    """Everything, in under four minutes on two busy cores."""
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"{platform.platform()}, Python {platform.python_version()}, {os.cpu_count()} cores, load {load}")
    figures = {**turn_figures(), **pure_figures()}
    print(json.dumps({name: round(value, 2 if "growth" in name else 1) for name, value in figures.items()}))


if __name__ == "__main__":
    main()
