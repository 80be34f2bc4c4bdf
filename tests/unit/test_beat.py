"""The packed heartbeat: exact, absent is not 0, and nothing broken passes for a number."""

from __future__ import annotations

import math
import struct
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.adapters import beat, beat_rows
from balancer.model import Reading

ratio = st.none() | st.floats(0, beat_rows.RATIO_LIMIT)
amount = st.none() | st.floats(0, 1e18)
READINGS = st.builds(
    Reading,
    **{f.name: ratio if f.name in beat_rows.RATIOS else amount for f in fields(Reading)},
)


def packed(reading: Reading, **numbers: float) -> bytes:
    return beat.pack(
        reading, busy=int(numbers.get("busy", 0)), loop_ticks=int(numbers.get("ticks", 0)), at=5.0
    )


def older(**values: float) -> bytes:
    """A beat of version 1, which ends before I/O."""
    present = sum(1 << beat.FIELDS.index(name) for name in values)
    numbers = (values.get(name, 0.0) for name in beat.FIELDS[:11])
    return struct.pack("<BHIQd11d", 1, present, 3, 7, 5.0, *numbers)


@given(st.lists(st.tuples(READINGS, st.integers(0, beat_rows.BUSY_LIMIT), st.integers(0, 2**63)), max_size=5))
def test_what_is_packed_comes_back(beats: list[tuple[Reading, int, int]]) -> None:
    raws = [beat.pack(r, busy=busy, loop_ticks=ticks, at=1.5) for r, busy, ticks in beats]
    rows, faults = beat_rows.unpack_many(raws)
    assert faults == {}
    assert beat_rows.readings(rows) == [r for r, _, _ in beats]
    assert rows["busy"].tolist() == [busy for _, busy, _ in beats]
    assert rows["loop_ticks"].tolist() == [ticks for _, _, ticks in beats]


@given(st.lists(st.binary(max_size=130), max_size=6))
def test_random_bytes_never_raise_and_never_pass_as_broken_numbers(raws: list[bytes]) -> None:
    rows, faults = beat_rows.unpack_many([*raws, packed(Reading(cpu=0.5), busy=1)])
    assert len(rows) == len(raws) + 1
    assert len(raws) not in faults
    assert all(i in faults for i, raw in enumerate(raws) if len(raw) not in (111, beat_rows.DTYPE.itemsize))
    for reading in beat_rows.readings(rows):
        for name in beat.FIELDS:
            value = getattr(reading, name)
            assert value is None or math.isfinite(value)


@given(st.binary(min_size=beat_rows.DTYPE.itemsize - 1, max_size=beat_rows.DTYPE.itemsize - 1))
def test_garbage_of_the_right_length_yields_only_possible_numbers(tail: bytes) -> None:
    rows, _ = beat_rows.unpack_many([bytes([beat.VERSION]) + tail])
    (reading,) = beat_rows.readings(rows)
    for name in beat_rows.RATIOS:
        value = getattr(reading, name)
        assert value is None or 0 <= value <= beat_rows.RATIO_LIMIT
    assert rows["busy"][0] <= beat_rows.BUSY_LIMIT


def test_absent_is_not_zero() -> None:
    rows, _ = beat_rows.unpack_many([packed(Reading()), packed(Reading(cpu=0.0, power_w=0.0))])
    assert beat_rows.readings(rows) == [Reading(), Reading(cpu=0.0, power_w=0.0)]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("cpu", math.nan),
        ("cpu", -0.1),
        ("gpu", 1.6),
        ("memory", math.inf),
        ("power_w", -1.0),
        ("disk_bytes_per_s", -math.inf),
        ("temperature_celsius", -300.0),
        ("gpu_memory_free_bytes", math.nan),
    ],
)
def test_one_broken_number_is_left_out_and_the_others_stay(name: str, value: float) -> None:
    good = Reading(cpu=0.25, gpu=0.5, memory=0.75, power_w=100.0, temperature_celsius=50.0)
    rows, faults = beat_rows.unpack_many([packed(good), packed(replace(good, **{name: value}))])
    assert list(faults) == [1]
    assert not faults[1].whole
    assert faults[1].detail == f"{name} {value:g}"
    assert beat_rows.readings(rows) == [good, replace(good, **{name: None})]


def test_all_broken_numbers_of_a_beat_are_named() -> None:
    _, faults = beat_rows.unpack_many([packed(Reading(cpu=-1.0, power_w=math.nan))])
    assert faults[0].detail == "cpu -1, power_w nan"


def test_a_cold_room_is_real() -> None:
    rows, faults = beat_rows.unpack_many([packed(Reading(temperature_celsius=-40.0))])
    assert (faults, beat_rows.readings(rows)) == ({}, [Reading(temperature_celsius=-40.0)])


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "0 bytes, not a beat of 119"),
        (b"\x01" * 110, "110 bytes, not a beat of 119"),
        (packed(Reading()) + b"x", "120 bytes, not a beat of 119"),
        (b"\x63" + packed(Reading())[1:], "version 99 is newer than 2"),
        (b"\x03longer than we know" * 20, "version 3 is newer than 2"),
        (b"\x00" + packed(Reading())[1:], "119 bytes, not a beat of 119"),
        (packed(Reading(), busy=2_000_000), "no numbers of ours"),
        (beat.pack(Reading(), busy=0, loop_ticks=0, at=math.nan), "no numbers of ours"),
        (older(cpu=0.5)[:-1], "110 bytes, not a beat of 119"),
        (older(cpu=0.5).ljust(119, b"\0"), "119 bytes, not a beat of 119"),
        (b"\x01\x00\x08" + older()[3:], "no numbers of ours"),
        (b"\x02\xff\xff" + packed(Reading())[3:], "no numbers of ours"),
    ],
)
def test_an_unreadable_beat_says_why_and_stands_as_nothing(raw: bytes, reason: str) -> None:
    rows, faults = beat_rows.unpack_many([packed(Reading(cpu=1.0)), raw])
    assert (list(faults), faults[1].reason, faults[1].whole) == ([1], reason, True)
    assert beat_rows.readings(rows)[1] == Reading()
    assert rows["busy"][1] == 0


def test_a_beat_of_an_older_worker_lacks_what_is_new_and_is_read() -> None:
    old = {"cpu": 0.5, "pressure": 0.0, "gpu_memory_free_bytes": 8.0}
    rows, faults = beat_rows.unpack_many([older(**old), packed(Reading(io=0.25)), older()])
    assert faults == {}
    assert beat_rows.readings(rows) == [Reading(**old), Reading(io=0.25), Reading()]
    assert rows["busy"].tolist() == [3, 0, 3]


def test_no_beats_are_no_rows() -> None:
    rows, faults = beat_rows.unpack_many([])
    assert (rows.shape, rows.dtype, faults) == ((0,), beat_rows.DTYPE, {})


def test_the_layout_is_little_endian_and_fixed() -> None:
    raw = packed(Reading(cpu=0.5), busy=258)
    assert raw[:1] == b"\x02"
    assert raw[1:3] == b"\x01\x00"
    assert raw[3:7] == b"\x02\x01\x00\x00"
    assert np.frombuffer(raw[23:31], "<f8")[0] == 0.5
