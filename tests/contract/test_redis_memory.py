"""The memory in Redis: each write sends the columns that are new, whatever happened to the others there."""

from __future__ import annotations

import numpy as np
import pytest

from balancer.adapters.redis_connection import Connection
from balancer.decide.packed import Packed, pack
from tests.contract.worlds import RedisWorld


@pytest.fixture
def world(connection: Connection) -> RedisWorld:
    return RedisWorld(connection)


class _Heard:
    """How many bytes of arguments each save sent, and which script."""

    def __init__(self, world: RedisWorld, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sent: list[int] = []
        send = world.client.evalsha

        def watched(sha: str, count: int, *rest: object) -> object:
            self.sent.append(sum(len(str(part)) for part in rest))
            return send(sha, count, *rest)

        monkeypatch.setattr(world.client, "evalsha", watched)


def _columns(*values: float) -> list[Packed]:
    return [pack(np.full(1_000, value)) for value in values]


def test_columns_that_stay_are_not_sent_again(world: RedisWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, third = _columns(1.0, 2.0, 3.0)
    heard = _Heard(world, monkeypatch)
    assert world.store.save_memory({"a": first, "b": [second]}, 1)
    for document in ({"a": first, "b": [second, third]}, {"a": third, "b": [second]}, {"c": {"d": first}}):
        assert world.store.save_memory(document, 1)
        assert world.other_store().load_memory() == document
    every = len(first)
    assert [sent // every for sent in heard.sent] == [2, 1, 0, 1]
    assert world.client.hlen(world.keys.memory) == 4  # document, fence, stamp and the one column that is left


def test_columns_are_all_sent_after_another_has_written(world: RedisWorld) -> None:
    first, second = _columns(1.0, 2.0)
    other = world.other_store()
    assert world.store.save_memory({"a": first, "b": second}, 1)
    assert other.save_memory({"x": second}, 2)
    assert world.store.save_memory({"a": first, "b": second}, 3)
    assert other.load_memory() == {"a": first, "b": second}


@pytest.mark.parametrize("lost", ["key", "restored"])
def test_columns_are_all_sent_again_where_redis_lost_them(world: RedisWorld, lost: str) -> None:
    first, second = _columns(1.0, 2.0)
    assert world.store.save_memory({"a": first}, 1)
    earlier = world.client.dump(world.keys.memory)
    assert world.store.save_memory({"a": first, "b": second}, 1)
    world.client.delete(world.keys.memory)
    if lost == "restored":  # as a replica that had not heard of the last write
        world.client.restore(world.keys.memory, 0, earlier)
    assert world.store.save_memory({"a": first, "b": second, "c": 1}, 1)
    assert world.other_store().load_memory() == {"a": first, "b": second, "c": 1}


def test_a_memory_without_one_of_its_columns_is_set_aside(world: RedisWorld) -> None:
    (column,) = _columns(1.0)
    assert world.store.save_memory({"a": column}, 3)
    fields = [name for name in world.client.hkeys(world.keys.memory) if name.startswith(b"column:")]
    world.client.hdel(world.keys.memory, *fields)
    world.client.hset(world.keys.memory, "column:other", "x")
    assert world.store.load_memory() is None
    assert world.client.hgetall(world.keys.memory) == {b"fence": b"3"}
    assert world.store.save_memory({"a": column}, 3)
    assert world.store.load_memory() == {"a": column}
