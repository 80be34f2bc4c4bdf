"""The Celery app of the demo: `celery -A workers.demo_app balancer demo`, and what it starts.

As short as any user's app: make it, `install` it, declare tasks. It lives beside the worker side
because the package `balancer` imports nothing from here; bodies and figures are in `balancer.demo`.
"""

from __future__ import annotations

import os
from typing import Any

from celery import Celery, signals

from balancer.demo import tasks, watch
from balancer.demo.children import die_with_parent
from balancer.demo.place import Place, foreign_load
from balancer.demo.settings import conf
from balancer.demo.workload import MATRIX_PROFILE, MATRIX_TASK, seconds_table, training_tasks
from workers import BalancedTask, identity, install


def make_app(place: Place) -> Celery:
    """The demo's app for a process at `place`."""
    app = Celery("balancer-demo", broker=place.broker, backend=place.redis, set_as_current=False)
    app.conf.update(conf(place))
    install(app)
    book = watch.Watch(place.watch) if place.watch else None
    _declare_training(app, place, book)
    _declare_matrix(app, book)
    return app


def _declare_training(app: Celery, place: Place, book: watch.Watch | None) -> None:
    """A task for each set of cards that some kind of job runs on."""
    slowness = seconds_table(place.block_s)

    def train(self: Any, profile: str, size: float) -> dict[str, float]:
        """Train on an emulated GPU; `size` is in seconds of the fastest card for this profile."""
        worker = identity.worker_name()
        job = watch.Watched(self, book, worker, profile)
        here = tasks.slowness_here(slowness.get(profile, {}), identity.hardware_class(), profile)
        slowed = tasks.foreign_load_factor(foreign_load(place.folder, worker))
        done = tasks.emulated_training(job, size, here, slowed=slowed)
        job.ended()
        return done

    for name, classes in training_tasks().items():
        app.task(
            train,
            name=name,
            base=BalancedTask,
            bind=True,
            hardware=classes,
            checkpoints=True,
            checkpoint_serializer="json",
            shared=False,
        )


def _declare_matrix(app: Celery, book: watch.Watch | None) -> None:
    """The task of real CPU work."""

    def matrix(self: Any, blocks: int) -> dict[str, float]:
        """So many blocks of matrix products."""
        job = watch.Watched(self, book, identity.worker_name(), MATRIX_PROFILE)
        done = tasks.matrix_work(job, blocks)
        job.ended()
        return done

    app.task(
        matrix,
        name=MATRIX_TASK,
        base=BalancedTask,
        bind=True,
        hardware=("cpu",),
        profile=MATRIX_PROFILE,
        checkpoints=True,
        checkpoint_serializer="json",
        shared=False,
    )


here = Place.from_environment(os.environ)
app = make_app(here)


def _ready(sender: Any = None, **_: Any) -> None:
    if here.watch:
        watch.Watch(here.watch).ready(sender.hostname)


def _finished(sender: Any = None, **_: Any) -> None:
    watch.finished(sender)


def _pool_process(**_: Any) -> None:
    """A pool process goes when its worker is killed, as the worker does when the demo is."""
    if here.folder:
        die_with_parent(os.getppid())


signals.worker_ready.connect(_ready, weak=False)
signals.task_success.connect(_finished, weak=False)
signals.worker_process_init.connect(_pool_process, weak=False)
