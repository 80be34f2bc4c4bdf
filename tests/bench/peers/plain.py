"""Plain Celery, as its users spread work over unlike hardware: by queues of hardware, or one for all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from balancer.adapters.embedded_redis import EmbeddedRedis
from balancer.simulate.scenario import Job, Scenario
from tests.bench.peers.celery_app import TRAIN, make_app
from tests.bench.peers.place import Place
from tests.bench.peers.processes import workers
from tests.bench.peers.program import program
from tests.bench.peers.work import seconds_of

#: One publishes a job now, under this task id.
Submit = Callable[[Job, str], None]

#: The queue of a job.
Choose = Callable[[Job], str]


def shared(scenario: Scenario) -> Choose:
    """One queue for all."""
    return lambda job: "celery"


def static(scenario: Scenario) -> Choose:
    """The queue of the hardware that is fastest for the kind."""
    best = {profile: min(by, key=by.__getitem__) for profile, by in scenario.seconds.items()}
    return lambda job: best[job.profile]


def oracle(scenario: Scenario) -> Choose:
    """The queue of the class that is furthest behind its share by the program, with true speeds and work."""
    shares = program(scenario).share
    behind = {profile: dict.fromkeys(by_class, 0.0) for profile, by_class in shares.items()}
    for job in scenario.jobs:
        for name, share in shares[job.profile].items():
            behind[job.profile][name] += share * job.work

    def choose(job: Job) -> str:
        mine = behind[job.profile]
        name = max(mine, key=mine.__getitem__)
        mine[name] -= job.work
        return name

    return choose


#: How each of these chooses. "celery_default" is the shared queue with nothing set: early ack, four ahead.
CHOICES = {"celery_oracle": oracle, "celery_static": static, "celery_shared": shared,
           "celery_default": shared}


@contextmanager
def plain(name: str, scenario: Scenario, folder: Path) -> Iterator[Submit]:
    """The system of this name, standing while the block lasts."""
    choose = CHOICES[name](scenario)
    by_hardware = name in ("celery_oracle", "celery_static")
    with EmbeddedRedis() as server:
        place = Place(system=name.removeprefix("celery_"), url=server.url, folder=folder)
        app = make_app(place)
        more = {m.name: ("-Q", m.hardware.hardware_class) for m in scenario.machines if by_hardware}
        queues = [m.hardware.hardware_class for m in scenario.machines] if by_hardware else ["celery"]

        def submit(job: Job, task_id: str) -> None:
            app.tasks[TRAIN].apply_async((task_id, seconds_of(scenario, job)), queue=choose(job))

        with workers(place, scenario.machines, more, app, queues):
            yield submit
