"""A Redis of its own for each module of system tests: workers outlive a single test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from balancer.adapters.embedded_redis import EmbeddedRedis


@pytest.fixture(scope="module")
def module_redis_url() -> Iterator[str]:
    with EmbeddedRedis() as server:
        yield server.url
