"""Redis is killed in the middle of many tasks: restarted with its append-only file, or failed over.

By hand at full length: `RESILIENCE_TASKS=10000 pytest tests/system/test_failover.py`. Prints what was
lost and repeated as JSON, also where both are zero. `RESILIENCE_FSYNC=everysec` has the machine die, too;
`RESILIENCE_FAILOVER=frozen,guarded` silences the master in place of killing it, without and with
`min-replicas-to-write`.

On the stock transport a message that Redis had handed to a BRPOP when it died is in nobody's hands. Such
a loss is counted, and is allowed where the append-only file says so, of each task by its id.
"""

from __future__ import annotations

import json
import os
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import redis
from kombu import Connection
from redis.exceptions import RedisError

from balancer.adapters.embedded_redis import EmbeddedRedis
from tests.chaos.broker import ChaosRedis
from tests.chaos.journal import IN_POP, Journal
from tests.system.failing_redis import MASTER, DyingRedis, watched
from tests.system.fleet import FleetUnderTest, fleet
from tests.system.resilience import SCHEMES, broker_url, load_tasks, told
from tests.waiting import wait_until

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]

TASKS = int(os.environ.get("RESILIENCE_TASKS", "1000"))
WORKERS = ["a", "b"]
CONF: dict[str, Any] = {"balancer_heartbeat_interval": 0.5, "balancer_heartbeat_ttl": 3}


class Stream:
    """Publishes task after task in a thread, as a client that tries again until Redis took each."""

    def __init__(self, tasks: ModuleType, url: str, options: dict[str, Any]) -> None:
        self.tasks = tasks
        self.url = url
        self.options = options
        self.sent: list[str] = []
        self.errors: Counter[str] = Counter()
        self._thread = threading.Thread(target=self._publish, daemon=True)

    def __enter__(self) -> Stream:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join(timeout=120)

    def _publish(self) -> None:
        todo = [(number, str(uuid.uuid4())) for number in range(TASKS)]
        while len(self.sent) < TASKS:
            try:
                with Connection(self.url, transport_options=self.options) as connection:
                    producer = self.tasks.app.amqp.Producer(connection, auto_declare=False)
                    for number, task_id in todo[len(self.sent) :]:
                        self.tasks.double.apply_async(
                            (number,), queue="many", task_id=task_id, producer=producer, retry=False
                        )
                        self.sent.append(task_id)
            except Exception as error:  # whatever a client sees of a Redis that dies: it tries again
                self.errors[type(error).__name__] += 1
                threading.Event().wait(0.2)


@contextmanager
def workers(
    under_test: FleetUnderTest, broker: str, backend: str, options: dict[str, Any]
) -> Iterator[FleetUnderTest]:
    environment = {
        "BALANCER_TEST_URL": backend,
        "BALANCER_TEST_BROKER": broker,
        "RESILIENCE_CONF": json.dumps(
            CONF | {"broker_transport_options": options, "result_backend_transport_options": options}
        ),
    }
    for name in WORKERS:
        under_test.worker(name, "-Q", "many", slots=2, prefetch=4, **environment)
    under_test.ready(*WORKERS)
    yield under_test


def counted(
    under_test: FleetUnderTest, client: redis.Redis, sent: list[str], journal: Callable[[], list[Path]]
) -> dict[str, Any]:
    """What came of what was published; `blamed_on_pop` are those without a result that a pop lost."""
    with under_test.ledger.pipeline(transaction=False) as pipe:
        for task_id in sent:
            pipe.llen(f"started:{task_id}")
        began = pipe.execute()
    ends = told(under_test, "RunFinished", outcome="success")
    raw = client.mget([f"celery-task-meta-{task_id}" for task_id in sent])
    right = [
        bool(one) and json.loads(one)["result"] == 2 * number
        for number, one in enumerate(raw)  # type: ignore[arg-type]
    ]
    gone = [task_id for task_id, end, count in zip(sent, right, began, strict=True) if not end and not count]
    return {
        "tasks": len(sent),
        "never_began": sum(not count for count in began),
        "without_result": sum(not one for one in right),
        "blamed_on_pop": len(in_pop(gone, journal())),
        "bodies_repeated": sum(count - 1 for count in began if count > 1),
        "finished_twice": sum(ends[task_id] > 1 for task_id in sent),
    }


def in_pop(task_ids: list[str], pieces: list[Path]) -> list[str]:
    """Of these tasks those whose message Redis last handed to a pop, and that nobody entered since."""
    last = Journal().read(pieces).last if task_ids else {}
    return [task_id for task_id in task_ids if last.get(task_id) == IN_POP]


