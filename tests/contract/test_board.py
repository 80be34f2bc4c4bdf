"""A look off the board shows what a look at every table shows, and sees when that is no longer so."""

from __future__ import annotations

import struct

import pytest

from balancer.adapters import documents
from balancer.adapters.redis_board import ROW
from balancer.adapters.redis_connection import Connection
from balancer.adapters.redis_store import RedisFleetStore
from balancer.model import Fleet, Reading
from tests.contract.worlds import TTL_S, RedisWorld, worker
from tests.unit.fleets import held


@pytest.fixture
def world(connection: Connection) -> RedisWorld:
    """Three workers, looked at once: the next look needs the board alone."""
    world = RedisWorld(connection)
    for name in ("a@host", "b@host", "c@host"):
        world.report(worker(name, reading=Reading(cpu=0.5)))
    world.store.observe()
    return world


def looked(world: RedisWorld) -> tuple[Fleet, bool]:
    """What the store sees, and whether it read the hashes for it; it is what a new store sees."""
    world.client.config_resetstat()
    fleet = world.store.observe()
    whole = world.client.info("commandstats")["cmdstat_hgetall"]["calls"] > 1
    anew = RedisFleetStore(world.connection, heartbeat_ttl_s=TTL_S).observe()
    assert (fleet.workers, fleet.set_aside) == (anew.workers, anew.set_aside)
    return fleet, whole


def test_new_beats_and_holdings_are_read_off_the_board(world: RedisWorld) -> None:
    running = (held("t", "p", ran_s=3.0), held("u", "q", ran_s=1.0))
    world.report(worker("b@host", reading=Reading(cpu=0.25, power_w=90.0), running=running, busy=2,
                        loop_ticks=7))
    world.report(worker("c@host", reserved=(held("v", "p"),), health="draining"))
    fleet, whole = looked(world)
    assert not whole
    assert [(w.busy, len(w.running), len(w.reserved), w.health) for w in fleet.workers] == [
        (0, 0, 0, "ok"), (2, 2, 0, "ok"), (0, 0, 1, "draining")]


def test_a_number_that_cannot_be_is_set_aside_off_the_board_too(world: RedisWorld) -> None:
    world.report(worker("b@host", reading=Reading(cpu=0.25, power_w=-5.0)))
    fleet, whole = looked(world)
    assert not whole
    assert [a.source for a in fleet.set_aside] == ["beat of b@host"]
    assert fleet.workers[1].reading == Reading(cpu=0.25)


def test_a_worker_that_comes_and_one_that_is_forgotten_are_seen(world: RedisWorld) -> None:
    world.report(worker("d@host"))
    assert [w.name for w in looked(world)[0].workers] == ["a@host", "b@host", "c@host", "d@host"]
    keys = world.keys
    description = world.client.hget(keys.workers, "b@host")
    world.connection.script("forget_workers")(
        [keys.alive, keys.workers, keys.beats, keys.holds, keys.board, keys.places, keys.places_free],
        [1e15, keys.held(""), "b@host", "b@host:1:1", description])
    assert [w.name for w in looked(world)[0].workers] == ["a@host", "c@host", "d@host"]
    assert not looked(world)[1]


def test_a_row_that_was_given_back_is_given_out_again(world: RedisWorld) -> None:
    keys = world.keys
    description = world.client.hget(keys.workers, "b@host")
    world.connection.script("forget_workers")(
        [keys.alive, keys.workers, keys.beats, keys.holds, keys.board, keys.places, keys.places_free],
        [1e15, keys.held(""), "b@host", "b@host:1:1", description])
    world.report(worker("e@host"))
    assert world.client.strlen(keys.board) == 3 * ROW.itemsize
    assert looked(world)[0].worker("e@host") is not None


def test_a_changed_description_and_a_lost_board_are_seen(world: RedisWorld) -> None:
    world.report(worker("b@host", slots=7))
    fleet, whole = looked(world)
    assert (whole, fleet.workers[1].slots) == (True, 7)
    world.client.delete(world.keys.board)
    assert looked(world)[1]
    for name in ("a@host", "b@host", "c@host"):
        world.report(worker(name))
    looked(world)
    assert not looked(world)[1]


def test_a_worker_that_falls_silent_is_named_once(world: RedisWorld) -> None:
    world.silence("b@host", TTL_S + 1)
    assert world.store.observe().silent == ("b@host",)
    fleet, _ = looked(world)
    assert (fleet.silent, [w.name for w in fleet.workers]) == ((), ["a@host", "c@host"])


def test_unreadable_holdings_on_the_board_leave_a_worker_nothing_is_moved_to(world: RedisWorld) -> None:
    wrong = documents.holds_document(running=[], reserved=[]).replace('"ok"', '"sleepy"')
    world.report(worker("b@host"))
    world.client.hset(world.keys.holds, "b@host", wrong)
    places = world.client.hgetall(world.keys.places)
    offset = int(places[b"b@host"]) * ROW.itemsize + ROW.fields["holds"][1]
    world.client.setrange(world.keys.board, offset, b"0" * 16)
    fleet, whole = looked(world)
    assert not whole
    assert (fleet.workers[1].health, [a.source for a in fleet.set_aside]) == ("degraded", ["holds of b@host"])


def test_an_older_worker_is_seen_and_costs_the_board_until_it_is_gone(world: RedisWorld) -> None:
    older = struct.pack("<BHIQd11d", 1, 1, 0, 7, 5.0, 0.25, *[0.0] * 10)
    world.client.hset(world.keys.beats, "b@host", older)
    # Its rows are shorter, so they lie across those of others.
    place = int(world.client.hget(world.keys.places, "b@host"))
    world.client.setrange(world.keys.board, place * 151, older)
    for _ in range(2):
        fleet, whole = looked(world)
        assert whole
        assert fleet.workers[1].reading == Reading(cpu=0.25)
        assert (fleet.workers[1].health, fleet.set_aside) == ("ok", ())
    # What it leaves behind may end in half a row.
    world.client.append(world.keys.board, b"\0" * 7)
    for name in ("a@host", "b@host", "c@host"):
        world.report(worker(name, reading=Reading(io=0.5)))
    assert looked(world)[1]
    fleet, whole = looked(world)
    assert not whole
    assert [w.reading.io for w in fleet.workers] == [0.5, 0.5, 0.5]
