"""The world a contract test runs over, once each."""

from __future__ import annotations

import pytest

from tests.contract.worlds import RedisWorld, TwinWorld, World


@pytest.fixture(params=["in memory", "redis"])
def world(request: pytest.FixtureRequest) -> World:
    """First the twins, then a real Redis."""
    if request.param == "in memory":
        return TwinWorld()
    return RedisWorld(request.getfixturevalue("connection"))
