"""How results of balanced tasks are told: an end is never unsaid, and a failure can be told again.

Celery's backends look before they store, in two steps: what a late process says of a task that goes on
(STARTED, RETRY) could replace what another has told of its end meanwhile. `careful` makes that one
step for Celery's own Redis backend, and has it wait for a Redis that is away, where Celery would fail
the task, or the chord of which it is a member. `keep_failure` keeps what a run raised, as a return
value is kept, for the delivery that comes after the death of its worker.
"""

from __future__ import annotations

import json
from functools import cached_property
from typing import Any, Final

from celery import current_app, current_task, states
from celery.backends import redis as redis_backends
from celery.backends.redis import RedisBackend, SentinelBackend
from celery.utils.serialization import ensure_serializable, get_pickleable_exception
from kombu.utils.encoding import bytes_to_str
from redis.backoff import ExponentialWithJitterBackoff

from balancer.adapters.redis_connection import follow_master, load_script
from balancer.adapters.redis_errors import PatientRetry

#: As redis-py counts tries.
FOR_EVER: Final = -1

#: Longest failure that is kept (bytes).
FAILURE_LIMIT: Final = 65_536


#: How long a worker that publishes the body of a chord keeps others from it, beyond Celery's first claim (s).
CLAIM_S: Final = 15

#: Where Celery's script of a chord's part takes the claim to publish the body, and the same for one who
#: asks again.
TAKES: Final = "if redis.call('SET', ckey, claim_token, 'NX', 'EX', claim_expires) then"
TAKES_AGAIN: Final = TAKES.replace("if ", "if redis.call('GET', ckey) == claim_token or ", 1)

#: Longest pause between two tries of a command while Redis is away or full (s).
PAUSE_S: Final = 1.0


class _Careful:
    """Stores what is no end in one step with the look whether there is one."""

    def _set_with_state(self, key: Any, value: Any, state: Any) -> Any:
        if state in states.READY_STATES:
            return super()._set_with_state(key, value, state)  # type: ignore[misc]
        return self.ensure(self._tell, (key, value))  # type: ignore[attr-defined]

    def _chord_publish_claim_expires(self, initial_expires: float, callback: Any) -> float:
        """Not as long as publishing may take at worst: a second publish of a chord's body is a copy, and
        whoever comes after a worker that died over it waits for this time."""
        whole = super()._chord_publish_claim_expires(initial_expires, callback)  # type: ignore[misc]
        return min(whole, initial_expires + CLAIM_S)  # type: ignore[no-any-return]

    @cached_property
    def _chord_part_return_script(self) -> Any:
        """Celery's script, which may be sent again when its answer was lost."""
        text = redis_backends.CHORD_PART_RETURN_LUA.replace(TAKES, TAKES_AGAIN)
        return self.client.register_script(text)  # type: ignore[attr-defined]

    def _tell(self, key: Any, value: Any) -> None:
        run = load_script(self.client, "tell")  # type: ignore[attr-defined]
        run([bytes_to_str(key)], [value, self.expires or 0])  # type: ignore[attr-defined]


class CarefulRedisBackend(_Careful, RedisBackend):  # type: ignore[misc]
    """Celery's Redis backend, which never unsays an end."""


class CarefulSentinelBackend(_Careful, SentinelBackend):  # type: ignore[misc]
    """The same behind a Sentinel."""


#: Celery's own classes and ours in their place; a backend of somebody else's is left as it is.
CAREFUL: Final = {RedisBackend: CarefulRedisBackend, SentinelBackend: CarefulSentinelBackend}


def careful(backend: Any) -> Any:
    """The backend of an app, made careful if it is Celery's own for Redis."""
    better = CAREFUL.get(type(backend))
    if better is not None:
        backend.__class__ = better
        # What it tells is committed: given up, it could only be told by another run.
        backend.always_retry = True
        wait_for_redis(backend.client.connection_pool)
    return backend


def wait_for_redis(pool: Any) -> None:
    """Have the connections of a pool try again while Redis is away or full, each command by itself, for as
    long as it takes: a chord that was not told of its member would never end."""
    follow_master(pool)
    retry = PatientRetry(ExponentialWithJitterBackoff(base=0.05, cap=PAUSE_S), FOR_EVER)
    pool.connection_kwargs["retry"] = retry
    for connection in list(getattr(pool, "_available_connections", ())):
        connection.retry = retry


def keep_failure(error: BaseException) -> bytes:
    """What a run raised, as it is kept until the ack; empty when it is too long or cannot be.

    A `MemoryError` is not kept: raised again, it would end the next worker as it ended this one.
    """
    if isinstance(error, MemoryError):
        return b""
    try:
        plain: Any = get_pickleable_exception(error)
        kind = type(plain)
        said = {
            "exc_type": getattr(kind, "__qualname__", kind.__name__),
            "exc_message": ensure_serializable(plain.args, json.dumps),
            "exc_module": kind.__module__,
        }
        kept = json.dumps({"failure": said}).encode()
    except Exception:
        return b""
    return kept if len(kept) <= FAILURE_LIMIT else b""


def kept_failure(document: Any) -> BaseException | None:
    """The exception in a kept document; `None` for one that keeps a value."""
    if not isinstance(document, dict):
        return None
    backend = getattr(current_task, "backend", None) or current_app.backend
    error = backend.exception_to_python(dict(document["failure"]))
    return error if isinstance(error, BaseException) else RuntimeError(str(error))
