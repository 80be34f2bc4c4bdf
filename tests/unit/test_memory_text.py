"""The memory's document is the same JSON with its columns pasted in as without."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from balancer.adapters.documents import write
from balancer.adapters.memory_text import MARK, memory_text
from balancer.decide.packed import Packed, pack
from balancer.errors import StoreError


def test_columns_are_where_they_belong() -> None:
    first, second = pack(np.arange(3.0)), pack(np.arange(4.0))
    document = {"a": first, "b": {"c": [{"d": second}, {"e": "f"}], "g": [1, "h"]}, "i": first}
    assert memory_text(document) == write(document, "memory")
    assert json.loads(memory_text(document)) == document


def test_a_column_in_a_list_of_plain_values_is_a_text_like_any() -> None:
    document = {"a": [pack(np.arange(3.0)), "b"]}
    assert json.loads(memory_text(document)) == document


def test_a_name_like_the_mark_costs_nothing_but_time() -> None:
    document = {"names": [MARK], "values": pack(np.arange(2.0))}
    assert json.loads(memory_text(document)) == document


def test_what_json_does_not_know_is_refused() -> None:
    with pytest.raises(StoreError, match="memory"):
        memory_text({"a": math.nan, "b": Packed("AA==")})
