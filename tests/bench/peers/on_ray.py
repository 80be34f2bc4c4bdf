"""Ray: tasks of one CPU each on a node of as many CPUs as there are machines.

Ray's worker processes come and go, so a task takes the machine that is free when it begins: as many run at
once as there are machines, and while all are busy that is the one which has just become free.
"""

from __future__ import annotations

import fcntl
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from balancer.simulate.scenario import Job, Scenario
from tests.bench.peers import body
from tests.bench.peers.plain import Submit
from tests.bench.peers.work import seconds_of


@contextmanager
def free_machine(folder: Path, machines: list[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """A machine that nobody has, held by a lock on its file."""
    for name, hardware_class in random.sample(machines, len(machines)):
        held = os.open(folder / f"{name}.lock", os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(held)
            continue
        try:
            yield name, hardware_class
        finally:
            os.close(held)
        return
    raise RuntimeError("more tasks run at once than there are machines")


def train(folder: str, machines: list[tuple[str, str]], task_id: str, seconds: dict[str, float]) -> None:
    """A job on a free machine."""
    with free_machine(Path(folder), machines) as (name, hardware_class):
        body.train(Path(folder), name, hardware_class, task_id, seconds)


@contextmanager
def on_ray(name: str, scenario: Scenario, folder: Path) -> Iterator[Submit]:
    """Ray on this machine, standing while the block lasts."""
    import ray

    machines = [(m.name, m.hardware.hardware_class) for m in scenario.machines]
    ray.init(num_cpus=len(machines), include_dashboard=False, configure_logging=False, log_to_driver=False,
             object_store_memory=100 * 2**20, _temp_dir=str(folder / "ray"), _node_ip_address="127.0.0.1")
    try:
        remote = ray.remote(num_cpus=1, max_retries=0)(train)
        first = {hardware_class: body.START_S for _, hardware_class in machines}
        ray.get([remote.remote(str(folder), machines, body.START_ID, first) for _ in machines])
        references: list[Any] = []

        def submit(job: Job, task_id: str) -> None:
            references.append(remote.remote(str(folder), machines, task_id, seconds_of(scenario, job)))

        yield submit
    finally:
        ray.shutdown()
