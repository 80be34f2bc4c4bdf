"""Celery with the plug-in: twelve workers and a beat, all with the defaults, on the balanced transport.

What is learned in one pass over the fleet is known in the next.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis

from balancer.adapters.embedded_redis import EmbeddedRedis
from balancer.adapters.redis_keys import Keys
from balancer.simulate.scenario import Job, Scenario
from tests.bench.peers.celery_app import TRAIN, make_app
from tests.bench.peers.place import Place
from tests.bench.peers.plain import Submit
from tests.bench.peers.processes import START_S, celery, workers
from tests.bench.peers.work import hardware_options, seconds_of
from tests.waiting import wait_until


@contextmanager
def ours(name: str, scenario: Scenario, folder: Path, *, hinted: bool = False) -> Iterator[Submit]:
    """`name` is "ours", or "ours-" and a strategy; `hinted`, it is told the true mean run times."""
    hints = {profile: dict(by_class) for profile, by_class in scenario.seconds.items()} if hinted else {}
    with EmbeddedRedis() as server, redis.Redis.from_url(server.url) as client:
        place = Place(system=name, url=server.url, folder=folder, hints=json.dumps(hints))
        app, keys = make_app(place), Keys()
        more = {m: ("--hardware", said) for m, said in hardware_options(scenario.machines).items()}

        def submit(job: Job, task_id: str) -> None:
            app.tasks[TRAIN].apply_async(
                (task_id, seconds_of(scenario, job)), profile=job.profile, size=job.size)

        beat = ("beat", "-l", "info", "-s", str(folder / "schedule"), "--pidfile=")
        with celery(place, "beat", *beat), workers(place, scenario.machines, more, app):
            count = len(scenario.machines)
            wait_until(lambda: client.hlen(keys.beats) >= count and client.exists(keys.lease),
                       "workers report and a balancer works", START_S)
            yield submit
