"""Utilisation by worker and over the fleet, with its dimensions apart."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.decide.load import is_over, is_under, known_dimensions, system_load, utilisation, utilisations
from balancer.model import Fleet, Reading
from tests.unit.fleets import fleet, held, worker


def test_a_worker_is_as_loaded_as_its_fullest_dimension() -> None:
    full_gpu_memory = replace(worker("cuda"), reading=Reading(cpu=0.10, gpu=0.2, gpu_memory=0.99))
    assert utilisation(full_gpu_memory) == 0.99
    assert is_over(full_gpu_memory, 0.85)
    assert not is_under(full_gpu_memory, 0.2)


def test_waiting_for_disks_is_a_dimension_of_its_own_and_unmeasured_it_is_none() -> None:
    for value, over, under in ((0.95, True, False), (0.1, False, True), (None, False, True)):
        one = replace(worker("cpu"), reading=Reading(cpu=0.1, io=value))
        assert (is_over(one, 0.85), is_under(one, 0.2)) == (over, under)
        assert utilisations(Fleet(at=0.0, workers=(one,)))["cpu-0"] == utilisation(one)


def test_under_only_when_every_known_dimension_is() -> None:
    assert is_under(worker("cpu", load=0.1), 0.2)
    assert not is_under(replace(worker("cpu"), reading=Reading(cpu=0.1, memory=0.5)), 0.2)


def test_reserved_work_counts_as_full_and_never_as_more() -> None:
    waiting = worker("cpu", running=(held("a", "p", ran_s=1),), reserved=(held("b", "p"), held("c", "p")))
    assert waiting.dimensions()["slots"] == 3
    assert utilisation(waiting) == 1.0


def test_what_nobody_knows_is_neither_over_nor_under() -> None:
    unknown = replace(worker("cpu"), slots=0)
    assert utilisation(unknown) is None
    assert not is_over(unknown, 0.0)
    assert not is_under(unknown, 1.0)


@pytest.mark.parametrize("garbage", [math.nan, math.inf, -math.inf, -0.5])
def test_a_garbled_reading_counts_as_absent(garbage: float) -> None:
    broken = replace(worker("cpu"), reading=Reading(cpu=garbage, memory=0.4))
    assert known_dimensions(broken) == {"memory": 0.4, "slots": 0.0}
    assert utilisation(broken) == 0.4


def test_the_fleet_in_numbers() -> None:
    load = system_load(5.0, utilisations(fleet("cuda:.9 cpu:.1 cpu:.5")))
    assert load.average == pytest.approx(0.5)
    assert load.deviation == pytest.approx(math.sqrt((0.16 + 0.16) / 3))
    assert load.imbalance == pytest.approx(0.8)
    assert (load.highest, load.lowest) == ("cuda-0", "cpu-0")


def test_a_fleet_of_nobody_is_no_error() -> None:
    load = system_load(5.0, {})
    assert (load.average, load.imbalance, load.highest, load.lowest) == (0.0, 0.0, None, None)


@given(st.dictionaries(st.text(min_size=1, max_size=4), st.floats(0, 1), min_size=1, max_size=30))
def test_mean_and_spread_stay_within_the_workers(values: dict[str, float]) -> None:
    load = system_load(0.0, values)
    assert min(values.values()) - 1e-9 <= load.average <= max(values.values()) + 1e-9
    assert load.deviation <= load.imbalance / 2 + 1e-9
    assert 0 <= load.imbalance <= 1
