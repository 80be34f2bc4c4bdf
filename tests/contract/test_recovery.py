"""What a dead worker held goes back on a real Redis: at most once, in order, and nothing else does."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from celery.exceptions import Reject

from balancer.adapters import redis_beats, redis_failed
from balancer.adapters.documents import description_document, profile_document
from balancer.adapters.redis_connection import Connection
from balancer.adapters.redis_fence import Delivery, Fence
from balancer.adapters.redis_recovery import Recovery
from balancer.model import Hardware, RunFinished, RunStarted, TaskProfile
from balancer.routing import direct_queue, lane_queue
from tests.waiting import wait_until
from workers import trial
from workers.header import Header
from workers.run import Run

DEAD, LIVE = "dead:1:1", "live:2:2"
LANE = lane_queue("p")


def started(task_id: str) -> RunStarted:
    return RunStarted(at=0.0, task_id=task_id, profile="p", worker="w@h", hardware_class="cpu", epoch=0)


def finished(task_id: str, outcome: str = "success") -> RunFinished:
    return RunFinished(at=0.0, task_id=task_id, profile="p", worker="w@h", hardware_class="cpu", epoch=0,
                       outcome=outcome, duration_s=1.0)


def now(connection: Connection) -> float:
    seconds, micros = connection.client.time()
    return float(seconds + micros / 1e6)


def deliver(
    connection: Connection, task_id: str, *, instance: str = DEAD, at: float = 1.0, queue: str = LANE,
    exchange: str = "", balanced: bool = True, epoch: int = 0, tag: str = "", home: str = "", **headers: Any
) -> Delivery:
    """A delivery that `instance` holds, as kombu and our receiving scripts enter it."""
    tag = tag or f"tag-{task_id}"
    header = {"at": at, "v": 1, "profile": "p", "size": 1.0, "epoch": epoch}
    header |= {"home": home} if home else {}
    marked = {"balancer": header} if balanced else {}
    message = {
        "body": "W1tdLCB7fSwge31d",
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {"id": task_id, "task": "proj.t", "retries": 0, **headers, **marked},
        "properties": {
            "delivery_tag": tag, "priority": 0,
            "delivery_info": {"exchange": exchange, "routing_key": queue},
        },
    }
    client, keys = connection.client, connection.keys
    client.hset(keys.unacked, tag, json.dumps([message, exchange, queue]))
    client.zadd(keys.unacked_index, {tag: 1.0})
    client.sadd(keys.held(instance), tag)
    return Delivery(task_id=task_id, nesting=0, retries=0, epoch=epoch, tag=tag)


def waiting(connection: Connection, queue: str = LANE) -> list[dict[str, Any]]:
    """The messages of a queue, the one that is served next first."""
    return [json.loads(raw) for raw in reversed(connection.client.lrange(queue, 0, -1))]


def ids(connection: Connection, queue: str = LANE) -> list[str]:
    return [message["headers"]["id"] for message in waiting(connection, queue)]


def begun(message: dict[str, Any]) -> bool:
    """Whether a message says that it goes on with what began in time."""
    return message["headers"]["balancer"].get("begun") is True


@pytest.fixture
def recovery(connection: Connection) -> Recovery:
    moment = now(connection)
    connection.client.zadd(connection.keys.alive, {DEAD: moment - 60, LIVE: moment})
    return Recovery(connection, heartbeat_ttl_s=10, deaths_limit=3, fence_ttl_s=100)


@pytest.fixture
def dead(connection: Connection) -> Fence:
    return Fence(connection, owner=DEAD, worker="dead@h", fence_ttl_s=100, heartbeat_ttl_s=10)


@pytest.fixture
def live(connection: Connection) -> Fence:
    return Fence(connection, owner=LIVE, worker="live@h", fence_ttl_s=100, heartbeat_ttl_s=10)


def test_the_dead_that_hold_something_are_found(connection: Connection, recovery: Recovery) -> None:
    assert recovery.dead() == (0, [])
    deliver(connection, "t")
    deliver(connection, "u", instance=LIVE)
    assert recovery.dead() == (0, [DEAD])


def test_after_an_outage_all_have_a_while_to_report_again(connection: Connection) -> None:
    recovery = Recovery(connection, heartbeat_ttl_s=1, deaths_limit=3, fence_ttl_s=100)
    keys, client = connection.keys, connection.client
    client.zadd(keys.alive, {DEAD: now(connection) - 5, LIVE: now(connection) - 4})
    deliver(connection, "t")

    def report() -> tuple[str, ...]:
        return redis_beats.publish(client, keys, name="live@h", instance=LIVE, beat=b"x", description=None,
                                   holds=None, now=0.0, ttl_s=1).dead

    assert report() == ()
    assert recovery.dead() == (0, [])
    assert report() == ()
    wait_until(lambda: report() == (DEAD,), "who has not reported by then is dead", 3)
    assert recovery.dead() == (0, [DEAD])


def test_deliveries_go_to_the_front_in_the_order_they_were_published(
    connection: Connection, recovery: Recovery, dead: Fence
) -> None:
    connection.client.lpush(LANE, json.dumps({"headers": {"id": "waits"}}))
    for place, name in enumerate(("c", "a", "b")):
        dead.claim(deliver(connection, name, at={"a": 1.0, "b": 2.0, "c": 3.0}[name]), started(name))
        connection.client.hdel(connection.keys.fence(name), "started")
        assert place >= 0
    connection.client.hset(connection.keys.fence("c"), "started", "1.0")
    assert recovery.recover(DEAD).returned == 3
    assert ids(connection) == ["c", "a", "b", "waits"]
    assert connection.client.exists(connection.keys.held(DEAD), connection.keys.unacked) == 0
    assert connection.client.zcard(connection.keys.unacked_index) == 0


def test_a_recovered_task_has_a_fresh_tag_the_next_epoch_and_keeps_its_checkpoint(
    connection: Connection, recovery: Recovery, dead: Fence, live: Fence
) -> None:
    token = dead.claim(deliver(connection, "t"), started("t")).token
    dead.checkpoint("t", token, b"half", 0.5)
    assert recovery.recover(DEAD).returned == 1
    (message,) = waiting(connection)
    assert message["properties"]["delivery_tag"] != "tag-t"
    assert (message["headers"]["balancer"]["epoch"], begun(message)) == (1, True)
    assert live.saved("t") == (b"half", 0.5)
    assert dead.commit("t", token, finished("t"), finished("t", "stale")) is False
    again = Delivery(task_id="t", nesting=0, retries=0, epoch=1, tag="new")
    assert live.claim(again, started("t")).verdict == "taken"


def test_what_begins_anew_after_a_death_expires_as_celery_has_it(
    connection: Connection, recovery: Recovery, dead: Fence
) -> None:
    dead.claim(deliver(connection, "unsaved"), started("unsaved"))
    # The checkpoint of a try before is no sign that this one has begun.
    first = Delivery(task_id="retried", nesting=0, retries=0, epoch=0, tag="first")
    token = dead.claim(first, started("retried")).token
    dead.checkpoint("retried", token, b"half", 0.5)
    dead.commit("retried", token, finished("retried", "retry"), finished("retried", "stale"), end="again")
    second = replace(deliver(connection, "retried", retries=1), retries=1)
    dead.claim(second, started("retried"))
    assert recovery.recover(DEAD).returned == 2
    assert [begun(message) for message in waiting(connection)] == [False, False]


def test_what_was_committed_is_answered_by_the_next_claim(
    connection: Connection, recovery: Recovery, dead: Fence, live: Fence
) -> None:
    token = dead.claim(deliver(connection, "t"), started("t")).token
    dead.commit("t", token, finished("t"), finished("t", "stale"), kept=b"value")
    assert recovery.recover(DEAD).returned == 1
    (message,) = waiting(connection)
    tag = message["properties"]["delivery_tag"]
    assert tag != "tag-t"
    assert begun(message)
    answer = live.claim(Delivery(task_id="t", nesting=0, retries=0, epoch=0, tag=tag), started("t"))
    assert (answer.verdict, answer.kept) == ("answer", b"value")


def test_what_has_ended_or_has_a_later_generation_is_dropped(
    connection: Connection, recovery: Recovery, dead: Fence
) -> None:
    token = dead.claim(deliver(connection, "ended"), started("ended")).token
    dead.commit("ended", token, finished("ended"), finished("ended", "stale"), end="done")
    deliver(connection, "retried")
    connection.client.hset(connection.keys.fence("retried"), mapping={"g": "000000.000001.000000"})
    tally = recovery.recover(DEAD)
    assert (tally.returned, tally.dropped) == (0, 2)
    assert waiting(connection) == []
    assert connection.client.hlen(connection.keys.unacked) == 0


def test_what_a_live_worker_runs_stays_its_own(
    connection: Connection, recovery: Recovery, live: Fence
) -> None:
    """kombu restored the dead worker's delivery under its old tag, and another has taken it."""
    live.claim(deliver(connection, "t", redelivered=True), started("t"))
    connection.client.sadd(connection.keys.held(LIVE), "tag-t")
    deliver(connection, "plain", balanced=False, redelivered=True)
    connection.client.sadd(connection.keys.held(LIVE), "tag-plain")
    assert recovery.recover(DEAD).returned == 0
    assert connection.client.hexists(connection.keys.unacked, "tag-t")
    assert connection.client.hexists(connection.keys.unacked, "tag-plain")
    assert connection.client.exists(connection.keys.held(DEAD)) == 0


