"""A central dispatcher: one process knows everything at once and hands each job to an idle worker.

The decisions are those of the balancer (the twin's governor and world, on the real clock), the hands are
plain Celery: a queue for each worker, of which it has one message at a time. So that it is seen what workers
which choose for themselves lose to it, or gain.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from balancer import settings as options
from balancer import wiring
from balancer.adapters.embedded_redis import EmbeddedRedis
from balancer.model import RunFinished
from balancer.routing import lane_queue
from balancer.simulate.governor import Governor
from balancer.simulate.history import Span
from balancer.simulate.node import Run
from balancer.simulate.queues import Waiting
from balancer.simulate.scenario import Job, Scenario
from balancer.simulate.world import World
from tests.bench.peers.book import Reader
from tests.bench.peers.celery_app import TRAIN, make_app
from tests.bench.peers.place import Place
from tests.bench.peers.plain import Submit
from tests.bench.peers.processes import workers
from tests.bench.peers.work import seconds_of

#: Seconds between two looks at what has ended.
LOOK_S: Final = 0.002


class Dispatcher:
    """Sees ends in the book, prices every second, and sends to whoever is idle."""

    def __init__(self, scenario: Scenario, app: Any, folder: Path) -> None:
        self.world = World(scenario)
        for node in self.world.nodes.values():
            node.alive = True
        chosen = options.parse({})
        self.governor = Governor(wiring.strategy_of(chosen), chosen)
        self.app = app
        self.book = Reader(folder)
        self.arrived: list[tuple[Job, str]] = []
        self.ids: dict[str, str] = {}
        self.stopped = threading.Event()

    def run(self) -> None:
        """Until it is stopped."""
        priced, every_s = float("-inf"), self.governor.settings.price_interval
        while not self.stopped.wait(LOOK_S):
            now = time.monotonic()
            for span in self.book.new():
                self._ended(span)
            while self.arrived:
                job, task_id = self.arrived.pop(0)
                self.ids[job.task_id] = task_id
                self.world.queues.put(lane_queue(job.profile), Waiting(job=job, since=now))
            if now - priced >= every_s:
                priced = now
                fleet = self.world.observe(now, self.governor.settings.heartbeat_ttl)
                self.world.orders = self.governor.turn(fleet, whole=False).orders
            for taken in self.world.takes(now):
                job = taken.message.job
                taken.node.runs[job.task_id] = Run(
                    message=taken.message, taken_at=now, started_at=now, since=now, share=0.0, rate=0.0)
                self.app.tasks[TRAIN].apply_async(
                    (self.ids[job.task_id], seconds_of(self.world.scenario, job)), queue=taken.node.name)

    def _ended(self, span: Span) -> None:
        node = self.world.nodes[span.worker]
        run = next(iter(node.runs.values()))
        del node.runs[run.job.task_id]
        node.idle_since = span.until_s
        self.governor.hear(RunFinished(
            at=span.until_s, task_id=span.task_id, profile=run.job.profile, worker=node.name,
            outcome="success", hardware_class=node.machine.hardware.hardware_class, epoch=0,
            duration_s=span.until_s - span.from_s, size=run.job.size, share=1.0))


@contextmanager
def central(name: str, scenario: Scenario, folder: Path) -> Iterator[Submit]:
    """The dispatcher and its workers, standing while the block lasts; what was learned is kept."""
    with EmbeddedRedis() as server:
        place = Place(system="central", url=server.url, folder=folder)
        app = make_app(place)
        dispatcher = Dispatcher(scenario, app, folder)
        thread = threading.Thread(target=dispatcher.run, name="dispatcher")

        def submit(job: Job, task_id: str) -> None:
            dispatcher.arrived.append((job, task_id))

        names = [m.name for m in scenario.machines]
        with workers(place, scenario.machines, {name: ("-Q", name) for name in names}, app, names):
            dispatcher.book.new()
            thread.start()
            try:
                yield submit
            finally:
                dispatcher.stopped.set()
                thread.join()
