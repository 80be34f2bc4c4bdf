"""How long a move takes, from the decision (the request is sent) to the body's begin on the target.

    python -m tests.bench.handover --rounds 30 --transport balanced-redis

Running tasks interrupted, running tasks at a checkpoint, reserved tasks; and queued messages of
1 KB from list to list, while another client measures how long its PINGs take. Figures on stderr as
they come; the last line of stdout is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any, Final

import redis

from balancer.adapters.embedded_redis import EmbeddedRedis
from balancer.adapters.redis_connection import Connection
from balancer.adapters.redis_handover import RedisHandOver
from balancer.model import Move, MoveKind, Score
from balancer.routing import direct_queue
from tests.system.fleet import FleetUnderTest
from tests.waiting import wait_until

#: Messages of 1 KB that are moved at once, and how often.
QUEUED: Final = 100_000
QUEUED_ROUNDS: Final = 3
MESSAGE_BYTES: Final = 1024

#: Seconds between two PINGs of the other client.
PING_S: Final = 0.0005


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """A fleet of two workers, what their tasks note, and a hand-over as the balancer has it."""

    fleet: FleetUnderTest
    tasks: Any
    handover: RedisHandOver

    def move(self, kind: MoveKind, task_id: str, number: int, *, preempt: bool = False) -> float:
        """Ask for a move from a to b; when that was (steady clock, s)."""
        move = Move(move_id=f"{number}-{task_id}", task_id=task_id, profile="p", kind=kind, source="a@test",
                    target="b@test", target_queue=direct_queue("b@test"), reason="bench",
                    score=Score(cost=0.0, benefit=1.0), at=0.0, preempt=preempt)
        at = time.monotonic()
        self.handover.request(move, 30.0)
        return at

    def begins(self, task_id: str) -> list[tuple[float, str]]:
        found = (line.split() for line in self.tasks.notes.lrange(f"began:{task_id}", 0, -1))
        return [(float(at), worker) for at, worker in found]

    def began_on_b(self, task_id: str) -> float:
        wait_until(lambda: any(w == "b@test" for _, w in self.begins(task_id)), "it begins on b", 30)
        return next(at for at, worker in self.begins(task_id) if worker == "b@test")

    def end(self, result: Any) -> None:
        self.tasks.notes.set(f"end:{result.id}", 1, ex=60)
        result.get(timeout=30)


@contextmanager
def bench(transport: str) -> Iterator[Bench]:
    """Two workers of one slot each, started once, warmed up by their first tasks."""
    with EmbeddedRedis() as server, tempfile.TemporaryDirectory() as logs:
        url = server.url.replace("redis://", f"{transport}://", 1)
        os.environ |= {"BALANCER_BENCH_URL": url, "BALANCER_BENCH_PLAIN_URL": server.url}
        from balancer import wiring
        from tests.bench import handover_app as tasks

        fleet = FleetUnderTest(server.url, Path(logs), "tests.bench.handover_app")
        try:
            fleet.worker("a", prefetch=4)
            fleet.worker("b")
            fleet.ready("a", "b")
            settings = wiring.settings_of(tasks.app)
            ports = wiring.ports_over(tasks.app, wiring.connection_of(tasks.app, settings), settings)
            yield Bench(fleet=fleet, tasks=tasks, handover=ports.handover)  # type: ignore[arg-type]
        finally:
            fleet.close()


def on_a(bench: Bench, task: Any) -> Any:
    result = task.apply_async(queue=direct_queue("a@test"))
    wait_until(lambda: bench.begins(result.id), "it begins on a", 30)
    return result


def interrupted(bench: Bench, number: int) -> float:
    result = on_a(bench, bench.tasks.afresh)
    asked = bench.move("running", result.id, number, preempt=True)
    took = bench.began_on_b(result.id) - asked
    bench.end(result)
    return took


def cooperative(bench: Bench, number: int) -> float:
    """From the checkpoint that sees the wish: what a move takes over the checkpoint's interval, at most."""
    result = on_a(bench, bench.tasks.saving)
    wait_until(lambda: bench.tasks.notes.exists(f"saved:{result.id}:a@test"), "it saves on a")
    bench.move("running", result.id, number)
    began = bench.began_on_b(result.id)
    left = float(bench.tasks.notes.get(f"saved:{result.id}:a@test"))
    bench.end(result)
    return began - left


