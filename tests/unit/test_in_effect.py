"""What a running balancer was started with reaches who looks on, and what is each process's own does not."""

from __future__ import annotations

import json

import pytest

from balancer.errors import SettingError
from balancer.in_effect import InEffect, from_document, to_document
from balancer.settings import Settings, parse

GIVEN = {"strategy": "adaptive", "check_interval": 5, "dry_run": True, "group_weights": {"gold": 3}}


def test_what_differs_from_the_defaults_is_told_and_read_back() -> None:
    told = InEffect.of(parse({**GIVEN, "redis_url": "redis://:secret@h/0", "db_path": "/theirs"}), at=7.0)
    document = json.loads(json.dumps(to_document(told)))
    assert document == {"in_effect": {"at": 7.0, "options": {**GIVEN, "check_interval": 5.0,
                                                             "group_weights": {"gold": 3.0}}}}
    read = from_document(document)
    assert read == told
    own = parse({"db_path": "/ours", "strategy": "static", "tie_ratio": 0.5})
    assert read is not None
    assert read.over(own) == parse({**GIVEN, "db_path": "/ours"})


def test_options_of_a_newer_balancer_are_passed_over_and_impossible_ones_refused() -> None:
    assert InEffect(at=0.0, options={"of_tomorrow": 1}).over(Settings()) == Settings()
    with pytest.raises(SettingError, match="balancer_check_interval = -1"):
        InEffect(at=0.0, options={"check_interval": -1}).over(Settings())


@pytest.mark.parametrize("broken", [None, [], {}, {"at": "x", "options": {}}, {"at": 1, "options": []}])
def test_what_is_no_such_thing_is_nothing(broken: object) -> None:
    assert from_document({"in_effect": broken}) is None
    assert to_document(None) == {}
