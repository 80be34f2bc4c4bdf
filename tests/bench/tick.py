"""`make bench-tick`: how long a tick takes, by workers and by queued tasks, against the seed's nested loops.

The last line is one JSON object. `decide_ms` is the pure core, `tick_ms` a whole turn over a real Redis with
an in-memory ledger. Medians; the machine's load is told, as it moves every figure.
"""

from __future__ import annotations

import gc
import json
import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Final

import redis

from balancer.adapters.embedded_redis import EmbeddedRedis
from balancer.adapters.in_memory import InMemoryLedger
from balancer.adapters.redis_connection import Connection
from balancer.adapters.redis_handover import RedisHandOver
from balancer.adapters.redis_lease import RedisLease
from balancer.adapters.redis_store import RedisFleetStore
from balancer.adapters.system_clock import SystemClock
from balancer.decide import engine
from balancer.decide import memory as memories
from balancer.decide.strategies import by_name
from balancer.loop import AdaptiveLoadBalancer
from balancer.model import Fleet
from balancer.model.table import in_columns
from balancer.settings import Settings
from balancer.standing import Ports
from tests.bench.fleets import large_fleet, later, learned
from tests.bench.nested_loops import seconds_a_pair
from tests.bench.redis_fleet import beat_once, put

#: The largest case, and how much smaller the other ones are.
WORKERS: Final = 10_000
TASKS: Final = 1_000_000
SMALLER: Final = 10

#: Ticks before a memory is as long as it stays, and ticks that are timed.
WARM: Final = 8
TIMED: Final = 9

#: Share of the workers whose holdings change from one look to the next.
BUSY: Final = 0.05

#: Tasks the nested loops are timed with; the rest is told as extrapolated.
SAMPLE: Final = 20

SETTINGS: Final = Settings(heartbeat_ttl=600.0)


def milliseconds(step: Callable[[int], object], count: int = TIMED) -> list[float]:
    """Wall times of `step`."""
    times = []
    for i in range(count):
        began = time.perf_counter()
        step(i)
        times.append(1e3 * (time.perf_counter() - began))
    return times


def told(name: str, times: list[float]) -> float:
    """The median; prints it with the spread."""
    middle = statistics.median(times)
    print(f"{name:<52} {middle:9.1f} ms  ({min(times):.1f} to {max(times):.1f})", flush=True)
    return middle


def decide_ms(workers: int, tasks: int) -> float:
    """The pure tick, with a memory as long as it gets."""
    fleet, strategy = in_columns(large_fleet(workers, tasks=tasks)), by_name("priced")
    memory = replace(memories.fresh(SETTINGS), estimates=learned(fleet))
    for i in range(WARM):
        memory, _ = engine.decide(memory, later(fleet, 30.0 * i), SETTINGS, strategy, ())
    now = later(fleet, 30.0 * WARM)
    gc.collect()
    times = milliseconds(lambda _: engine.decide(memory, now, SETTINGS, strategy, ()))
    return told(f"decide, {workers:,} workers, {tasks:,} tasks", times)


def turns_ms(workers: int, tasks: int) -> tuple[float, float]:
    """A whole tick and a price turn over a real Redis; the fleet beats between two turns."""
    fleet = large_fleet(workers, tasks=tasks)
    with EmbeddedRedis() as server:
        client = redis.Redis.from_url(server.url)
        connection = Connection.of_client(client)
        put(client, connection.keys, fleet)
        balancer = _balancer(connection)
        name = f"{workers:,} workers, {tasks:,} tasks"
        whole = told(f"whole tick with Redis, {name}", _turns(balancer, connection, fleet, whole=True))
        price = told(f"price turn with Redis, {name}", _turns(balancer, connection, fleet, whole=False))
        client.close()
    return whole, price


def _balancer(connection: Connection) -> AdaptiveLoadBalancer:
    ports = Ports(
        store=RedisFleetStore(connection, heartbeat_ttl_s=SETTINGS.heartbeat_ttl),
        handover=RedisHandOver(connection, lambda worker, arguments: None),
        lease=RedisLease(connection, "bench", ttl_s=600.0), ledger=InMemoryLedger(), clock=SystemClock())
    return AdaptiveLoadBalancer(ports, SETTINGS, by_name("priced"))


def _turns(balancer: AdaptiveLoadBalancer, connection: Connection, fleet: Fleet, *,
           whole: bool) -> list[float]:
    times = []
    for i in range(TIMED - 2):
        beat_once(connection.client, connection.keys, fleet, BUSY)
        gc.collect()
        took = milliseconds(lambda _: balancer.turn(whole=whole), 1)
        times += took if i >= 2 else []  # the first two read every document and start from nothing
    return times


def main() -> None:
    """Everything, in under three minutes."""
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"{platform.platform()}, Python {platform.python_version()}, {os.cpu_count()} cores, load {load}")
    large = decide_ms(WORKERS, TASKS)
    few_workers, few_tasks = decide_ms(WORKERS // SMALLER, TASKS), decide_ms(WORKERS, TASKS // SMALLER)
    tick, price = turns_ms(WORKERS, TASKS)
    tick_few_tasks, _ = turns_ms(WORKERS, TASKS // SMALLER)
    pair_s = seconds_a_pair(large_fleet(1_000, tasks=TASKS // SMALLER), SAMPLE)
    loops_s = pair_s * 1_000 * 100_000
    print(f"nested loops, 1,000 workers, 100,000 tasks: {loops_s:.1f} s, extrapolated from {SAMPLE} tasks")
    unit = 1024 if sys.platform != "darwin" else 1024 * 1024
    print(json.dumps({
        "decide_ms": round(large, 1), "tick_ms": round(tick, 1), "price_ms": round(price, 1),
        "growth_workers_10x": round(large / few_workers, 2), "growth_tasks_10x": round(large / few_tasks, 2),
        "tick_growth_tasks_10x": round(tick / tick_few_tasks, 2), "nested_loops_ms": round(1e3 * loops_s),
        "rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit),
    }))


if __name__ == "__main__":
    main()
