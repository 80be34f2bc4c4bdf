"""A balancer alone in a process, for `tick`: what it needs of time and memory is then its own.

Reads a kind of turn a line ("whole" or "price") and answers with what the turn took, in milliseconds of the
wall clock and of its own CPU time, as "12.3 9.8"; ends with its input and then says the most memory it held
(MB). Turns are over a real Redis and, with a second argument, over a ledger in that file.
"""

from __future__ import annotations

import gc
import resource
import sys
import time
from typing import Final

import redis

from balancer.adapters.duckdb_ledger import DuckDBLedger
from balancer.adapters.redis_connection import Connection
from balancer.adapters.redis_handover import RedisHandOver
from balancer.adapters.redis_lease import RedisLease
from balancer.adapters.redis_store import RedisFleetStore
from balancer.adapters.system_clock import SystemClock
from balancer.decide.strategies import by_name
from balancer.loop import AdaptiveLoadBalancer
from balancer.settings import Settings
from balancer.standing import Ports

#: What the benchmark's fleet runs with; beats come with each turn and not by the clock.
SETTINGS: Final = Settings(heartbeat_ttl=600.0)


def balancer(connection: Connection, ledger: str = "") -> AdaptiveLoadBalancer:
    """The balancer as `wiring` makes it, over these."""
    ports = Ports(
        store=RedisFleetStore(connection, heartbeat_ttl_s=SETTINGS.heartbeat_ttl),
        handover=RedisHandOver(connection, lambda worker, arguments: None),
        lease=RedisLease(connection, "bench", ttl_s=600.0), ledger=DuckDBLedger(ledger), clock=SystemClock())
    return AdaptiveLoadBalancer(ports, SETTINGS, by_name("priced"))


def main(url: str, ledger: str = "") -> None:
    """Take turns as they are asked for."""
    ours = balancer(Connection.of_client(redis.Redis.from_url(url)), ledger)
    for line in sys.stdin:
        gc.collect()
        began, cpu = time.perf_counter(), time.process_time()
        ours.turn(whole=line.strip() == "whole")
        print(1e3 * (time.perf_counter() - began), 1e3 * (time.process_time() - cpu), flush=True)
    unit = 1024 if sys.platform != "darwin" else 1024 * 1024
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
