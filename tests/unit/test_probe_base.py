"""The conversions that all probes share."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.errors import HardwareError
from probes.base import as_number, least, most, read_number, share, stalled, visible
from probes.quantity import parse_bytes

UUIDS = ["GPU-aa11", "GPU-bb22", "GPU-bb33"]


def test_pressure_is_the_share_of_time_in_which_some_task_waited() -> None:
    text = "some avg10=12.50 avg60=3.00 avg300=1.00 total=1\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"
    assert stalled(text) == 0.125
    assert stalled("some avg10=x\n") is None
    assert stalled("full avg10=1.0\n") is None
    assert stalled(None) is None


@pytest.mark.parametrize(
    ("part", "whole", "expected"),
    [
        (1, 4, 0.25),
        (0, 4, 0.0),
        (4.1, 4, 1.0),
        (9, 4, None),
        (-1, 4, None),
        (1, 0, None),
        (0, 0, None),
        (None, 4, None),
        (1, None, None),
        (math.nan, 4, None),
        (1, math.nan, None),
        (4294967295, 100, None),
    ],
)
def test_a_share_is_a_ratio_or_unknown(
    part: float | None, whole: float | None, expected: float | None
) -> None:
    assert share(part, whole) == expected


@given(st.floats() | st.none(), st.floats() | st.none())
def test_no_share_leaves_its_range(part: float | None, whole: float | None) -> None:
    ratio = share(part, whole)
    assert ratio is None or 0 <= ratio <= 1


def test_unknown_values_do_not_count() -> None:
    assert least(None, 3, 2) == 2
    assert most(None, 3, 2) == 3
    assert least(None) is None
    assert most() is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [("12", 12.0), ("", None), ("max", None), ("nan", None), ("inf", None), (None, None)],
)
def test_a_number_is_finite(text: str | None, expected: float | None) -> None:
    assert as_number(text) == expected


def test_a_file_that_is_not_there_or_empty_is_unknown(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("")
    (tmp_path / "seven").write_text("7\n")
    assert read_number(tmp_path / "seven") == 7
    assert read_number(tmp_path / "empty") is None
    assert read_number(tmp_path / "gone") is None
    assert read_number(tmp_path) is None


@pytest.mark.parametrize(
    ("listed", "expected"),
    [
        (None, [0, 1, 2]),
        ("", []),
        ("-1", []),
        ("2,0", [2, 0]),
        ("0,7,1", [0]),
        ("1,1", [1]),
        ("GPU-aa", [0]),
        ("GPU-bb33, 0", [2, 0]),
        ("GPU-bb", []),
        ("MIG-1", []),
    ],
)
def test_the_visible_devices_are_numbered_as_the_vendors_do(listed: str | None, expected: list[int]) -> None:
    assert visible(listed, UUIDS) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("16GB", 16 * 10**9),
        ("16 GiB", 16 * 2**30),
        ("1.5gb", 1_500_000_000),
        ("512MiB", 2**29),
        ("7", 7),
    ],
)
def test_sizes_are_read_as_people_write_them(text: str, expected: int) -> None:
    assert parse_bytes(text) == expected


@pytest.mark.parametrize(
    "text", ["", "GB", "12XB", "-1GB", "0", "1e99GB", "nan", "16 G B", "1e400", "9" * 400 + "GB", "2000000TB"]
)
def test_what_is_no_size_is_refused_by_name(text: str) -> None:
    with pytest.raises(HardwareError, match="gpu_memory="):
        parse_bytes(text, "gpu_memory")
