"""What a task declares: from its class, from `balancer_tasks`, and for one call.

Turns declarations into `TaskProfile` records. Knows nothing of Redis.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, Final

from balancer.errors import SettingError
from balancer.model import Needs, TaskProfile
from balancer.option_values import TASK_OPTIONS, as_bytes, near
from balancer.settings import Settings

#: What a task may declare, as class attributes, decorator options or keys of `balancer_tasks`.
DECLARATIONS: Final = (
    "hardware",
    "compute_capability",
    "gpu_memory",
    "memory",
    "affinity",
    "priority",
    "profile",
    "group",
    "size",
    "checkpoints",
    "restartable",
    "expected_s",
)

#: How alike a decorator's option and a declaration are that is taken for mistyped. Celery's own options are
#: less alike (`group_id`, `max_memory`), and those that a task class has are never asked.
MISTYPED: Final = 0.8

#: No value of an attribute.
UNKNOWN: Final = object()


def names(value: str | Sequence[str] | None) -> tuple[str, ...]:
    """One name or several as a tuple."""
    if not value:
        return ()
    return (value,) if isinstance(value, str) else tuple(str(v) for v in value)


def memory_size(value: Any, option: str) -> int | None:
    """Bytes from a number or from text such as "12GB"; `None` stays `None`. Raises `SettingError`."""
    return None if value is None else as_bytes(option, value)


def checked(cls: type) -> dict[str, Any]:
    """What the body of this task class declares, each as the balancer reads it; functions and what is not
    said apart. Raises `SettingError` that names the declaration, the task and what is wrong."""
    said, task = vars(cls), vars(cls).get("name") or cls.__name__
    _refuse_misnamed(cls, said, task)
    return {
        key: read(f"{key} of {task}", said[key]) for key, read in TASK_OPTIONS.items()
        if said.get(key) is not None and not callable(said[key])
    }


def _refuse_misnamed(cls: type, said: Mapping[str, Any], task: str) -> None:
    """Refuse a value that hides a method of the base, which would break when that is called, and an option of
    the decorator that nobody knows and that nearly is a declaration, which would do nothing."""
    for key, value in said.items():
        if key.startswith("_"):
            continue
        guess = near(key, TASK_OPTIONS, cutoff=MISTYPED)
        base = next((vars(one)[key] for one in cls.__mro__[1:] if key in vars(one)), UNKNOWN)
        if base is UNKNOWN and guess and "_decorated" in said:
            raise SettingError(f"{key} of {task}: there is no such option{guess} (an attribute of your own "
                               "goes on a task class)")
        if callable(base) and not callable(value) and not hasattr(value, "__get__"):
            raise SettingError(f"{key} of {task} = {value!r} hides the method {key}() of a balanced "
                               f"task{guess or '; give it another name'}")


def declarations(task: Any, settings: Settings, name: str) -> dict[str, Any]:
    """All that is declared for a task: its class first, then what `balancer_tasks` says of it."""
    found = {}
    if task is not None and getattr(task, "balanced", False):
        # Statically: a function given as `profile=` or `size=` must not become a bound method.
        attributes = {key: f"declared_{key}" if key == "priority" else key for key in DECLARATIONS}
        given = {key: inspect.getattr_static(task, name, None) for key, name in attributes.items()}
        found = {
            key: value.__func__ if isinstance(value, staticmethod) else value
            for key, value in given.items()
            if value is not None
        }
    return {**found, **settings.tasks.get(name, {})}


def saves_checkpoints(task: Any, settings: Settings) -> bool:
    """Whether a running task leaves at a checkpoint."""
    return bool(settings.tasks.get(task.name, {}).get("checkpoints", getattr(task, "checkpoints", False)))


def may_be_repeated(task: Any, settings: Settings) -> bool:
    """Whether a body may be left at any moment and begun again, from its last checkpoint or afresh."""
    said = settings.tasks.get(task.name, {}).get("restartable", getattr(task, "restartable", False))
    return bool(said) or saves_checkpoints(task, settings)


def profile_name(declared: Mapping[str, Any], task: str, args: Any, kwargs: Any, chosen: str | None,
                 group: str = "") -> str:
    """The profile of one call: what the caller chose, else the task's, else the task's name; each group's
    tasks are a profile of their own, as a profile is one lane."""
    given = chosen or declared.get("profile")
    name = str(given(*(args or ()), **(kwargs or {})) if callable(given) else given or task)
    return name if not group or name.endswith(f"@{group}") else f"{name}@{group}"


def group_of(declared: Mapping[str, Any], args: Any, kwargs: Any, chosen: str | None) -> str:
    """Whose task one call is: what the caller chose, else the task's group, else ""."""
    given = chosen or declared.get("group")
    return str((given(*(args or ()), **(kwargs or {})) if callable(given) else given) or "")


def size_of(declared: Mapping[str, Any], args: Any, kwargs: Any, chosen: float | None) -> float:
    """The size of one call, a positive number that scales its profile's duration; 1 when not said."""
    given = declared.get("size") if chosen is None else chosen
    value = float(
        given(*(args or ()), **(kwargs or {})) if callable(given) else 1.0 if given is None else given
    )
    return value if 0 < value < float("inf") else 1.0


def profile_of(declared: Mapping[str, Any], task: str, profile: str, settings: Settings,
               group: str = "") -> TaskProfile:
    """The record of a profile from what is declared; hints for the profile without its group count, too.
    Raises `SettingError` naming what is wrong."""
    plain = profile.removesuffix(f"@{group}") if group else profile
    told = {**settings.hints.get(plain, {}), **settings.hints.get(profile, {})}
    hints = {**(declared.get("expected_s") or {}), **told}
    return TaskProfile(
        name=profile,
        task=task,
        needs=Needs(
            hardware=names(declared.get("hardware")),
            compute_capability=declared.get("compute_capability"),
            gpu_memory_bytes=memory_size(declared.get("gpu_memory"), f"gpu_memory of {task}"),
            memory_bytes=memory_size(declared.get("memory"), f"memory of {task}"),
            affinity=names(declared.get("affinity")),
        ),
        priority=declared.get("priority"),
        checkpoints=bool(declared.get("checkpoints", False)),
        restartable=bool(declared.get("restartable", False)),
        expected_s={str(k): float(v) for k, v in hints.items()},
        group=group,
    )
