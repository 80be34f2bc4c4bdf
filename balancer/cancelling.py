"""Cancels tasks for good by their ids, wherever they are, and undoes it.

What is found in a queue is taken out and its client told at once; what a worker holds is ended by
that worker within a heartbeat; what is found nowhere will start nowhere when it turns up.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from celery import Celery, states
from celery.utils.log import get_logger
from redis.exceptions import RedisError

from balancer import wiring
from balancer.adapters import redis_cancelled
from balancer.adapters.redis_connection import Connection
from balancer.client_word import context_of, open_result, tell_revoked
from balancer.errors import StoreError
from balancer.model import Fleet

log = get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one id: a word for programs and a sentence for people."""

    task_id: str
    word: str
    text: str


def cancel(app: Celery, task_ids: Iterable[str], *, reason: str = "", by: str = "") -> list[Outcome]:
    """Cancel tasks for good. Raises `StoreError` when Redis does not answer."""
    # Late: workers come past here, and numpy would cost each process of their pools its memory.
    from balancer.adapters.redis_store import RedisFleetStore

    wanted = list(dict.fromkeys(task_ids))
    ended = {task_id: state for task_id in wanted if (state := _ended(app, task_id))}
    open_ids = [task_id for task_id in wanted if task_id not in ended]
    taken: dict[str, str] = {}
    holders: Mapping[str, str] = {}
    if open_ids:
        settings = wiring.settings_of(app)
        connection = wiring.connection_of(app, settings)
        try:
            redis_cancelled.enter(connection, open_ids, by=by or wiring.identity(), reason=reason)
            fleet = RedisFleetStore(connection, heartbeat_ttl_s=settings.heartbeat_ttl).observe()
            queues = dict.fromkeys([*queues_of(app, fleet), *redis_cancelled.our_queues(connection)])
            taken = _take_out(app, connection, list(queues), open_ids, reason)
            holders = _holders(fleet)
        except (RedisError, OSError) as error:
            raise StoreError(f"no answer while tasks were cancelled: {error}") from error
    return [_outcome(task_id, ended, taken, holders) for task_id in wanted]


def undo(app: Celery, task_ids: Iterable[str]) -> list[Outcome]:
    """Let cancelled tasks run again, those that were taken out of a queue from its front.

    The member of a chord stays cancelled once its client was told: its chord has failed by then.
    """
    connection = wiring.connection_of(app, wiring.settings_of(app))
    return [_undo(app, connection, task_id) for task_id in dict.fromkeys(task_ids)]


def outlook(entry: redis_cancelled.Cancelled, client_state: str | None) -> str:
    """What an undo would do for this entry, whose client sees `client_state`."""
    if entry.raw:
        return "taken out of its queue; `balancer cancel --undo` puts it back"
    if client_state == states.REVOKED:
        return "it was ended, and an undo does not bring it back"
    if client_state in states.READY_STATES:
        return f"too late: it had ended before ({client_state})"
    return "`balancer cancel --undo` lets it run"


def listed(app: Celery) -> list[redis_cancelled.Cancelled]:
    """All that is cancelled, oldest first."""
    return redis_cancelled.listed(wiring.connection_of(app, wiring.settings_of(app)))


def queues_of(app: Celery, fleet: Fleet) -> list[str]:
    """Every queue that the fleet knows: lanes, those of workers and classes, and the app's own."""
    named = [queue for worker in fleet.workers for queue in worker.queues]
    return list(dict.fromkeys([*(lane.queue for lane in fleet.lanes), *fleet.queues, *named,
                               *app.amqp.queues]))


def _take_out(app: Celery, connection: Connection, queues: Sequence[str], task_ids: Sequence[str],
              reason: str) -> dict[str, str]:
    taken = {}
    for queue, held in redis_cancelled.take_out(connection, queues, task_ids):
        taken[held.task_id] = queue
        try:
            tell_revoked(app, held, reason or "cancelled")
        except Exception as error:
            # Whatever a result backend raises: the task itself is cancelled.
            log.warning("the client of task %s could not be told that it is cancelled: %r",
                        held.task_id, error)
    return taken


def _holders(fleet: Fleet) -> dict[str, str]:
    held: dict[str, str] = {}
    for worker in fleet.workers:
        held |= {task.task_id: f"held by {worker.name}" for task in worker.reserved}
        held |= {task.task_id: f"running on {worker.name}" for task in worker.running}
    return held


def _ended(app: Celery, task_id: str) -> str:
    """The state of a task that has ended, as its client sees it; "" where that is not known."""
    try:
        state = str(app.backend.get_state(task_id))
    except Exception:
        return ""  # no result backend, or one that does not answer
    return state if state in states.READY_STATES else ""


def _outcome(task_id: str, ended: Mapping[str, str], taken: Mapping[str, str],
             holders: Mapping[str, str]) -> Outcome:
    if task_id in ended:
        return Outcome(task_id=task_id, word="ended", text=f"has ended already ({ended[task_id]})")
    if task_id in taken:
        return Outcome(task_id=task_id, word="removed",
                       text=f"taken out of {taken[task_id]}; its client sees REVOKED")
    if task_id in holders:
        return Outcome(task_id=task_id, word="held",
                       text=f"{holders[task_id]}, which ends it within a heartbeat")
    return Outcome(task_id=task_id, word="noted",
                   text="not found in a queue nor in a worker's last report; where it turns up it does not "
                        "start, and where it has begun since it is ended")


def _undo(app: Celery, connection: Connection, task_id: str) -> Outcome:
    entry = redis_cancelled.entry_of(connection, task_id)
    if entry is None:
        return Outcome(task_id=task_id, word="unknown", text="is not cancelled")
    held = entry.held
    if held is not None and (held.headers.get("group") or context_of(app, held).chord):
        return Outcome(task_id=task_id, word="refused",
                       text="stays cancelled: its group or chord was told that it is")
    if held is not None:
        open_result(app, task_id, states.REVOKED)
    if not redis_cancelled.undo(connection, entry):
        return Outcome(task_id=task_id, word="unknown", text="was changed by somebody else meanwhile")
    if held is None and (state := _ended(app, task_id)):
        return Outcome(task_id=task_id, word="ended", text=f"is not cancelled any more, but it has ended "
                       f"({state}) and does not run again")
    if held is None:
        return Outcome(task_id=task_id, word="undone", text="may run again, if no worker has met it yet")
    return Outcome(task_id=task_id, word="undone", text="is back at the front of its queue")
