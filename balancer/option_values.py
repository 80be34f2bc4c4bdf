"""Turns what an operator wrote into an option's value, or says exactly why it cannot be one.

Pure. `balancer.settings` calls it for each field; texts (environment, command line) and Python
values (conf) are read alike. Every error names the option, the value and the way out.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from typing import Any, Final

from balancer.errors import SettingError
from balancer.model import KINDS, as_kind

_TRUE: Final = frozenset({"1", "true", "yes", "on"})
_FALSE: Final = frozenset({"0", "false", "no", "off"})
_BYTES: Final = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(i?)B?\s*$", re.IGNORECASE)
#: Units of memory: 16GB = 16 · 10⁹ bytes, 16GiB = 16 · 2³⁰.
_POWERS: Final = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}


def near(name: str, known: Iterable[str], *, cutoff: float = 0.6) -> str:
    """`, did you mean 'x'?` for the nearest known name, else an empty text."""
    found = get_close_matches(name, list(known), n=1, cutoff=cutoff)
    return f", did you mean {found[0]!r}?" if found else ""


def as_bool(option: str, value: Any) -> bool:
    if isinstance(value, bool):
        return value
    text = str(value).strip().lower()
    if isinstance(value, int | str) and text in _TRUE | _FALSE:
        return text in _TRUE
    raise SettingError(f"{option} = {value!r}: must be true or false (also yes/no, on/off, 1/0)")


def as_number(option: str, value: Any, *, low: float | None = None, high: float | None = None,
              unit: str = "") -> float:
    """A finite number within its range. Raises `SettingError` with the nearest possible value."""
    number = math.nan
    if not isinstance(value, bool) and (isinstance(value, int | float | str) or hasattr(value, "__float__")):
        try:
            number = float(value)
        except (ValueError, OverflowError):
            number = math.nan
    wanted = _range(low, high, unit)
    if math.isnan(number):
        raise SettingError(f"{option} = {value!r}: must be a number{wanted}")
    nearest = number
    if low is not None and number < low:
        nearest = low
    if high is not None and number > high:
        nearest = high
    if nearest != number or math.isinf(number):
        hint = "" if math.isinf(nearest) else f"; the nearest is {nearest:g}"
        raise SettingError(f"{option} = {value!r}: must be a number{wanted}{hint}")
    return number


def as_integer(option: str, value: Any, *, low: float | None = None, high: float | None = None,
               unit: str = "") -> int:
    number = as_number(option, value, low=low, high=high, unit=unit)
    if number != int(number):
        raise SettingError(f"{option} = {value!r}: must be a whole number{_range(low, high, unit)}; "
                           f"the nearest is {round(number)}")
    return int(value) if isinstance(value, str) and value.strip().isdigit() else int(number)


def as_text(option: str, value: Any) -> str:
    if isinstance(value, str):
        return value.strip()
    if hasattr(value, "__fspath__"):
        return str(value)
    raise SettingError(f"{option} = {value!r}: must be a text, not {type(value).__name__}")


def as_mapping(option: str, value: Any) -> Mapping[str, Any]:
    """A mapping with text keys; a text is read as JSON."""
    if isinstance(value, str):
        try:
            value = json.loads(value) if value.strip() else {}
        except ValueError as error:
            raise SettingError(f"{option}: must be a mapping; the text is no JSON: {error}") from error
    if not isinstance(value, Mapping):
        raise SettingError(f"{option} = {value!r}: must be a mapping, not {type(value).__name__}")
    for key in value:
        if not isinstance(key, str) or not key:
            raise SettingError(f"{option}: its keys must be names, not {key!r}")
    return value


def as_bytes(option: str, value: Any) -> int:
    """A memory size: whole bytes, or a text such as "16GB" (10⁹) or "512MiB" (2²⁰)."""
    if isinstance(value, str):
        found = _BYTES.match(value)
        if not found:
            raise SettingError(f"{option} = {value!r}: must be bytes or a size such as '16GB' or '512MiB'")
        value = int(float(found[1]) * (1024 if found[3] else 1000) ** _POWERS[found[2].upper()])
    return as_integer(option, value, low=1, unit="bytes")


def as_names(option: str, value: Any) -> tuple[str, ...]:
    """A list of names; a text is split at commas."""
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",") if part.strip()]
    if isinstance(value, list | tuple) and all(isinstance(part, str) and part for part in value):
        return tuple(value)
    raise SettingError(f"{option} = {value!r}: must be a name or a list of names")


def as_hardware(option: str, value: Any) -> tuple[str, ...]:
    """A list of kinds of hardware and of classes such as "cuda-V100"."""
    return tuple(_hardware(option, name) for name in as_names(option, value))


def as_seconds_by_class(option: str, value: Any) -> dict[str, float]:
    """{hardware class or kind: seconds for size 1}, each above 0."""
    return {
        _hardware(option, name): _positive(f"{option}[{name!r}]", seconds)
        for name, seconds in as_mapping(option, value).items()
    }


def as_hints(option: str, value: Any) -> dict[str, dict[str, float]]:
    """{profile: {hardware class or kind: seconds}}."""
    return {
        profile: as_seconds_by_class(f"{option}[{profile!r}]", by_class)
        for profile, by_class in as_mapping(option, value).items()
    }


def as_weights(option: str, value: Any) -> dict[str, float]:
    """{group of tasks: its weight}, each above 0."""
    return {
        name: _positive(f"{option}[{name!r}]", weight) for name, weight in as_mapping(option, value).items()
    }


def as_tasks(option: str, value: Any) -> dict[str, dict[str, Any]]:
    """{task name: {what the task needs}}, with sizes in bytes and lists as tuples."""
    tasks: dict[str, dict[str, Any]] = {}
    for task, needs in as_mapping(option, value).items():
        where = f"{option}[{task!r}]"
        tasks[task] = {}
        for key, given in as_mapping(where, needs).items():
            if key not in TASK_OPTIONS:
                raise SettingError(f"{where}: unknown key {key!r}{near(key, TASK_OPTIONS)} "
                                   f"(there are: {', '.join(TASK_OPTIONS)})")
            tasks[task][key] = TASK_OPTIONS[key](f"{where}[{key!r}]", given)
    return tasks


def _range(low: float | None, high: float | None, unit: str) -> str:
    after = f" {unit}" if unit else ""
    if low is not None and high is not None:
        return f" from {low:g} to {high:g}{after}"
    if low is not None:
        return f" of at least {low:g}{after}"
    return f" of at most {high:g}{after}" if high is not None else after


def _hardware(option: str, name: str) -> str:
    """A kind of hardware, or a class, which begins with its kind; the kind as it is written elsewhere."""
    kind, dash, model = name.partition("-")
    known = as_kind(kind)
    if known is None:
        raise SettingError(f"{option}: {name!r} is unknown; there are {', '.join(KINDS)}, or a class such as "
                           "'cuda-V100'")
    return f"{known}{dash}{model}"


def _positive(option: str, value: Any) -> float:
    number = as_number(option, value)
    if number <= 0:
        raise SettingError(f"{option} = {value!r}: must be a number above 0")
    return number


def _priority(option: str, value: Any) -> int:
    return as_integer(option, value, low=0, high=9)


def _capability(option: str, value: Any) -> float:
    return as_number(option, value, low=0, high=1000)


def _text_or_callable(option: str, value: Any) -> Any:
    return value if callable(value) else as_text(option, value)


def _size(option: str, value: Any) -> Any:
    return value if callable(value) else _positive(option, value)


#: What `balancer_tasks` may say of a task; the names are those of the task class's own options.
TASK_OPTIONS: Final[Mapping[str, Callable[[str, Any], Any]]] = {
    "hardware": as_hardware,
    "compute_capability": _capability,
    "gpu_memory": as_bytes,
    "memory": as_bytes,
    "affinity": as_names,
    "priority": _priority,
    "profile": _text_or_callable,
    "group": _text_or_callable,
    "size": _size,
    "checkpoints": as_bool,
    "restartable": as_bool,
    "expected_s": as_seconds_by_class,
}
