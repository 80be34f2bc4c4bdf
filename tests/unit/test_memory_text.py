"""The memory's document is written with its long columns apart, and is whole again when they are put back."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from balancer.adapters.documents import write
from balancer.adapters.memory_text import MARK, SHORTEST, memory_text, whole
from balancer.decide.packed import Packed, pack
from balancer.errors import StoreError

LONG = SHORTEST // 8


def apart(document: dict[str, Any]) -> tuple[str, dict[str, str]]:
    """The text, and each column by its name."""
    names: dict[str, str] = {}

    def named(column: Packed) -> str:
        names[str(id(column))] = column
        return str(id(column))

    text, columns = memory_text(document, named)
    assert {id(column) for column in columns} <= {int(name) for name in names}
    return text, names if columns else {}


def test_long_columns_are_apart_and_come_back_where_they_belong() -> None:
    first, second = pack(np.arange(LONG)), pack(np.arange(2 * LONG))
    document = {"a": first, "b": {"c": [{"d": second}, {"e": "f"}], "g": [1, "h"]}, "i": first,
                "j": [first, second]}
    text, columns = apart(document)
    assert len(text) < SHORTEST
    assert set(columns.values()) == {first, second}
    assert whole(json.loads(text), columns) == document


def test_short_columns_stay_and_so_does_one_among_other_values() -> None:
    document = {"a": pack(np.arange(3.0)), "b": ["c", pack(np.arange(LONG))]}
    text, columns = apart(document)
    assert (json.loads(text), columns) == (document, {})


def test_a_name_like_the_mark_costs_nothing_but_time() -> None:
    document = {"names": [MARK + "0"], "values": pack(np.arange(LONG))}
    text, columns = apart(document)
    assert (json.loads(text), columns) == (document, {})
    assert text == write(document, "memory")


def test_a_column_that_is_missing_is_told() -> None:
    text, columns = apart({"a": {"b": pack(np.arange(LONG))}})
    columns.popitem()
    with pytest.raises(StoreError, match=r"memory\.a\.b: its column '\d+' is missing"):
        whole(json.loads(text), columns)


def test_what_json_does_not_know_is_refused() -> None:
    with pytest.raises(StoreError, match="memory"):
        apart({"a": math.nan, "b": pack(np.arange(LONG))})


def test_a_column_is_packed_once_and_can_no_longer_be_changed() -> None:
    column = np.arange(200.0)
    assert pack(column) is pack(column)
    assert pack(column, "<f4") != pack(column)
    assert pack(column.copy()) == pack(column)
    with pytest.raises(ValueError, match="read-only"):
        column[0] = 1.0
