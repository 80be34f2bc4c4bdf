"""The memory's document: there and back, and refused with a reason when it is not right."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.decide.detect import Alarm
from balancer.decide.forecast import Batch, Foresight
from balancer.decide.foreseen import METHODS, SYSTEM
from balancer.decide.history import MoveHistory, ProfileMoves, TaskMoves
from balancer.decide.memory import Memory, fresh, from_document, to_document
from balancer.decide.packed import pack
from balancer.decide.seasons import Seasons
from balancer.decide.series import Series
from balancer.decide.tracks import Tracks
from balancer.errors import StoreError
from balancer.model import HARDWARE_PROFILES, SystemLoad, Thresholds
from balancer.settings import Settings
from tests.unit.fleets import known

RATIOS = st.floats(0, 1)
TIMES = st.floats(0, 1e10)
NAMES = st.text(min_size=1, max_size=8)


@st.composite
def foresights(draw: st.DrawFn, workers: tuple[str, ...]) -> Foresight:
    """What is kept of these workers, or of others."""
    names = draw(st.sampled_from([(), (SYSTEM, *workers), (SYSTEM, "other@h")]))
    sizes = {"m": len(METHODS), "n": len(names), "b": draw(st.integers(0, 3)) if names else 0}
    dice = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))

    def filled(kind: type[Any], **numbers: float) -> Any:
        columns = {
            name: dice.integers(0, column.places or 9, [sizes[axis] for axis in column.axes])
            .astype(column.dtype) for name, column in kind.LAYOUT.items()}
        return kind(**columns, **numbers)

    return Foresight(
        names=names, tracks=filled(Tracks), seasons=filled(Seasons, width_s=60.0, until=draw(TIMES)),
        pending=tuple(filled(Batch, made_at=at, due_at=at + 180) for at in draw(st.lists(TIMES, max_size=3))),
    )


@st.composite
def memories(draw: st.DrawFn) -> Memory:
    count = draw(st.integers(0, 5))
    loads = draw(st.dictionaries(
        NAMES, st.lists(st.one_of(st.none(), RATIOS), min_size=count, max_size=count).map(tuple),
        max_size=3,
    ))
    history = MoveHistory(
        profiles=draw(st.dictionaries(NAMES, st.builds(
            ProfileMoves, count=st.integers(0, 9), success=RATIOS, cost_s=st.one_of(st.none(), RATIOS),
        ), max_size=3)),
        tasks=draw(st.dictionaries(NAMES, st.builds(
            TaskMoves, count=st.integers(1, 9), last_at=TIMES, left=NAMES,
        ), max_size=3)),
        initiated=draw(st.integers(0, 99)), successful=draw(st.integers(0, 99)),
    )
    return Memory(
        thresholds=draw(st.one_of(st.none(), st.builds(
            Thresholds, high=RATIOS, low=RATIOS, initial_high=RATIOS, initial_low=RATIOS,
        ))),
        loads=tuple(
            SystemLoad(at=30.0 * i, average=draw(RATIOS), deviation=0.1, imbalance=0.2, highest=draw(NAMES))
            for i in range(count)
        ),
        worker_loads=loads,
        foresight=draw(foresights(tuple(loads))),
        alarm=draw(st.builds(Alarm, bad=st.integers(0, 9), good=st.integers(0, 9), on=st.booleans())),
        estimates=known(draw(st.dictionaries(
            NAMES, st.dictionaries(NAMES, st.floats(1e-3, 1e3), max_size=2), max_size=2,
        ))),
        prices=draw(st.dictionaries(NAMES, RATIOS, max_size=3)),
        history=history,
        cursor=draw(st.text(max_size=12)),
    )


@given(memories())
def test_there_and_back(memory: Memory) -> None:
    document = json.loads(json.dumps(to_document(memory), allow_nan=False))
    assert document["version"] == 3
    assert from_document(document) == memory


def test_fresh_memory_has_the_operators_thresholds_and_the_seeds_table() -> None:
    memory = fresh(Settings(utilization_threshold_high=0.8))
    assert memory.thresholds == Thresholds(high=0.8, low=0.2, initial_high=0.8, initial_low=0.2)
    assert memory.profiles == HARDWARE_PROFILES
    assert from_document(to_document(memory)) == memory


def full() -> dict[str, Any]:
    load = SystemLoad(at=1.0, average=0.5, deviation=0, imbalance=0)
    learned = known({"p": {"cpu": 1.0}})
    foresight = Foresight().of((SYSTEM, "w"))
    batch = Batch.of_nobody({"m": len(METHODS), "n": 2})
    memory = replace(fresh(Settings()), loads=(load,), worker_loads={"w": (0.5,)}, estimates=learned,
                     foresight=replace(foresight, pending=(batch,)))
    document: dict[str, Any] = json.loads(json.dumps(to_document(memory)))
    return document


BROKEN: list[tuple[str, Callable[[dict[str, Any]], Any], str]] = [
    ("no version", lambda d: d.pop("version"), "no version"),
    ("newer", lambda d: d.update(version=4), "version 4 is newer than 3"),
    ("strange version", lambda d: d.update(version="1"), "no version"),
    ("zero version", lambda d: d.update(version=0), "no version"),
    ("unknown field", lambda d: d.update(colour="red"), "unknown field 'colour'"),
    ("a list for an object", lambda d: d.update(prices=[]), "memory.prices: an object"),
    ("an object for a list", lambda d: d.update(loads={}), "memory.loads: a list"),
    ("text for a number", lambda d: d["loads"][0].update(average="half"), r"memory.loads\[0\].average"),
    ("NaN", lambda d: d["loads"][0].update(average=float("nan")), "a finite number"),
    ("true for a number", lambda d: d["loads"][0].update(average=True), "a finite number"),
    ("missing field", lambda d: d["loads"][0].pop("at"), "'at' is missing"),
    ("a column too few", lambda d: d["worker_loads"].update(values=[]), "a list of 1 columns"),
    ("half a column", lambda d: d["worker_loads"].update(values=[""]), r"worker_loads.values\[0\]"),
    ("names of nobody", lambda d: d["worker_loads"].update(names="[1]"), "names: a list of names"),
    ("no names", lambda d: d["worker_loads"].update(names="["), "worker_loads.names: "),
    ("ragged", lambda d: d.update(worker_loads={"w": [0.5, 0.5]}), "2 values for 1 records"),
    ("fraction of a count", lambda d: d["alarm"].update(bad=1.5), "a whole number"),
    ("unknown kind", lambda d: d["profiles"]["cpu"].update(kind="abacus"), "one of cpu, cuda"),
    ("missing kind", lambda d: d["profiles"].pop("qnn"), "qnn is missing"),
    ("estimates", lambda d: d.update(estimates=5), "memory.estimates"),
    ("estimate of nothing", lambda d: d["estimates"].update(pairs=[["p", "cpu", {}]]), "missing"),
    ("forecasts", lambda d: d.update(foresight=5), "memory.foresight: an object"),
    ("batches", lambda d: d["foresight"].update(pending=5), "memory.foresight.pending: a list"),
    ("half a batch", lambda d: d["foresight"]["pending"][0].pop("told"), r"pending\[0\]: an object of"),
    ("a batch of others", lambda d: d["foresight"]["pending"][0].update(told=""), r"pending\[0\].told"),
    ("no such method", lambda d: d["foresight"]["pending"][0].update(told="CQk="), "places from 0 to 3"),
    ("text for a time", lambda d: d["foresight"]["seasons"].update(until="now"), "seasons.until: a finite"),
    ("names of nobody", lambda d: d["foresight"].update(names=[5]), "foresight.names: a list of names"),
    ("number for text", lambda d: d.update(cursor=5), "memory.cursor: a str"),
]


@pytest.mark.parametrize(("spoil", "reason"), [b[1:] for b in BROKEN], ids=[b[0] for b in BROKEN])
def test_what_is_broken_is_refused_with_its_place(
    spoil: Callable[[dict[str, Any]], Any], reason: str
) -> None:
    document = full()
    assert from_document(document).loads[0].average == 0.5
    spoil(document)
    with pytest.raises(StoreError, match=reason):
        from_document(document)


def test_the_second_versions_columns_are_read() -> None:
    document = full()
    memory = from_document(document)
    loads = Series.of(memory.worker_loads, len(memory.loads))
    document |= {"version": 2, "worker_loads": {"names": list(loads.names), "values": pack(loads.table)}}
    workers = document["estimates"]["workers"]
    workers["names"] = json.loads(workers["names"])
    assert loads.names
    assert from_document(document) == memory


def test_the_first_versions_forecasts_are_made_anew() -> None:
    document = full()
    del document["foresight"]
    memory = from_document({**document, "version": 1, "pending": [{"half": 0.1}], "tracks": {"w": {}}})
    assert memory.foresight == Foresight()
    assert memory.loads[0].average == 0.5


def test_forecasts_by_other_methods_are_forgotten() -> None:
    document = full()
    document["foresight"]["methods"] = ["oracle"]
    assert from_document(document).foresight == Foresight()


def test_records_out_of_order_are_refused() -> None:
    document = full()
    document["loads"].append({**document["loads"][0], "at": 0.0})
    document |= {"worker_loads": {}, "foresight": {}}
    with pytest.raises(StoreError, match="order of time"):
        from_document(document)


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.sampled_from(sorted(full())), JSON)
def test_any_garbage_is_refused_or_read_and_never_another_error(field: str, garbage: Any) -> None:
    document = full()
    document[field] = garbage
    read: Memory | str
    try:
        read = from_document(document)
    except StoreError as error:
        read = str(error)
    assert read


@pytest.mark.parametrize("garbage", [None, [], "memory", 5])
def test_what_is_no_object_is_refused(garbage: Any) -> None:
    with pytest.raises(StoreError, match="an object was expected"):
        from_document(garbage)
