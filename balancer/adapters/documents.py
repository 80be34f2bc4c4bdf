"""The JSON documents of docs/wire.md, written and read back strictly.

A reader returns its record or raises `StoreError` with a reason a person can act on; the store
sets the document aside with it and goes on. Writers refuse NaN and infinity, which are no JSON.
"""

from __future__ import annotations

import dataclasses
import json
import typing
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, NoReturn

from balancer.adapters.record_codec import from_plain, to_plain
from balancer.errors import StoreError
from balancer.model import Event, Hardware, HeldTask, Needs, Order, TaskProfile

#: The version of every document; a reader refuses a newer one.
VERSION: Final = 1

Health = Literal["ok", "degraded", "draining"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """What a worker is: everything of it that does not change from beat to beat."""

    name: str
    instance: str
    hardware: Hardware
    slots: int
    pool: str = ""
    queues: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Holds:
    """What a worker holds, and how it is."""

    running: tuple[HeldTask, ...] = ()
    reserved: tuple[HeldTask, ...] = ()
    health: Health = "ok"


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneEntry:
    """An entry of the lane table. `used_at` is when a publisher last entered it (its clock, s)."""

    profile: str
    task: str
    needs: Needs = dataclasses.field(default_factory=Needs)
    priority: int | None = None
    checkpoints: bool = False
    restartable: bool = False
    expected_s: typing.Mapping[str, float] = dataclasses.field(default_factory=dict)
    used_at: float | None = None
    group: str = ""

    def task_profile(self) -> TaskProfile:
        return TaskProfile(name=self.profile, task=self.task, needs=self.needs, priority=self.priority,
                           checkpoints=self.checkpoints, restartable=self.restartable,
                           expected_s=self.expected_s, group=self.group)


def write(value: Any, what: str) -> str:
    """`value` as compact JSON. Raises `StoreError` when it holds what JSON does not know."""
    try:
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise StoreError(f"{what} cannot be written as JSON: {error}") from error


def read(raw: bytes | str, what: str) -> dict[str, Any]:
    """`raw` as a JSON object. Raises `StoreError` when it is none, or holds NaN or infinity."""
    try:
        value = _DECODER.decode(raw if isinstance(raw, str) else raw.decode())
    except (ValueError, RecursionError) as error:
        raise StoreError(f"{what} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise StoreError(f"{what} is not a JSON object")
    return value


def description_document(*, name: str, instance: str, hardware: Hardware, slots: int, pool: str = "",
                         queues: Sequence[str] = ()) -> str:
    """A worker's description, for the hash `workers`."""
    record = Description(name=name, instance=instance, hardware=hardware, slots=slots, pool=pool,
                         queues=tuple(queues))
    return write({"v": VERSION, **to_plain(record)}, "description")


def read_description(raw: bytes) -> Description:
    description = from_plain(Description, _versioned(raw, "description"), "description")
    if not description.name or not description.instance:
        raise StoreError("description: name and instance must not be empty")
    return description


def holds_document(*, running: Sequence[HeldTask], reserved: Sequence[HeldTask], health: str = "ok") -> str:
    """What a worker holds, for the hash `holds`."""
    fields = {"running": to_plain(tuple(running)), "reserved": to_plain(tuple(reserved)), "health": health}
    return write({"v": VERSION, **fields}, "holds")


def read_holds(raw: bytes) -> Holds:
    return from_plain(Holds, _versioned(raw, "holds"), "holds")


def profile_document(profile: TaskProfile, *, used_at: float | None = None) -> str:
    """An entry of the lane table."""
    fields = to_plain(profile)
    fields["profile"] = fields.pop("name")
    stamp = {} if used_at is None else {"used_at": used_at}
    return write({"v": VERSION, **fields, **stamp}, "lane")


def read_lane(raw: bytes) -> LaneEntry:
    return from_plain(LaneEntry, _versioned(raw, "lane"), "lane")


def read_order(raw: bytes) -> Order:
    return from_plain(Order, _versioned(raw, "order"), "order")


def event_document(event: Event) -> str:
    """An event without its time, which is the stream entry's id."""
    fields = to_plain(event)
    fields.pop("at", None)
    return write({"type": type(event).__name__, **fields}, "event")


_EVENTS: Final = {kind.__name__: kind for kind in typing.get_args(Event)}


def read_event(raw: bytes, at: float) -> Event:
    """The event that happened at `at` (server clock, s)."""
    fields = read(raw, "event")
    kind = _EVENTS.get(str(fields.get("type")))
    if kind is None:
        raise StoreError(f"event: unknown type {str(fields.get('type'))[:60]!r}; known: {', '.join(_EVENTS)}")
    return typing.cast(Event, from_plain(kind, {**fields, "at": at}, str(fields["type"])))


def _versioned(raw: bytes, what: str) -> dict[str, Any]:
    fields = read(raw, what)
    version = fields.get("v")
    if isinstance(version, bool) or not isinstance(version, int) or version < 1:
        raise StoreError(f"{what} has no version")
    if version > VERSION:
        raise StoreError(f"{what} has version {version}, newer than {VERSION}, which this balancer reads")
    return fields


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number of JSON")


#: Made once: `json.loads` would make one for each document.
_DECODER: Final = json.JSONDecoder(parse_constant=_refuse_constant)
