"""What a task declares in code is read as strictly as `balancer_tasks`, and where it is defined."""

from __future__ import annotations

from typing import Any

import pytest
from celery import Celery

from balancer.errors import SettingError
from balancer.model import TaskProfile
from balancer.settings import Settings
from workers.declared import declarations, profile_of, size_of
from workers.task import BalancedTask


def task(**declared: Any) -> Any:
    """A task of a class that declares this."""
    return type("train", (BalancedTask,), {"name": "proj.train", "run": lambda self: None, **declared})()


def profile(**declared: Any) -> TaskProfile:
    """The profile that is published for it."""
    said = declarations(task(**declared), Settings(), "proj.train")
    return profile_of(said, "proj.train", "proj.train", Settings())


@pytest.mark.parametrize(("declared", "says"), [
    ({"hardware": ("gpu",)}, "hardware of proj.train: 'gpu' is unknown; there are cpu, cuda,"),
    ({"hardware": "V100"}, "or a class such as 'cuda-V100'"),
    ({"compute_capability": "high"}, "compute_capability of proj.train = 'high': must be a number"),
    ({"gpu_memory": "8 apples"}, "gpu_memory of proj.train = '8 apples': must be bytes or a size"),
    ({"memory": -1}, "memory of proj.train = -1: must be a number of at least 1 bytes"),
    ({"affinity": 5}, "affinity of proj.train = 5: must be a name or a list of names"),
    ({"priority": 11}, "priority of proj.train = 11: must be a number from 0 to 9"),
    ({"profile": 5}, "profile of proj.train = 5: must be a text"),
    ({"size": -1}, "size of proj.train = -1: must be a number above 0"),
    ({"checkpoints": "maybe"}, "checkpoints of proj.train = 'maybe'"),
    ({"expected_s": 5}, "expected_s of proj.train = 5: must be a mapping"),
    ({"expected_s": {"V100": 5}}, "expected_s of proj.train: 'V100' is unknown"),
    ({"expected_s": {"cuda": "soon"}}, "expected_s of proj.train['cuda'] = 'soon': must be a number"),
])
def test_a_declaration_that_cannot_be_is_refused_where_it_stands(declared: dict[str, Any], says: str) -> None:
    with pytest.raises(SettingError) as refused:
        task(**declared)
    assert says in str(refused.value)


def body() -> None:
    """What a task does."""


@pytest.mark.parametrize(("option", "says"), [
    ({"checkpoint": True}, "of proj.train = True hides the method checkpoint() of a balanced task, did you "
                           "mean 'checkpoints'?"),
    ({"on_failure": 5}, "on_failure of proj.train = 5 hides the method on_failure() of a balanced task;"),
    ({"restartible": True}, "restartible of proj.train: there is no such option, did you mean 'restartable'"),
    ({"gpu_mem": "8GB"}, "did you mean 'gpu_memory'?"),
])
def test_an_option_that_is_mistyped_is_refused_where_it_stands(option: dict[str, Any], says: str) -> None:
    app = Celery("typed", set_as_current=False)
    with pytest.raises(SettingError) as refused:
        app.task(base=BalancedTask, name="proj.train", lazy=False, shared=False, **option)(body)
    assert says in str(refused.value)


def test_what_celery_and_the_task_class_know_is_no_mistake() -> None:
    app = Celery("typed", set_as_current=False)

    class Own(BalancedTask):
        profiles = ("a",)
        on_failure = staticmethod(lambda *arguments: None)

        @property
        def replace(self) -> int:
            return 1

    celerys = {"rate_limit": "1/s", "expires": 5, "ignore_result": True, "serializer": "json",
               "throws": (OSError,), "autoretry_for": (OSError,), "retry_backoff": True, "max_retries": 1,
               "retry_kwargs": {}, "group_id": "g", "max_memory": 5, "typing": False, "pydantic": False,
               "checkpoint_serializer": "json", "priority": 3, "track_started": True, "profiles": ("b",)}
    made = app.task(base=Own, name="proj.own", lazy=False, shared=False, **celerys)(body)
    assert (made.profiles, made.declared_priority, made.max_memory) == (("b",), 3, 5)


def test_texts_are_read_as_in_the_configuration() -> None:
    made = profile(hardware="CUDA-A100, cpu", compute_capability="7.0", gpu_memory="8GB", memory="1GiB",
                   affinity="rack=a", priority="9", expected_s={"Cuda": "12", "cpu": 90})
    assert made.needs.hardware == ("cuda-A100", "cpu")
    assert made.needs.compute_capability == 7.0
    assert (made.needs.gpu_memory_bytes, made.needs.memory_bytes) == (8 * 10**9, 2**30)
    assert (made.needs.affinity, made.priority) == (("rack=a",), 9)
    assert made.expected_s == {"cuda": 12.0, "cpu": 90.0}


def test_functions_stay_functions() -> None:
    made = task(size=lambda steps: 2 * steps, profile=lambda steps: f"p{steps}")
    said = declarations(made, Settings(), "t")
    assert size_of(said, (3,), {}, None) == 6.0
    assert said["profile"](3) == "p3"


def test_what_is_not_declared_is_not_there() -> None:
    assert profile() == TaskProfile(name="proj.train", task="proj.train")
