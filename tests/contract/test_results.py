"""Celery's Redis backend, made careful: an end is never unsaid; and a failure that is told again."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from celery import Celery, states
from celery.backends import redis as redis_backends

from tests.system.lasting_redis import LastingRedis
from workers import BalancedTask, identity
from workers.results import TAKES, careful, keep_failure, kept_failure
from workers.run import kept_value

#: Celery's own way to store is old to redis-py.
pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning")


@pytest.fixture
def app(redis_url: str) -> Celery:
    return Celery("results", broker=redis_url, backend=redis_url)


@pytest.mark.parametrize("serializer", ["json", "pickle"])
@pytest.mark.parametrize(
    ("end", "value"),
    [(states.SUCCESS, 7), (states.FAILURE, ValueError("x")), (states.REVOKED, ValueError("y"))],
)
def test_what_goes_on_does_not_unsay_an_end(app: Celery, serializer: str, end: str, value: Any) -> None:
    app.conf.update(result_serializer=serializer, accept_content=["json", "pickle"])
    backend = careful(app.backend)
    backend.store_result("t", {"pid": 1}, states.STARTED)
    assert app.AsyncResult("t").state == states.STARTED
    backend.store_result("t", value, end)
    # A process that had looked before the end was told stores only now.
    document = backend.encode(backend._get_result_meta({"pid": 2}, states.STARTED, None, None))
    backend._set_with_state(backend.get_key_for_task("t"), document, states.STARTED)
    backend._set_with_state(backend.get_key_for_task("t"), document, states.RETRY)
    assert app.AsyncResult("t").state == end


def test_the_word_of_an_end_in_a_value_is_none(app: Celery) -> None:
    backend = careful(app.backend)
    backend.store_result("t", {"hostname": "SUCCESS"}, states.STARTED)
    backend.store_result("t", ValueError("FAILURE"), states.RETRY)
    assert app.AsyncResult("t").state == states.RETRY


def test_a_result_that_goes_on_is_told_to_who_waits_and_expires(app: Celery, redis_client: Any) -> None:
    backend = careful(app.backend)
    key = backend.get_key_for_task("t")
    with redis_client.pubsub() as channel:
        channel.subscribe(key)
        assert channel.get_message(timeout=5)["type"] == "subscribe"
        backend.store_result("t", None, states.STARTED)
        said = channel.get_message(timeout=5)
    assert json.loads(said["data"])["status"] == states.STARTED
    assert 0 < redis_client.ttl(key) <= app.conf.result_expires.total_seconds()


def test_balanced_tasks_are_told_carefully_in_workers_and_other_backends_left_alone(
    app: Celery, monkeypatch: pytest.MonkeyPatch
) -> None:
    @app.task(shared=False, base=BalancedTask, name="results.one")
    def one() -> None:
        """Does nothing."""

    assert type(one.backend).__name__ == "RedisBackend"
    monkeypatch.setenv(identity.NAME, "w@h")
    assert type(one.backend).__name__ == "CarefulRedisBackend"
    other = Celery("other", backend="cache+memory://")
    assert type(careful(other.backend)).__name__ == "CacheBackend"


def test_a_failure_is_kept_with_its_type_and_arguments() -> None:
    kept = keep_failure(ValueError("no such row", 7))
    with pytest.raises(ValueError, match="no such row") as raised:
        kept_value(kept)
    assert raised.value.args == ("no such row", 7)


def test_what_cannot_be_kept_is_not() -> None:
    assert keep_failure(ValueError("x" * 100_000)) == b""
    assert kept_failure(["application/json", "utf-8", True, "7"]) is None


def test_a_chords_last_member_that_asks_again_is_still_the_one_that_publishes(app: Celery) -> None:
    backend = careful(app.backend)
    assert TAKES in redis_backends.CHORD_PART_RETURN_LUA
    names = [backend.get_key_for_group("g", part) for part in (".j", ".t", ".s", ".d")]
    keys = [*names, backend.get_key_for_group("g"), backend.get_key_for_group("g", ".c")]
    backend.client.set(names[2], 1)
    script = backend._chord_part_return_script
    ours = ["t", "value", 1, 0, 100, 100, 10, "token"]
    answers = [script(keys=keys, args=args) for args in (ours, ours, [*ours[:-1], "another"])]
    assert [answer[-1] for answer in answers] == [1, 1, 0]
    assert [answer[0] for answer in answers] == [1, 1, 1]


def test_a_backend_waits_for_a_redis_that_restarts(tmp_path: Path) -> None:
    with LastingRedis(tmp_path) as server:
        app = Celery("lasting", broker=server.url, backend=server.url)
        backend = careful(app.backend)
        backend.client.set("a", 1)
        server.stop()
        later = threading.Timer(0.3, server.start)
        later.start()
        assert backend.client.get("a") == b"1"
        with backend.client.pipeline() as pipe:
            assert pipe.get("a").execute() == [b"1"]
        later.join()
