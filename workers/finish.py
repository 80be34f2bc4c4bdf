"""The end of a run whose claim came with its delivery: what must be committed, where, and with what.

Called by `BalancedTask.__call__`. Where nothing of the task's own follows its body, the commit is not a
step of its own: it goes with the result into the broker's Redis, or with the ack where there is no result.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from celery import signals, states
from celery.app.task import get_actual_ignore_result
from celery.app.trace import task_has_custom
from celery.backends.base import DisabledBackend
from celery.backends.redis import RedisBackend
from celery.utils.log import get_task_logger
from kombu.utils.encoding import bytes_to_str
from redis.exceptions import ResponseError

from balancer.adapters.redis_connection import Connection
from balancer.settings import Settings
from workers import identity, lease, leaving
from workers.declared import may_be_repeated
from workers.results import CarefulRedisBackend
from workers.run import Run, answer, keep, past_its_limit, patiently, through
from workers.trial import await_turn

logger = get_task_logger(__name__)

#: Who listens to the end of a task and changes nothing that a refused run would have to take back.
HARMLESS: Final = ("celery.", "workers.")


@dataclass(slots=True, kw_only=True)
class Plan:
    """What is known of a task class and its app before any run: made once a process."""

    #: Nothing of the task's own comes between its body and its ack.
    bare: bool
    #: Its results go into the broker's own Redis, as Celery's own backend stores them.
    fused: bool
    #: The worker's main process runs it (threads, gevent, solo).
    main: bool
    #: Its client is told when its body begins.
    tracks: bool
    #: It leaves its body when it is wanted elsewhere.
    interruptible: bool
    kept_limit: int
    #: Deaths of workers after which a task is set aside.
    deaths_limit: int

    @classmethod
    def of(cls, task: Any, settings: Settings, connection: Connection) -> Plan:
        plan = task.__dict__.get("balancer_plan")
        if plan is None:
            bare = not (task_has_custom(task, "on_success") or task_has_custom(task, "after_return"))
            main, tracks = identity.in_main_process(), task.declared_track_started
            plan = task.balancer_plan = cls(
                bare=bare,
                main=main,
                tracks=bool(task.app.conf.task_track_started if tracks is None else tracks),
                fused=bare and stores_beside(task.backend, connection),
                interruptible=not main and may_be_repeated(task, settings),
                kept_limit=settings.result_kept_limit,
                deaths_limit=settings.deaths_limit,
            )
        return plan  # type: ignore[no-any-return]


def stores_beside(backend: Any, connection: Connection) -> bool:
    """Whether a backend is Celery's own for Redis, unchanged, and its Redis is this database."""
    if type(backend) not in (RedisBackend, CarefulRedisBackend) or backend.__dict__.keys() & CHANGED:
        return False
    key, nonce = connection.keys.ours("same", secrets.token_hex(8)), secrets.token_hex(8)

    def look() -> bool:
        backend.client.set(key, nonce, px=10_000)
        same = connection.client.get(key) == nonce.encode()
        backend.client.delete(key)
        return bool(same)

    try:
        return patiently(look)
    except ResponseError as error:
        logger.info("results are stored as Celery stores them: %s", error)
        return False


#: Methods of a backend by which it stores; one that somebody has put in their place is respected.
CHANGED: Final = frozenset({"store_result", "_store_result", "set", "_set", "_set_with_state", "encode"})


def claimed(task: Any, run: Run, header: Mapping[str, Any], plan: Plan, body: Callable[[], Any]) -> Any:
    """Run `body` under the claim that came with the delivery, and return what it returns.

    Raises what `workers.run.fenced` raises.
    """
    if "kept" in header:
        return answer(run, header["kept"].encode())
    if "suspect" in header:
        await_turn(run, plan.deaths_limit)
    if "suspect" in header or plan.main:
        # A thread's turn comes long after its task was given to the pool.
        run.begin()
    elif not lease.vouches(header.get("lapses")):
        run.require(lambda: run.fence.holds(run.task_id, run.token))
    request = run.request
    # Asked before the body, which may change it: the worker, whose ack is to commit, does not hear of that.
    silent = stores_nothing(task, request)
    value = through(run, body)
    if not plan.bare or request.callbacks or request.chain or request.chord or signals.task_success.receivers:
        run.commit("success", kept=keep(value, task.serializer, plan.kept_limit))
    elif silent or stores_nothing(task, request):
        if not silent or any_listens(signals.task_postrun, task):
            run.commit("success", end="done")
    elif not (plan.fused and store(task.backend, run, value, plan)):
        run.commit("success", kept=keep(value, task.serializer, plan.kept_limit))
    return value


def stores_nothing(task: Any, request: Any) -> bool:
    """Whether a task leaves no result: then its ack may be its commit."""
    return bool(get_actual_ignore_result(task, request)) or type(task.backend) is DisabledBackend


def any_listens(signal: Any, task: Any) -> bool:
    """Whether anybody but Celery and ourselves hears a signal of this task."""
    return bool(signal.receivers) and any(
        not str(getattr(receiver, "__module__", "")).startswith(HARMLESS)
        for receiver in signal._live_receivers(task)
    )


def store(backend: Any, run: Run, value: Any, plan: Plan) -> bool:
    """Commit with the result, in one step. `False`: it is to be done in two.

    Raises `RefusedDelivery` when another run owns the task.
    """
    request, document = run.request, document_of(backend, run.request, value)
    if document is None:
        return False
    key = bytes_to_str(backend.get_key_for_task(request.id))
    told, refused = run.told("success"), run.told("stale")

    def finish() -> str:
        return run.fence.finish(
            request.id,
            run.token,
            key=key,
            document=document,
            expires_s=backend.expires or 0,
            told=told,
            refused=refused,
        )

    try:
        done = past_its_limit(lambda: patiently(finish))
    except ResponseError as error:
        logger.warning("results are stored as Celery stores them from now on: %s", error)
        plan.fused = False
        return False
    if done == "refused":
        raise leaving.RefusedDelivery("stale", run.backs_another())
    if done == "stored":
        # The tracer has nothing left to store.
        request.ignore_result = True
    return done == "stored"


def document_of(backend: Any, request: Any, value: Any) -> Any:
    """What the backend stores of a result, `None` where it would not: the tracer sees to that."""
    try:
        result = backend.encode_result(value, states.SUCCESS)
        meta = backend._get_result_meta(result=result, state=states.SUCCESS, traceback=None, request=request)
        meta["task_id"] = request.id
        document = backend.encode(meta)
    except Exception:
        # A value that cannot be stored fails the task as it fails any.
        return None
    return document if len(document) <= backend._MAX_STR_VALUE_SIZE else None