def test_two_recoverers_at_once_double_nothing(connection: Connection, recovery: Recovery) -> None:
    for n in range(400):
        deliver(connection, f"t{n}", at=float(n), balanced=n % 2 == 0)
    tallies: list[int] = []
    gate = threading.Barrier(3)

    def recover() -> None:
        gate.wait()
        tallies.append(recovery.recover_unlocked(DEAD).returned)

    threads = [threading.Thread(target=recover) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(tallies) == 400
    assert sorted(ids(connection)) == sorted(f"t{n}" for n in range(400))


def test_who_is_alive_again_keeps_what_it_holds(connection: Connection, recovery: Recovery) -> None:
    deliver(connection, "t")
    connection.client.zadd(connection.keys.alive, {DEAD: now(connection)})
    assert not recovery.recover(DEAD)
    assert connection.client.sismember(connection.keys.held(DEAD), "tag-t")


def test_a_second_recovery_waits_for_the_first(connection: Connection, recovery: Recovery) -> None:
    deliver(connection, "t")
    connection.client.set(connection.keys.recovering(DEAD), "1")
    assert not recovery.recover(DEAD)
    connection.client.delete(connection.keys.recovering(DEAD))
    assert recovery.recover(DEAD).returned == 1
    assert connection.client.exists(connection.keys.recovering(DEAD)) == 0


def test_unbalanced_messages_go_back_as_kombu_restores_them(
    connection: Connection, recovery: Recovery
) -> None:
    connection.client.sadd("_kombu.binding.shop", "\x06\x16".join(("paid", "", "orders")))
    deliver(connection, "plain", balanced=False, exchange="shop", queue="paid")
    assert recovery.recover(DEAD).returned == 1
    (message,) = waiting(connection, "orders")
    assert message["headers"]["redelivered"] is True
    assert message["properties"]["delivery_info"] == {
        "exchange": "shop", "routing_key": "paid", "redelivered": True}
    assert message["properties"]["delivery_tag"] != "tag-plain"
    assert connection.client.exists(connection.keys.fence("plain")) == 0


@pytest.mark.parametrize("properties", [{"correlation_id": "t"}, {}])
def test_what_names_no_task_goes_back_too(
    connection: Connection, recovery: Recovery, properties: dict[str, str]
) -> None:
    """A task of protocol 1, or a message of another consumer in the worker."""
    info = {"exchange": "", "routing_key": "own"}
    message = {"body": "e30=", "headers": {}, "properties": {**properties, "delivery_tag": "old",
                                                             "delivery_info": info}}
    connection.client.hset(connection.keys.unacked, "old", json.dumps([message, "", "own"]))
    connection.client.sadd(connection.keys.held(DEAD), "old")
    assert recovery.recover(DEAD).returned == 1
    (back,) = waiting(connection, "own")
    assert (back["body"], back["headers"]) == ("e30=", {"redelivered": True})


def test_what_is_no_message_or_has_no_queue_is_set_aside_whole(
    connection: Connection, recovery: Recovery
) -> None:
    connection.client.hset(connection.keys.unacked, "odd", b"\xff{no json")
    connection.client.sadd(connection.keys.held(DEAD), "odd")
    deliver(connection, "unbound", exchange="gone", queue="nowhere")
    assert len(recovery.recover(DEAD).set_aside) == 2
    kept = {one.task_id: one for one in redis_failed.listed(connection)}
    assert set(kept) == {"tag:odd", "unbound"}
    assert b"/3tubyBqc29u" in kept["tag:odd"].document
    assert connection.client.hlen(connection.keys.unacked) == 0


def test_a_direct_queue_that_nobody_serves_is_left_for_the_lane(
    connection: Connection, recovery: Recovery
) -> None:
    client, keys = connection.client, connection.keys
    client.hset(keys.lanes, LANE, profile_document(TaskProfile(name="p", task="proj.t")))
    client.hset(keys.workers, "live@h", description_document(
        name="live@h", instance=LIVE, hardware=Hardware(kind="cpu"), slots=1))
    deliver(connection, "stranded", queue=direct_queue("dead@h"))
    deliver(connection, "served", queue=direct_queue("live@h"))
    recovery.recover(DEAD)
    assert ids(connection) == ["stranded"]
    assert waiting(connection)[0]["properties"]["delivery_info"]["routing_key"] == LANE
    assert ids(connection, direct_queue("live@h")) == ["served"]


def test_what_came_from_a_queue_of_the_operators_goes_back_there(
    connection: Connection, recovery: Recovery
) -> None:
    deliver(connection, "stranded", queue=direct_queue("dead@h"), home="payments")
    recovery.recover(DEAD)
    assert ids(connection, "payments") == ["stranded"]
    (message,) = waiting(connection, "payments")
    assert "home" not in message["headers"]["balancer"]


def test_own_orphans_are_given_back_and_what_is_known_is_kept(
    connection: Connection, recovery: Recovery, live: Fence
) -> None:
    live.claim(deliver(connection, "known", instance=LIVE), started("known"))
    live.claim(deliver(connection, "orphan", instance=LIVE), started("orphan"))
    assert recovery.give_back_orphans(LIVE, {"tag-known"}).returned == 1
    assert ids(connection) == ["orphan"]
    assert connection.client.smembers(connection.keys.held(LIVE)) == {b"tag-known"}
    assert connection.client.hget(connection.keys.fence("orphan"), "deaths") is None


def die_running(connection: Connection, recovery: Recovery, dead: Fence, *, begun: bool) -> Any:
    """One more life and death of the task "t": whoever takes it next dies with it."""
    raw = connection.client.rpop(LANE)
    epoch = json.loads(raw)["headers"]["balancer"]["epoch"] if raw else 0
    delivery = deliver(connection, "t", epoch=epoch, tag=f"tag-{epoch}")
    assert dead.claim(delivery, started("t")).verdict == "taken"
    connection.client.hdel(connection.keys.fence("t"), "started")
    if begun:
        connection.client.hset(connection.keys.fence("t"), "begun", "1")
    return recovery.recover(DEAD)


def test_a_task_that_kills_its_workers_is_set_aside_and_can_be_sent_again(
    connection: Connection, recovery: Recovery, dead: Fence, live: Fence
) -> None:
    assert die_running(connection, recovery, dead, begun=False).returned == 1
    assert die_running(connection, recovery, dead, begun=True).returned == 1
    assert die_running(connection, recovery, dead, begun=True).set_aside == ["t"]
    assert waiting(connection) == []
    (kept,) = redis_failed.listed(connection)
    assert (kept.task_id, kept.task, kept.queue, len(kept.history)) == ("t", "proj.t", LANE, 3)
    assert {line.partition(" ")[2] for line in kept.history} == {"dead@h"}
    assert "the last of them dead@h," in kept.reason
    assert redis_failed.untold(connection) == ["t"]
    late = Delivery(task_id="t", nesting=0, retries=0, epoch=2, tag="late")
    assert live.claim(late, started("t")).verdict == "done"
    assert redis_failed.resend(connection, kept) is True
    assert redis_failed.resend(connection, kept) is False
    (message,) = waiting(connection)
    assert (message["headers"]["balancer"]["epoch"], begun(message)) == (3, True)
    again = Delivery(task_id="t", nesting=0, retries=0, epoch=3, tag="again")
    claim = live.claim(again, started("t"))
    assert (claim.verdict, claim.suspect) == ("taken", False)
    assert redis_failed.listed(connection) == []


def test_a_neighbour_that_never_began_is_not_blamed(
    connection: Connection, recovery: Recovery, dead: Fence
) -> None:
    for _ in range(5):
        assert die_running(connection, recovery, dead, begun=False).returned == 1
    assert connection.client.hget(connection.keys.fence("t"), "deaths") == b"1"


def test_two_suspects_run_one_after_the_other_on_one_worker(
    connection: Connection, recovery: Recovery, live: Fence, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial, "PATIENCE_S", 0.0)
    keys, script = connection.keys, connection.script("trial")
    tokens = {}
    for name in ("t", "u"):
        tokens[name] = live.claim(deliver(connection, name, instance=LIVE), started(name), nonce=name).token
        connection.client.hset(keys.fence(name), "deaths", "2")

    def may_begin(name: str) -> bool:
        args = [tokens[name], name, 2, keys.fence(""), 100]
        return bool(script([keys.fence(name), keys.ours("trial", LIVE)], args))

    assert may_begin("t") is True
    assert may_begin("t") is True
    assert may_begin("u") is False
    run = Run(request=SimpleNamespace(id="u", replaced_task_nesting=0, retries=0,
                                      properties={"delivery_tag": "tag-u"}),
              fence=live, profile="p", header=Header(), token=tokens["u"])
    with pytest.raises(Reject):
        trial.await_turn(run, 3)
    assert connection.client.hget(keys.fence("u"), "state") == b"free"
    tokens["u"] = live.claim(run.delivery, started("u"), nonce="again").token
    live.commit("t", tokens["t"], finished("t"), finished("t", "stale"), end="done")
    assert may_begin("u") is True
    connection.client.hset(keys.fence("t"), mapping={"deaths": "1", "state": "run"})
    assert may_begin("t") is True


def test_forgetting_a_worker_leaves_it_to_be_recovered(connection: Connection, recovery: Recovery) -> None:
    deliver(connection, "t", instance=LIVE)
    keys = connection.keys
    connection.client.zadd(keys.alive, {"another:3:3": now(connection)})
    connection.script("forget_workers")([keys.alive, keys.workers, keys.beats, keys.holds],
                                        [1e15, keys.held(""), "live@h", LIVE, ""])
    assert recovery.dead() == (0, [LIVE])
    assert recovery.recover(LIVE).returned == 1
