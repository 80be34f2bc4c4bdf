"""How results of balanced tasks are told: an end is never unsaid, and a failure can be told again.

Celery's backends look before they store, in two steps: what a late process says of a task that goes on
(STARTED, RETRY) could replace what another has told of its end meanwhile. `careful` makes that one
step for Celery's own Redis backend, and has it wait for a Redis that is away. `keep_failure` keeps what a
run raised, as a return value is kept, for the delivery that comes after the death of its worker.
"""

from __future__ import annotations

import json
from typing import Any, Final

from celery import current_app, current_task, states
from celery.backends.redis import RedisBackend, SentinelBackend
from celery.utils.serialization import ensure_serializable, get_pickleable_exception
from kombu.utils.encoding import bytes_to_str

from balancer.adapters.redis_connection import load_script

#: Longest failure that is kept (bytes).
FAILURE_LIMIT: Final = 65_536


class _Careful:
    """Stores what is no end in one step with the look whether there is one."""

    def _set_with_state(self, key: Any, value: Any, state: Any) -> Any:
        if state in states.READY_STATES:
            return super()._set_with_state(key, value, state)  # type: ignore[misc]
        return self.ensure(self._tell, (key, value))  # type: ignore[attr-defined]

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
        # Its end is committed: given up, it could only be told by another run.
        backend.always_retry = True
    return backend


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
