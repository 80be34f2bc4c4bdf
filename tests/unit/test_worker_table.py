"""Workers in columns and workers as records are the same fleet, and offers in columns the same offers."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.adapters.documents import read_order
from balancer.adapters.order_text import order_document
from balancer.decide import engine
from balancer.decide.columns import columns
from balancer.decide.estimate import Estimates
from balancer.decide.load import utilisation, utilisations
from balancer.decide.memory import fresh
from balancer.decide.strategies import by_name
from balancer.errors import StoreError
from balancer.model import Fleet, LaneOffer, Order, Reading, Worker
from balancer.model.batch import Batch
from balancer.model.offers import Offers
from balancer.model.table import WorkerTable
from balancer.settings import Settings
from tests.unit.fleets import NOW, held, lane, worker

SHARES = st.none() | st.floats(0, 1)
WORKERS = st.lists(st.builds(
    lambda kind, cpu, gpu, slots, running, reserved, busy, health: replace(worker(
        kind, 0, slots=slots, health=health,
        running=tuple(held(f"r{i}", "a", ran_s=float(i)) for i in range(running)),
        reserved=tuple(held(f"q{i}", "b") for i in range(reserved))),
        reading=Reading(cpu=cpu, gpu=gpu), busy=busy),
    st.sampled_from(["cpu", "cuda-V100"]), SHARES, SHARES, st.integers(0, 3), st.integers(0, 3),
    st.integers(0, 2), st.integers(0, 4), st.sampled_from(["ok", "degraded"])), max_size=8)


def stored(workers: tuple[Worker, ...]) -> WorkerTable:
    """The table as a store makes it: nothing but columns and documents."""
    made = WorkerTable.of(workers)
    return WorkerTable(made.roster, made.holdings, made.numbers)


def named(workers: list[Worker]) -> tuple[Worker, ...]:
    return tuple(replace(w, name=f"w{i}@host") for i, w in enumerate(workers))


@given(WORKERS)
def test_a_table_reads_as_the_workers_that_it_was_made_of(workers: list[Worker]) -> None:
    there = named(workers)
    table = stored(there)
    assert (table == there, there == table, len(table)) == (True, True, len(there))
    assert [table.named(w.name) for w in there] == list(there)
    assert table[1:3] == there[1:3]
    assert table.named("nobody") is None


@given(WORKERS)
def test_the_load_of_a_table_is_that_of_each_worker(workers: list[Worker]) -> None:
    there = named(workers)
    each = {w.name: v for w in there if (v := utilisation(w)) is not None}
    assert utilisations(Fleet(at=NOW, workers=stored(there))) == each


@given(WORKERS, st.sampled_from(["priced", "static", "adaptive", "fixed"]))
def test_columns_and_records_lead_to_one_decision(workers: list[Worker], name: str) -> None:
    settings, there = Settings(trip_samples=1), named(workers)
    lanes = (lane("a", 3), lane("b", 0))
    decided = [
        engine.decide(fresh(settings), Fleet(at=NOW, workers=each, lanes=lanes), settings, by_name(name), ())
        for each in (there, stored(there))
    ]
    assert decided[0] == decided[1]


def test_readings_from_outside_stand_over_their_worker_s_own() -> None:
    first = replace(worker("cpu", 0), reading=Reading(cpu=0.5, memory=0.25))
    table = stored(named([first, worker("cpu", 1)]))
    told = table.with_readings({"w0@host": {"cpu": 0.75, "memory": None}, "gone@host": {"cpu": 1.0}})
    assert told[0].reading == Reading(cpu=0.75)
    assert told[1] == table[1]


def test_a_speed_counts_only_on_the_class_it_was_learned_on() -> None:
    fleet = Fleet(at=NOW, workers=named([worker("cpu", 0), worker("cpu", 1)]), lanes=(lane("a"),))
    known = Estimates(worker_speed={"w0@host": 0.5, "w1@host": 0.5},
                      worker_class={"w0@host": "cpu", "w1@host": "cuda"})
    assert columns(fleet, known).speed.tolist() == [0.5, 1.0]


OFFERS = st.lists(st.builds(
    LaneOffer, queue=st.text(max_size=9).filter(str.isprintable), seconds=st.floats(0, 1e9),
    best_seconds=st.floats(0, 1e9), value=st.floats(0, 1e9), ratio=st.floats(0, 1),
    soonest_s=st.none() | st.floats(0, 1e9)), max_size=5)


@given(OFFERS)
def test_offers_in_columns_are_written_as_records_are(offers: list[LaneOffer]) -> None:
    order = Order(hardware_class='a"offers":[]', at=NOW, offers=Offers.of(offers))
    text = order_document(order)
    assert read_order(text.encode()).offers == tuple(offers)
    assert order.offers == tuple(offers)
    assert json.loads(text)["hardware_class"] == order.hardware_class


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_an_offer_that_is_no_number_is_not_written(broken: float) -> None:
    offer = LaneOffer(queue="q", seconds=broken, best_seconds=1.0, value=1.0, ratio=1.0)
    with pytest.raises(StoreError, match="order of cpu cannot be written as JSON"):
        order_document(Order(hardware_class="cpu", at=NOW, offers=Offers.of([offer])))


def test_a_batch_makes_its_rows_where_they_are_looked_at() -> None:
    calls: list[int] = []

    def make() -> dict[str, list[int]]:
        calls.append(1)
        return {"a": [1, 2], "b": [3, 4]}

    batch = Batch(2, make)
    assert (len(batch), calls) == (2, [])
    assert list(batch) == [{"a": 1, "b": 3}, {"a": 2, "b": 4}]
    assert (batch[-1], batch[:1], calls) == ({"a": 2, "b": 4}, [{"a": 1, "b": 3}], [1])
