"""The documents of docs/wire.md: what is written comes back, and what cannot be is refused by name."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.adapters import documents
from balancer.adapters.order_text import order_document
from balancer.errors import StoreError
from balancer.model import (
    Duplicate,
    Event,
    Footprint,
    HandedOver,
    Hardware,
    HeldTask,
    LaneOffer,
    Needs,
    Order,
    Refused,
    RunFinished,
    RunStarted,
    TaskProfile,
)

EVENTS: list[Event] = [
    RunStarted(at=7.0, task_id="a", profile="p", worker="w", hardware_class="cpu", epoch=1, resumed=True),
    RunFinished(
        at=7.0,
        task_id="a",
        profile="p",
        worker="w",
        hardware_class="cpu",
        epoch=1,
        outcome="moved",
        duration_s=0.0,
        size=0.5,
        share=None,
    ),
    HandedOver(at=7.0, move_id="m", task_id="a", worker="w", queue="q", state_bytes=0),
    Refused(at=7.0, move_id="m", task_id="a", worker="w", reason="finished"),
    Duplicate(at=7.0, task_id="a", worker="w", reason="held"),
]

texts = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)
amounts = st.floats(0, 1e12)


def description(**changes: Any) -> bytes:
    fields = {"v": 1, "name": "w", "instance": "h:1:1", "hardware": {"kind": "cpu"}, "slots": 1, **changes}
    return json.dumps(fields).encode()


@pytest.mark.parametrize("event", EVENTS)
def test_events_come_back_with_the_streams_time(event: Event) -> None:
    document = documents.event_document(event)
    assert "at" not in json.loads(document)
    assert documents.read_event(document.encode(), 7.0) == event


@given(name=texts, label=texts, slots=st.integers(0, 10_000), memory=st.none() | st.integers(0, 2**60))
def test_descriptions_come_back(name: str, label: str, slots: int, memory: int | None) -> None:
    hardware = Hardware(kind="rocm", model=name, index=2, memory_bytes=memory, labels=((label, name),))
    raw = documents.description_document(
        name=name, instance="h:1:1", hardware=hardware, slots=slots, queues=[name, label]
    ).encode()
    found = documents.read_description(raw)
    assert (found.name, found.hardware, found.slots, found.queues) == (name, hardware, slots, (name, label))


@given(started=st.none() | amounts, size=st.floats(1e-9, 1e9), priority=st.none() | st.integers(0, 9))
def test_holdings_come_back(started: float | None, size: float, priority: int | None) -> None:
    held = HeldTask(task_id="a", profile="p", size=size, started_at=started, priority=priority, tag="t")
    found = documents.read_holds(documents.holds_document(running=[held], reserved=[held, held]).encode())
    assert (found.running, found.reserved, found.health) == ((held,), (held, held), "ok")


@given(st.dictionaries(texts, amounts, max_size=3), amounts)
def test_orders_come_back(values: dict[str, float], price: float) -> None:
    order = Order(
        hardware_class="c",
        at=1.0,
        groups=(tuple(values), ()),
        values=values,
        price=price,
        offers=tuple(
            LaneOffer(queue=q, seconds=v, best_seconds=v, value=v, ratio=v) for q, v in values.items()
        ),
        usual=tuple((1 / len(values), Footprint(share=v)) for v in values.values()),
    )
    assert documents.read_order(order_document(order).encode()) == order


def test_an_order_of_an_older_balancer_is_followed_without_the_usual_tasks() -> None:
    order = Order(hardware_class="c", at=1.0, groups=(("q",),), usual=((1.0, Footprint(share=8e9)),))
    fields = json.loads(order_document(order))
    del fields["usual"]
    assert documents.read_order(json.dumps(fields).encode()) == replace(order, usual=())


def test_lanes_come_back() -> None:
    profile = TaskProfile(
        name="p",
        task="t",
        needs=Needs(hardware=("cuda",), affinity=("a=b",)),
        priority=0,
        restartable=True,
        expected_s={"cuda": 1.5},
    )
    entry = documents.read_lane(documents.profile_document(profile, used_at=3.0).encode())
    assert (entry.task_profile(), entry.used_at) == (profile, 3.0)


def test_fields_of_a_later_writer_are_passed_over() -> None:
    found = documents.read_description(description(colour="red", hardware={"kind": "cpu", "cores": 4}))
    assert found.hardware == Hardware(kind="cpu")


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "description is not JSON: Expecting value"),
        (b"\xff\xfe\x00", "description is not JSON"),
        (b"[1]", "description is not a JSON object"),
        (b"[" * 100_000, "description is not JSON: maximum recursion"),
        (b"{}", "description has no version"),
        (description(v=99), "description has version 99, newer than 1"),
        (description(v=True), "description has no version"),
        (description(v="1"), "description has no version"),
        (description(slots=math.nan), "description is not JSON: NaN is not a number of JSON"),
        (description(slots=-1), "description.slots is negative: -1"),
        (description(slots=1.5), "description.slots: a whole number was expected, not 1.5"),
        (description(slots=True), "description.slots: a whole number was expected, not True"),
        (description(slots=10**40), "description.slots: a whole number was expected"),
        (description(name=None), "description.name: a text was expected, not None"),
        (description(name=""), "description: name and instance must not be empty"),
        (description(name="\ud800"), "description.name: half a character"),
        (description(queues="q"), "description.queues: a list was expected, not 'q'"),
        (description(queues=[1]), "description.queues: a text was expected, not 1"),
        (description(hardware="cpu"), "description.hardware: an object was expected, not 'cpu'"),
        (description(hardware={}), "description.hardware.kind is missing"),
        (
            description(hardware={"kind": "abacus"}),
            "description.hardware.kind: unknown 'abacus'; known: cpu, cuda",
        ),
        (description(hardware={"kind": ["cpu"]}), "description.hardware.kind: unknown ['cpu']"),
        (
            description(hardware={"kind": "cpu", "memory_bytes": -5}),
            "description.hardware.memory_bytes is negative",
        ),
        (
            description(hardware={"kind": "cpu", "labels": [["a"]]}),
            "description.hardware.labels: a list was expected",
        ),
        (description(hardware={"kind": "cpu", "emulated": 1}), "true or false was expected, not 1"),
    ],
)
def test_a_description_that_cannot_be_used_says_why(raw: bytes, reason: str) -> None:
    with pytest.raises(StoreError) as raised:
        documents.read_description(raw)
    assert reason in str(raised.value)


@pytest.mark.parametrize(
    ("read", "fields", "reason"),
    [
        (documents.read_holds, {"running": [{"task_id": "a"}]}, "holds.running.profile is missing"),
        (
            documents.read_holds,
            {"health": "splendid"},
            "holds.health: unknown 'splendid'; known: ok, degraded",
        ),
        (
            documents.read_holds,
            {"reserved": [{"task_id": "a", "profile": "p", "size": 0}]},
            "holds.reserved.size must be above 0, not 0",
        ),
        (
            documents.read_holds,
            {"reserved": [{"task_id": "a", "profile": "p", "started_at": -3}]},
            "holds.reserved.started_at is negative: -3",
        ),
        (documents.read_lane, {"profile": "p"}, "lane.task is missing"),
        (
            documents.read_lane,
            {"profile": "p", "task": "t", "expected_s": {"cuda": "fast"}},
            "lane.expected_s.cuda: a number was expected, not 'fast'",
        ),
        (
            documents.read_lane,
            {"profile": "p", "task": "t", "needs": {"gpu_memory_bytes": -1}},
            "lane.needs.gpu_memory_bytes is negative",
        ),
        (documents.read_order, {"at": 1.0}, "order.hardware_class is missing"),
        (documents.read_order, {"hardware_class": "c", "at": 1, "price": 1e999}, "Infinity is not a number"),
    ],
)
def test_a_document_that_cannot_be_used_says_why(
    read: Callable[[bytes], object], fields: dict[str, Any], reason: str
) -> None:
    with pytest.raises(StoreError) as raised:
        read(json.dumps({"v": 1, **fields}).encode())
    assert reason in str(raised.value)


def test_a_number_beyond_all_bounds_is_no_number() -> None:
    with pytest.raises(StoreError, match=r"order\.price: a finite number was expected, not inf"):
        documents.read_order(b'{"v":1,"hardware_class":"c","at":1,"price":1e999}')


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"nonsense", "event is not JSON"),
        (b'{"type":"Exploded"}', "event: unknown type 'Exploded'; known: RunStarted"),
        (b"{}", "event: unknown type 'None'"),
        (b'{"type":"RunFinished","task_id":"a"}', "RunFinished.profile is missing"),
        (
            documents.event_document(EVENTS[1]).replace('"duration_s":0.0', '"duration_s":-4').encode(),
            "RunFinished.duration_s is negative: -4",
        ),
    ],
)
def test_an_event_that_cannot_be_used_says_why(raw: bytes, reason: str) -> None:
    with pytest.raises(StoreError) as raised:
        documents.read_event(raw, 1.0)
    assert reason in str(raised.value)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
KEYS = (
    "v",
    "name",
    "instance",
    "hardware",
    "slots",
    "queues",
    "running",
    "health",
    "profile",
    "task",
    "needs",
    "hardware_class",
    "at",
    "groups",
    "offers",
    "type",
)


@given(st.dictionaries(st.sampled_from(KEYS), json_values) | json_values)
def test_garbage_raises_nothing_but_the_reason(value: Any) -> None:
    raw = json.dumps({"v": 1, **value} if isinstance(value, dict) else value).encode()
    for read in (
        documents.read_description,
        documents.read_holds,
        documents.read_lane,
        documents.read_order,
        lambda r: documents.read_event(r, 1.0),
    ):
        with suppress(StoreError):
            assert read(raw) is not None


def test_what_is_no_json_is_not_written() -> None:
    with pytest.raises(StoreError, match="order of c cannot be written as JSON"):
        order_document(Order(hardware_class="c", at=1.0, price=math.nan))
