"""Dask: one worker process with one thread a machine, and its own scheduling with work stealing."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from balancer.simulate.scenario import Job, Scenario
from tests.bench.peers import body
from tests.bench.peers.plain import Submit
from tests.bench.peers.work import seconds_of


def train(folder: str, machines: list[tuple[str, str]], task_id: str, seconds: dict[str, float]) -> None:
    """A job on the machine that this worker is."""
    from distributed import get_worker

    name, hardware_class = machines[int(get_worker().name)]
    body.train(Path(folder), name, hardware_class, task_id, seconds)


@contextmanager
def on_dask(name: str, scenario: Scenario, folder: Path) -> Iterator[Submit]:
    """A cluster on this machine, standing while the block lasts."""
    from distributed import Client, LocalCluster

    machines = [(m.name, m.hardware.hardware_class) for m in scenario.machines]
    futures: list[Any] = []
    with (LocalCluster(n_workers=len(machines), threads_per_worker=1, processes=True, dashboard_address=None,
                       local_directory=str(folder), silence_logs=logging.CRITICAL) as cluster,
          Client(cluster) as client):
        client.wait_for_workers(len(machines))
        first = {hardware_class: body.START_S for _, hardware_class in machines}
        client.gather([client.submit(train, str(folder), machines, body.START_ID, first, workers=[number],
                                     pure=False) for number in range(len(machines))])

        def submit(job: Job, task_id: str) -> None:
            # The key's first part is what Dask takes for a kind of task when it learns durations.
            kind = "".join(c if c.isalnum() else "_" for c in job.profile)
            futures.append(client.submit(train, str(folder), machines, task_id, seconds_of(scenario, job),
                                         key=f"{kind}-{os.urandom(8).hex()}", pure=False))

        yield submit
