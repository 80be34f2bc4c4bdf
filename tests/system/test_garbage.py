"""Garbage in the fleet's keys, as the decisions table tells of it; the rest of the fleet is balanced."""

from __future__ import annotations

import json
from collections.abc import Iterator
from types import ModuleType

import pytest

from balancer import wiring
from balancer.adapters import beat
from balancer.adapters.duckdb_ledger import read
from balancer.adapters.redis_keys import Keys
from balancer.model import Reading
from tests.system.fleet import FleetUnderTest, fleet

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]

KEYS = Keys()


@pytest.fixture(scope="module")
def told(module_redis_url: str, tasks: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A ledger after one whole tick over one real worker and a heap of garbage."""
    path = tmp_path_factory.mktemp("garbage")
    with fleet(module_redis_url, path) as under_test:
        under_test.worker("w", pool="threads")
        under_test.ready("w")
        litter(under_test)
        ledger = str(path / "ledger.duckdb")
        balancer = wiring.build(tasks.app, {"db_path": ledger})
        assert balancer.turn(whole=True)
        assert balancer.turn(whole=True)
        balancer.ports.ledger.close()
        balancer.ports.lease.release()
        yield ledger


def litter(under_test: FleetUnderTest) -> None:
    client = under_test.client
    description = json.loads(client.hget(KEYS.workers, "w@test") or b"{}")
    alive, numbers = {}, Reading(cpu=0.5, memory=0.5)
    for name, change in {
        "unknown@x": {"hardware": {"kind": "abacus"}},
        "newer@x": {"v": 99},
        "nan@x": {},
        "negative@x": {},
        "noise@x": {},
    }.items():
        client.hset(KEYS.workers, name, json.dumps({**description, "name": name, "instance": name, **change}))
        client.hset(KEYS.beats, name, beat.pack(numbers, busy=0, loop_ticks=1, at=1.0))
        alive[name] = client.time()[0]
    client.hset(KEYS.beats, "nan@x", beat.pack(Reading(cpu=float("nan")), busy=0, loop_ticks=1, at=1.0))
    client.hset(KEYS.beats, "negative@x", beat.pack(Reading(memory=-0.5), busy=0, loop_ticks=1, at=1.0))
    client.hset(KEYS.beats, "noise@x", b"\x00\xff noise")
    client.zadd(KEYS.alive, {name: float(at) for name, at in alive.items()})
    client.hset(KEYS.holds, "nan@x", "{not json")
    client.hset(KEYS.lanes, "bal.lane.broken", '{"v": 1, "profile": 7}')
    client.xadd(KEYS.events, {"e": '{"type": "RunFinished", "duration_s": "long"}'})
    client.xadd(KEYS.events, {"e": '{"type": "Gossip"}'})


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("unknown@x", "abacus"),
        ("newer@x", "99"),
        ("nan@x", "numbers that cannot be"),
        ("negative@x", "numbers that cannot be"),
        ("noise@x", "not a beat"),
        ("nan@x", "JSON"),
        ("bal.lane.broken", "profile"),
        ("event", "missing|long"),
        ("event", "Gossip"),
    ],
)
def test_it_is_in_the_decisions_table_with_its_reason(told: str, source: str, reason: str) -> None:
    statement = """
        SELECT source, reason, detail FROM decisions
        WHERE kind = 'set_aside' AND contains(source, $source)
          AND regexp_matches(concat(reason, detail), $reason)
    """
    found = read(told, statement, {"source": source, "reason": reason})
    assert found, read(told, "SELECT source, reason, detail FROM decisions")


def test_the_rest_of_the_fleet_is_seen(told: str) -> None:
    seen = {row["worker"] for row in read(told, "SELECT DISTINCT worker FROM worker_samples")}
    assert "w@test" in seen
    assert not {"unknown@x", "newer@x"} & seen
