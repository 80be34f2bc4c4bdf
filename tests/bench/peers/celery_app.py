"""The Celery app of every Celery system: plain, with its defaults or tuned for long tasks, or ours."""

from __future__ import annotations

from typing import Any

from celery import Celery

from tests.bench.peers import body
from tests.bench.peers.place import Place, here

TRAIN = "peers.train"
START = "peers.start"


def make_app(place: Place) -> Celery:
    """The app of a process that stands there, a worker or a client."""
    app = ours(place) if place.system.startswith("ours") else plain(place)

    @app.task(shared=False, name=START, ignore_result=True)
    def start_task() -> None:
        body.start(place.folder, place.machine)

    return app


def plain(place: Place) -> Celery:
    """Without the plug-in."""
    app = Celery("peers", broker=place.url, set_as_current=False)
    app.conf.broker_connection_retry_on_startup = True
    if place.system != "default":
        app.conf.update(task_acks_late=True, worker_prefetch_multiplier=1)

    @app.task(shared=False, name=TRAIN, ignore_result=True)
    def train_task(task_id: str, seconds: dict[str, float]) -> None:
        body.train(place.folder, place.machine, place.hardware_class, task_id, seconds)

    return app


def ours(place: Place) -> Celery:
    """With the plug-in, on its own transport and with its defaults."""
    from workers import BalancedTask, install

    app = Celery("peers", broker=f"balanced-{place.url}", set_as_current=False)
    app.conf.update(broker_connection_retry_on_startup=True,
                    balancer_db_path=str(place.folder / "ledger.duckdb"))
    _, _, strategy = place.system.partition("-")
    if strategy:
        app.conf.balancer_strategy = strategy
    install(app)

    @app.task(shared=False, name=TRAIN, ignore_result=True, base=BalancedTask, bind=True, hardware=("cuda",),
              checkpoints=True)
    def train_task(self: Any, task_id: str, seconds: dict[str, float]) -> None:
        body.train_in_steps(place.folder, place.machine, place.hardware_class, task_id, seconds, self)

    return app


app = make_app(here())
