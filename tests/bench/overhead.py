"""What a task costs beside plain Celery: `python -m tests.bench.overhead`.

Tasks that do nothing, prefork with two processes, one Redis, rounds of all variants in turn. A round
fills the queue first and then starts a worker, and counts what is left from when a tenth is done to the
end. Plain Celery has its own app without `workers.install` and its defaults (prefetch multiplier 4,
early ack); ours has what `install` sets (prefetch multiplier 1, late ack). The last line is one JSON
object; ratios are medians of ours over plain of the same round, with the least and the greatest.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import redis

from balancer.adapters.embedded_redis import EmbeddedRedis
from tests.waiting import wait_until

VARIANTS = ("plain", "stock", "atomic")
MODES = ("stored", "ignored")
SIZES = {"small": 10, "10KB": 10_000}

#: Seconds for one round at most.
ROUND_S = 120.0

WORKER = ("worker", "-P", "prefork", "-c", "2", "-l", "warning", "--without-mingle", "--without-gossip")


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One variant's figures: tasks a second, CPU a task of parent and children (µs), memory (MB)."""

    rate: float
    parent_us: float
    children_us: float
    rss_mb: float
    pss_mb: float


class Bench:
    """Runs rounds of one variant after another on one Redis."""

    def __init__(self, url: str, count: int) -> None:
        self.url = url
        self.count = count

    def round(self, variant: str, mode: str, size: int) -> Round:
        with redis.Redis.from_url(self.url) as client:
            client.flushdb()
            self._publish(variant, mode, size)
            with self._worker(variant) as worker:
                self._until(client, self.count * 0.9)
                began, cpu = time.perf_counter(), cpu_of(worker)
                self._until(client, 0)
                took, spent = time.perf_counter() - began, cpu_of(worker)
                rss, pss = memory_of(worker)
        done = self.count * 0.9
        return Round(
            rate=done / took,
            parent_us=(spent[0] - cpu[0]) / done * 1e6,
            children_us=(spent[1] - cpu[1]) / done * 1e6,
            rss_mb=rss,
            pss_mb=pss,
        )

    def _environment(self, variant: str) -> dict[str, str]:
        return {**os.environ, "BENCH_VARIANT": variant, "BENCH_URL": self.url}

    def _publish(self, variant: str, mode: str, size: int) -> None:
        subprocess.run(
            [sys.executable, "-m", "tests.bench.overhead_app", str(self.count), mode, str(size)],
            env=self._environment(variant),
            cwd=Path(__file__).parents[2],
            check=True,
        )

    @contextmanager
    def _worker(self, variant: str) -> Iterator[psutil.Process]:
        process = subprocess.Popen(
            [sys.executable, "-m", "celery", "-A", "tests.bench.overhead_app", *WORKER],
            env=self._environment(variant),
            cwd=Path(__file__).parents[2],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            yield psutil.Process(process.pid)
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(timeout=30)

    @staticmethod
    def _until(client: redis.Redis, left: float) -> None:
        """Wait until no more than this many messages are in a queue or not acknowledged."""
        queues = ("celery", "bal.lane.bench.stored", "bal.lane.bench.ignored")

        def few() -> bool:
            with client.pipeline(transaction=False) as pipe:
                for queue in queues:
                    pipe.llen(queue)
                pipe.hlen("unacked")
                return sum(pipe.execute()) <= left

        wait_until(few, f"no more than {left:g} messages are left", ROUND_S)


def cpu_of(worker: psutil.Process) -> tuple[float, float]:
    """CPU time (s) of a worker's main process and of its pool."""
    own = worker.cpu_times()
    pool = [child.cpu_times() for child in worker.children(recursive=True)]
    return own.user + own.system, sum(one.user + one.system for one in pool)


def memory_of(worker: psutil.Process) -> tuple[float, float]:
    """Resident and proportional memory (MB) of a worker's main process and its pool."""
    infos = [one.memory_full_info() for one in (worker, *worker.children(recursive=True))]
    pss = (getattr(info, "pss", info.rss) for info in infos)
    return sum(info.rss for info in infos) / 1e6, sum(pss) / 1e6


def ratios(ours: list[float], plain: list[float]) -> dict[str, float]:
    each = [a / b for a, b in zip(ours, plain, strict=True)]
    return {
        "median": round(statistics.median(each), 3),
        "least": round(min(each), 3),
        "most": round(max(each), 3),
    }


def summary(rounds: dict[tuple[str, str], list[Round]], variant: str, case: str) -> dict[str, Any]:
    """One variant beside plain Celery, in one case (mode and size)."""
    ours, plain = rounds[variant, case], rounds["plain", case]
    return {
        "rate": ratios([r.rate for r in ours], [r.rate for r in plain]),
        "tasks_per_s": round(statistics.median(r.rate for r in ours)),
        "plain_tasks_per_s": round(statistics.median(r.rate for r in plain)),
        "parent_cpu": ratios([r.parent_us for r in ours], [r.parent_us for r in plain]),
        "parent_cpu_us": round(statistics.median(r.parent_us for r in ours)),
        "plain_parent_cpu_us": round(statistics.median(r.parent_us for r in plain)),
        "children_cpu": ratios([r.children_us for r in ours], [r.children_us for r in plain]),
        "more_rss_mb": round(
            statistics.median(o.rss_mb - p.rss_mb for o, p in zip(ours, plain, strict=True)), 1
        ),
        "more_pss_mb": round(
            statistics.median(o.pss_mb - p.pss_mb for o, p in zip(ours, plain, strict=True)), 1
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=3000, help="tasks a round")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each case")
    parser.add_argument("--variants", default=",".join(VARIANTS))
    parser.add_argument("--modes", default=",".join(MODES))
    parser.add_argument("--sizes", default=",".join(SIZES))
    asked = parser.parse_args()
    variants, cases = asked.variants.split(","), []
    rounds: dict[tuple[str, str], list[Round]] = {}
    with EmbeddedRedis() as server:
        bench = Bench(server.url, asked.tasks)
        for size in asked.sizes.split(","):
            for mode in asked.modes.split(","):
                case = f"{mode}, {size}"
                cases.append(case)
                for number in range(asked.rounds):
                    for variant in variants if number % 2 else reversed(variants):
                        one = bench.round(variant, mode, SIZES[size])
                        rounds.setdefault((variant, case), []).append(one)
                        print(
                            f"{case:15} {variant:7} {one.rate:7.0f}/s  parent {one.parent_us:5.0f} us"
                            f"  children {one.children_us:5.0f} us  pss {one.pss_mb:.1f} MB",
                            flush=True,
                        )
    compared = {
        variant: {case: summary(rounds, variant, case) for case in cases}
        for variant in variants
        if variant != "plain"
    }
    print(json.dumps(outcome(compared, asked)))


def outcome(compared: dict[str, dict[str, Any]], asked: argparse.Namespace) -> dict[str, Any]:
    """What the last line says."""
    best = compared.get("atomic", {})
    return {
        "ratio_results": best.get("stored, small", {}).get("rate", {}).get("median"),
        "ratio_ignored": best.get("ignored, small", {}).get("rate", {}).get("median"),
        "ratio_results_10kb": best.get("stored, 10KB", {}).get("rate", {}).get("median"),
        "ratio_ignored_10kb": best.get("ignored, 10KB", {}).get("rate", {}).get("median"),
        "rounds": asked.rounds,
        "tasks_a_round": asked.tasks,
        **compared,
    }


if __name__ == "__main__":
    main()
