"""The processes of a Celery system: workers of every machine, and ours' beat; each ended by its id."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from balancer.demo.children import die_with_parent
from balancer.simulate.scenario import Machine
from tests.bench.peers.book import Reader
from tests.bench.peers.celery_app import START
from tests.bench.peers.place import Place
from tests.waiting import wait_until

#: Every worker alike, ours and plain: one process, and no chatter between workers at the start.
WORKER: Final = ("worker", "-P", "prefork", "-c", "1", "-l", "warning", "--without-mingle",
                 "--without-gossip")

#: Seconds in which all workers must be there.
START_S: Final = 90.0


@contextmanager
def celery(place: Place, log: str, *arguments: str) -> Iterator[None]:
    """`celery ARGUMENTS` there, as long as the block lasts."""
    parent, inherited = os.getpid(), {k: v for k, v in os.environ.items() if not k.startswith("BALANCER_")}
    with (place.folder / f"{log}.log").open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "celery", "-A", "tests.bench.peers.celery_app", *arguments],
            env={**inherited, **place.environment()}, cwd=Path(__file__).parents[3], stdout=output,
            stderr=output, start_new_session=True, preexec_fn=lambda: die_with_parent(parent))
    try:
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextmanager
def workers(place: Place, machines: Sequence[Machine], more: Mapping[str, Sequence[str]], app: Any,
            queues: Sequence[str] = ("celery",)) -> Iterator[None]:
    """A worker of every machine, with `more` arguments by name; the block begins when all are ready and have
    run something from `queues`, which they serve between them."""
    with ExitStack() as stack:
        for machine in machines:
            at = replace(place, machine=machine.name, hardware_class=machine.hardware.hardware_class)
            stack.enter_context(celery(
                at, machine.name, *WORKER, "-n", machine.name, *more.get(machine.name, ())))
        wait_until(lambda: len(app.control.ping(timeout=0.5)) >= len(machines), "all workers answer", START_S)
        book, started = Reader(place.folder), []
        for number in range(len(machines)):
            app.tasks[START].apply_async(queue=queues[number % len(queues)])

        def ran() -> bool:
            started.extend(book.new())
            return len(started) >= len(machines)

        wait_until(ran, "every worker runs something", START_S)
        yield
