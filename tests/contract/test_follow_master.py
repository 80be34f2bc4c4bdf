"""A connection that loses its master in the middle of a command finds the one that a Sentinel names next."""

from __future__ import annotations

from pathlib import Path

import pytest
from redis.backoff import ExponentialWithJitterBackoff
from redis.retry import Retry
from redis.sentinel import Sentinel

from balancer.adapters.redis_connection import follow_master
from tests.system.failing_redis import MASTER, watched


@pytest.mark.timeout(90)
def test_a_connection_in_use_follows_a_failover(tmp_path: Path) -> None:
    with watched(tmp_path) as pair:
        pool = Sentinel([("127.0.0.1", pair.port)]).master_for(MASTER).connection_pool
        follow_master(pool)
        # Less than a minute of tries: redis-py alone spends them all on the master that is dead.
        pool.connection_kwargs["retry"] = Retry(ExponentialWithJitterBackoff(base=0.05, cap=1.0), 20)
        connection = pool.get_connection()

        def store() -> object:
            connection.send_command("SET", "key", "value")
            return connection.read_response()

        assert store() == b"OK"
        pair.kill_master()
        assert connection.retry.call_with_retry(store, lambda error: connection.disconnect()) == b"OK"
        assert connection.port == pair.ports[1]
        pool.disconnect()
