"""What survives a tick, and its JSON document: the tick is `(memory, fleet) → (memory, decision)`.

Kept in Redis between ticks by whoever holds the lease (`docs/wire.md`, key `memory`). A document
that cannot be read is refused with its reason, so that the loop can set it aside and start fresh.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Final

import numpy as np

from balancer.decide import forecast, learned_document
from balancer.decide.detect import Alarm
from balancer.decide.document import decode, encode
from balancer.decide.energy import Draw
from balancer.decide.estimate import Estimates
from balancer.decide.fairness import Account
from balancer.decide.forecast import Foresight
from balancer.decide.heat import COOL, Warming
from balancer.decide.history import MoveHistory
from balancer.decide.packed import pack, pack_names, unpack, unpack_names
from balancer.decide.rest import Need
from balancer.decide.series import Series
from balancer.decide.thresholds import initial
from balancer.errors import StoreError
from balancer.model import HARDWARE_PROFILES, HardwareProfile, SystemLoad, Thresholds
from balancer.settings import Settings

#: Version of the document that this code writes and the newest that it reads.
VERSION: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """All that the next tick needs of the earlier ones.

    `loads` are the records of the performance window, oldest first; `worker_loads` holds, by worker,
    the utilisations (0–1) at the same times, `None` where the worker was not seen. `foresight` are the
    forecasts that are not due and how good earlier ones were. `prices`, `power` and `needs` are by
    hardware class, `profiles` by kind of hardware; `asleep` are the nodes that may sleep, `warming` the
    temperatures of the last looks (left out of the document). `account` is what groups of tasks were given,
    where fairness is asked for. `cursor` is the last event that was learned.
    """

    thresholds: Thresholds | None = None
    loads: tuple[SystemLoad, ...] = ()
    worker_loads: Mapping[str, tuple[float | None, ...]] = field(default_factory=lambda: MappingProxyType({}))
    foresight: Foresight = field(default_factory=Foresight)
    alarm: Alarm = field(default_factory=Alarm)
    estimates: Estimates = field(default_factory=Estimates)
    prices: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    power: Mapping[str, Draw] = field(default_factory=lambda: MappingProxyType({}))
    needs: Mapping[str, Need] = field(default_factory=lambda: MappingProxyType({}))
    asleep: tuple[str, ...] = ()
    account: Account | None = None
    warming: Warming = COOL
    profiles: Mapping[str, HardwareProfile] = field(default_factory=lambda: HARDWARE_PROFILES)
    history: MoveHistory = field(default_factory=MoveHistory)
    cursor: str = ""


def fresh(settings: Settings) -> Memory:
    """The memory of a fleet that was never balanced: initial thresholds and the seed's table."""
    return Memory(thresholds=initial(settings))


def to_document(memory: Memory) -> dict[str, Any]:
    """The memory as JSON can say it."""
    loads = Series.of(memory.worker_loads, len(memory.loads))
    document: dict[str, Any] = encode(
        replace(memory, worker_loads={}, estimates=Estimates(), foresight=Foresight(), warming=COOL))
    del document["warming"]
    document["worker_loads"] = {
        "names": pack_names(loads.names), "values": [pack(column) for column in loads.columns]}
    document["foresight"] = forecast.to_document(memory.foresight, loads.names)
    document["estimates"] = learned_document.to_document(memory.estimates)
    return {"version": VERSION, **document}


def from_document(document: Mapping[str, Any]) -> Memory:
    """The memory of a document; `StoreError` with the reason for one that cannot be read."""
    if not isinstance(document, Mapping):
        raise StoreError(f"memory: an object was expected, not {type(document).__name__}")
    version = document.get("version")
    if type(version) is not int or version < 1:
        raise StoreError(f"memory: {version!r} is no version")
    if version > VERSION:
        raise StoreError(f"memory: version {version} is newer than {VERSION}, the newest this balancer reads")
    apart = {"version", "estimates", "worker_loads", "foresight", "warming"}
    if version == 1:  # which kept forecasts as records; they are soon made anew
        apart |= {"pending", "tracks"}
    fields = {name: value for name, value in document.items() if name not in apart}
    estimates = _estimates(document.get("estimates", {}))
    memory: Memory = decode(Memory, {**fields, "estimates": {}, "worker_loads": {}}, "memory")
    loads = _series(document.get("worker_loads", {}), len(memory.loads))
    foresight = forecast.from_document(document["foresight"], tuple(loads), "memory.foresight") \
        if "foresight" in document else Foresight()
    return _checked(replace(memory, worker_loads=loads, foresight=foresight), estimates)


def _series(value: Any, length: int) -> Mapping[str, tuple[float | None, ...]]:
    """The workers' loads, a column for each record; in one text and as lists by name, too, as they were
    written before."""
    where = "memory.worker_loads"
    if not isinstance(value, Mapping) or set(value) != {"names", "values"}:
        found: Mapping[str, tuple[float | None, ...]] = decode(
            Mapping[str, tuple[float | None, ...]], value, where)
        return found
    names = unpack_names(value["names"], f"{where}.names")
    texts = value["values"]
    if isinstance(texts, str):
        return Series(names, unpack(texts, (len(names), length), f"{where}.values"))
    if not isinstance(texts, list) or len(texts) != length:
        raise StoreError(f"{where}.values: a list of {length} columns was expected")
    columns = [unpack(text, (len(names),), f"{where}.values[{i}]") for i, text in enumerate(texts)]
    table = np.array(columns, dtype=np.float64).reshape(length, len(names)).T
    return Series(names, table, columns)


def _estimates(value: Any) -> Estimates:
    try:
        return learned_document.from_document(value)
    except StoreError:
        raise
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise StoreError(f"memory.estimates: {error}") from error


def _checked(memory: Memory, estimates: Estimates) -> Memory:
    """The memory with its estimates, once its parts agree with each other."""
    times = [record.at for record in memory.loads]
    if times != sorted(times):
        raise StoreError("memory.loads: the records are not in the order of time")
    plain = {} if isinstance(memory.worker_loads, Series) else memory.worker_loads
    for name, values in plain.items():
        if len(values) != len(times):
            raise StoreError(f"memory.worker_loads.{name}: {len(values)} values for {len(times)} records")
    for kind in HARDWARE_PROFILES:
        if kind not in memory.profiles:
            raise StoreError(f"memory.profiles: {kind} is missing")
    return replace(memory, estimates=estimates)
