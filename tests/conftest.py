"""Fixtures of every test that needs Redis: one private server a session, emptied between tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis
from hypothesis import settings

from balancer.adapters.embedded_redis import EmbeddedRedis
from balancer.adapters.redis_connection import Connection
from balancer.adapters.redis_keys import Keys

# No test asserts a time: on a busy machine an example takes as long as it takes.
settings.register_profile("patient", settings(), deadline=None)
settings.load_profile("patient")


@pytest.fixture(scope="session")
def redis_server() -> Iterator[EmbeddedRedis]:
    """A server on a free port of 127.0.0.1, behind a password; fails where none can be found."""
    with EmbeddedRedis() as server:
        yield server


@pytest.fixture
def redis_url(redis_server: EmbeddedRedis) -> str:
    """Its URL, with all its databases empty."""
    with redis.Redis.from_url(redis_server.url) as client:
        client.flushall()
        client.script_flush()
    return redis_server.url


@pytest.fixture
def redis_client(redis_url: str) -> Iterator[redis.Redis]:
    """A client that answers in bytes."""
    with redis.Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
def connection(redis_client: redis.Redis) -> Connection:
    """The adapters' connection to it, with kombu's default key names."""
    return Connection.of_client(redis_client, Keys())