def reserved(bench: Bench, number: int) -> float:
    blocker = on_a(bench, bench.tasks.afresh)
    result = bench.tasks.short.apply_async(queue=direct_queue("a@test"))
    wait_until(lambda: bench.fleet.reserved_by(result.id, "a"), "a holds it", 30)
    asked = bench.move("reserved", result.id, number)
    took = bench.began_on_b(result.id) - asked
    result.get(timeout=30)
    bench.end(blocker)
    return took


def queued(url: str) -> tuple[float, float]:
    """Messages a second that go from list to list, and the 99th percentile (s) of another's PINGs."""
    client = redis.Redis.from_url(url)
    connection = Connection.of_client(client)
    handover = RedisHandOver(connection, lambda worker, arguments: None)
    message = b"x" * MESSAGE_BYTES
    rates, waits = [], []
    for _ in range(QUEUED_ROUNDS):
        client.delete("bench.from", "bench.to")
        for _ in range(QUEUED // 1000):
            client.lpush("bench.from", *[message] * 1000)
        stop, out = multiprocessing.Event(), multiprocessing.Queue()  # type: ignore[var-annotated]
        pings = multiprocessing.Process(target=ping, args=(url, stop, out), daemon=True)
        pings.start()
        out.get(timeout=10)
        move = Move(move_id="m", task_id="", profile="p", kind="queued", source="bench.from",
                    target="bench.to", target_queue="bench.to", reason="bench",
                    score=Score(cost=0.0, benefit=1.0), at=0.0, count=QUEUED)
        began = time.monotonic()
        moved = handover.request(move, 60.0)
        rates.append(moved / (time.monotonic() - began))
        stop.set()
        waits += out.get(timeout=10)
        pings.join(timeout=10)
    client.delete("bench.from", "bench.to")
    return median(rates), percentile(waits, 99)


def ping(url: str, stop: Any, out: Any) -> None:
    """Another client, until it is told to stop: how long each of its PINGs took (s)."""
    client = redis.Redis.from_url(url)
    client.ping()
    out.put("ready")
    took = []
    while not stop.is_set():
        began = time.perf_counter()
        client.ping()
        took.append(time.perf_counter() - began)
        time.sleep(PING_S)
    out.put(took)


def percentile(values: Sequence[float], which: int) -> float:
    return quantiles(values, n=100, method="inclusive")[which - 1] if len(values) > 1 else values[0]


def measure(name: str, once: Callable[[Bench, int], float], bench: Bench, rounds: int) -> list[float]:
    """Seconds of each round; the first, which warms up, is not counted."""
    once(bench, -1)
    took = [once(bench, number) for number in range(rounds)]
    print(f"{name}: p50 {1e3 * median(took):.1f} ms, p99 {1e3 * percentile(took, 99):.1f} ms, "
          f"worst {1e3 * max(took):.1f} ms ({rounds} rounds)", file=sys.stderr)
    return took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--transport", default="redis", help="redis or balanced-redis")
    chosen = parser.parse_args()
    with bench(chosen.transport) as under_test:
        preempted = measure("interrupted", interrupted, under_test, chosen.rounds)
        at_checkpoint = measure("at a checkpoint, from it on", cooperative, under_test, chosen.rounds)
        waiting = measure("reserved", reserved, under_test, chosen.rounds)
    with EmbeddedRedis() as server:
        rate, others = queued(server.url)
    print(f"queued: {rate:,.0f} messages/s, others' PING p99 {1e3 * others:.1f} ms", file=sys.stderr)
    print(json.dumps({
        "transport": chosen.transport,
        "rounds": chosen.rounds,
        "preempt_p50_ms": round(1e3 * median(preempted), 2),
        "preempt_p99_ms": round(1e3 * percentile(preempted, 99), 2),
        "cooperative_over_interval_ms": round(1e3 * median(at_checkpoint), 2),
        "cooperative_over_interval_p99_ms": round(1e3 * percentile(at_checkpoint, 99), 2),
        "reserved_p50_ms": round(1e3 * median(waiting), 2),
        "reserved_p99_ms": round(1e3 * percentile(waiting, 99), 2),
        "queued_per_s": round(rate),
        "others_ping_p99_ms": round(1e3 * others, 2),
    }))


if __name__ == "__main__":
    main()
