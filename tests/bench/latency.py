"""How soon an idle worker begins a task: `python -m tests.bench.latency`.

From the call of `apply_async` to the first line of the body, at each priority, one task at a time with
a pause before it, the kinds in turn. Each kind has a Redis and a worker of its own (prefork, one
process). `stock` is plain Celery on kombu's transport, `ours` a balanced task on the balanced one;
`from_stock_publisher` is sent by a client on `redis://`, which rings no bell. The last line is one JSON
object: medians (ms) by priority, and the 10th and 90th percentiles beside.
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
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

from balancer.adapters.embedded_redis import EmbeddedRedis
from tests.bench.latency_app import make_app

PRIORITIES: Final = (0, 3, 6, 9)

#: What is timed: the worker's kind and the client's.
SERIES: Final = {
    "stock": ("stock", "stock"),
    "ours": ("ours", "ours"),
    "plain_task": ("plain_on_ours", "plain_on_ours"),
    "from_stock_publisher": ("ours", "ours_on_stock"),
}

WORKER: Final = ("worker", "-P", "prefork", "-c", "1", "-l", "error", "--without-mingle", "--without-gossip")


@contextmanager
def worker(kind: str, url: str) -> Iterator[None]:
    """A worker of this kind, as long as the block lasts."""
    process = subprocess.Popen(
        [sys.executable, "-m", "celery", "-A", "tests.bench.latency_app", *WORKER, "-n", f"{kind}@bench"],
        env={**os.environ, "BENCH_LATENCY": kind, "BENCH_URL": url},
        cwd=Path(__file__).parents[2],
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


class Bench:
    """Times calls of every series in turn."""

    def __init__(self, stack: ExitStack, pause_s: float) -> None:
        self.pause_s = pause_s
        kinds = {kind for kind, _ in SERIES.values()}
        urls = {kind: stack.enter_context(EmbeddedRedis()).url for kind in sorted(kinds)}
        for kind, url in urls.items():
            stack.enter_context(worker(kind, url))
        self.tasks = {
            name: make_app(client, urls[kind]).tasks["bench.begun"] for name, (kind, client) in SERIES.items()
        }

    def warm(self) -> None:
        """The first calls start processes and connections."""
        for _ in range(5):
            for task in self.tasks.values():
                task.apply_async().get(timeout=60)

    def once(self, series: str, priority: int) -> float:
        """One call (ms)."""
        time.sleep(self.pause_s)
        sent = time.monotonic()
        result = self.tasks[series].apply_async(priority=priority)
        return float(1000 * (result.get(timeout=60, interval=0.05) - sent))


def figures(times: dict[tuple[str, int], list[float]]) -> dict[str, Any]:
    """Medians by series and priority, with how far they spread."""
    out: dict[str, Any] = {}
    for series in SERIES:
        by = {str(priority): times[series, priority] for priority in PRIORITIES}
        out[f"{series}_ms"] = {p: round(statistics.median(one), 2) for p, one in by.items()}
        deciles = {p: statistics.quantiles(one, n=10) for p, one in by.items()}
        out[f"{series}_p10_p90_ms"] = {p: [round(d[0], 2), round(d[-1], 2)] for p, d in deciles.items()}
    out["ratio"] = {p: round(out["ours_ms"][p] / out["stock_ms"][p], 2) for p in out["ours_ms"]}
    return out


def main() -> None:
    options = argparse.ArgumentParser(description="idle dispatch at each priority, beside plain Celery")
    options.add_argument("--rounds", type=int, default=40, help="calls of each series at each priority")
    options.add_argument("--pause", type=float, default=0.05, help="seconds before each call")
    given = options.parse_args()
    times: dict[tuple[str, int], list[float]] = {(s, p): [] for s in SERIES for p in PRIORITIES}
    with ExitStack() as stack:
        bench = Bench(stack, given.pause)
        bench.warm()
        for _ in range(given.rounds):
            for series, priority in times:
                times[series, priority].append(bench.once(series, priority))
    found = figures(times)
    for series in SERIES:
        print(f"{series:>22}: " + "  ".join(f"{p}: {ms:6.2f} ms" for p, ms in found[f"{series}_ms"].items()))
    print(json.dumps({"rounds": given.rounds, **found}))


if __name__ == "__main__":
    main()