def idle(client: redis.Redis, keys: Any) -> bool:
    """Nothing waits and nothing is held."""
    try:
        return not client.hlen(keys.unacked) and not any(client.llen(key) for key in keys.queue_lists("many"))
    except (RedisError, OSError):
        return False


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("fsync", os.environ.get("RESILIENCE_FSYNC", "always").split(","))
def test_a_restart_loses_nothing(
    system_server: EmbeddedRedis, tmp_path: Path, scheme: str, fsync: str
) -> None:
    tasks = load_tasks(system_server.url)
    ledger = f"{system_server.url.rsplit('/', 1)[0]}/3"
    with DyingRedis(tmp_path, fsync) as server:
        broker = broker_url(server.url, scheme)
        with (
            fleet(server.url, tmp_path, "tests.system.resilience_app", ledger) as under_test,
            workers(under_test, broker, server.url, {}),
        ):
            with Stream(tasks, broker, {}) as stream:
                wait_until(lambda: len(stream.sent) > TASKS // 3, "a third is published")
                kept, size = len(stream.sent), server.written()
                # With "everysec" the machine dies, too, and takes half a second of writes along.
                threading.Event().wait(0.5 if fsync == "everysec" else 0)
                server.kill()
                if fsync == "everysec":
                    server.forget(size)
                server.start()
            found = ends(under_test, under_test.client, stream, server.journal, f"restart, {fsync}, {scheme}")
            if fsync != "always":
                found = counted(under_test, under_test.client, stream.sent[:kept], server.journal)
            nothing_lost(found, scheme)
            assert fsync != "always" or found["finished_twice"] == 0


def ends(
    under_test: FleetUnderTest,
    client: redis.Redis,
    stream: Stream,
    journal: Callable[[], list[Path]],
    what: str,
) -> dict[str, Any]:
    """What came of everything, once it is worked off."""
    assert len(stream.sent) == TASKS, stream.errors
    wait_until(lambda: idle(client, under_test.keys), f"all is worked off; {under_test.said(*WORKERS)}", 120)
    found = counted(under_test, client, stream.sent, journal)
    print(json.dumps({"what": what, **found, "publish_errors": dict(stream.errors)}))
    return found


def nothing_lost(found: dict[str, Any], scheme: str) -> None:
    """Nothing, but on the stock transport what Redis had handed to a pop."""
    allowed = found["blamed_on_pop"] if scheme == "redis" else 0
    assert found["never_began"] == found["without_result"] == allowed, found


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("how", os.environ.get("RESILIENCE_FAILOVER", "killed").split(","))
def test_a_failover_loses_nothing(
    system_server: EmbeddedRedis, tmp_path: Path, scheme: str, how: str
) -> None:
    tasks = load_tasks(system_server.url)
    ledger, options = f"{system_server.url.rsplit('/', 1)[0]}/3", {"master_name": MASTER}
    with watched(tmp_path) as pair, pair.client(1) as replica:
        broker = pair.url if scheme == "redis" else pair.url.replace("sentinel", "balanced-sentinel")
        direct = f"redis://127.0.0.1:{pair.ports[1]}/0"
        with (
            fleet(direct, tmp_path, "tests.system.resilience_app", ledger) as under_test,
            workers(under_test, broker, pair.url, options),
        ):
            with Stream(tasks, broker, options) as stream:
                wait_until(lambda: len(stream.sent) > TASKS // 3, "a third is published")
                kept = len(stream.sent)
                if how == "guarded":
                    with pair.client(0) as first:
                        first.config_set("min-replicas-to-write", 1)
                        first.config_set("min-replicas-max-lag", 1)
                pair.kill_master() if how == "killed" else pair.freeze_master()
                wait_until(lambda: replica.role()[0] == b"master", "the replica is promoted")
                pair.thaw_master()
            found = ends(under_test, replica, stream, pair.journal, f"failover, {how}, {scheme}")
            if how != "killed":
                found = counted(under_test, replica, stream.sent[:kept], pair.journal)
            nothing_lost(found, scheme)
            assert how != "killed" or found["finished_twice"] == 0


def test_only_what_a_pop_took_is_blamed_on_it(tmp_path: Path) -> None:
    ids = {name: str(uuid.uuid4()) for name in ("popped", "removed", "waits", "held", "ended", "unsent")}
    with ChaosRedis(tmp_path) as server, redis.Redis.from_url(server.url) as client:
        for name in ("popped", "held", "ended", "removed", "waits"):
            message = json.dumps({"headers": {"id": ids[name]}, "properties": {"delivery_tag": name}})
            client.lpush("many", message)
            if name in ("popped", "held", "ended"):
                client.brpop("many")
            if name in ("held", "ended"):
                client.hset("unacked", name, message)
            if name == "removed":
                client.lrem("many", 1, message)
        client.hdel("unacked", "ended")
        assert in_pop(list(ids.values()), server.journal()) == [ids["popped"]]
    with pytest.raises(AssertionError):
        nothing_lost({"never_began": 2, "without_result": 2, "blamed_on_pop": 1}, "redis")
    with pytest.raises(AssertionError):
        nothing_lost({"never_began": 1, "without_result": 1, "blamed_on_pop": 1}, "balanced-redis")
