"""One fenced run of a task's body: claim, body, commit; or the way out at a checkpoint.

Called by `BalancedTask.__call__` in the process that runs the body. Follows
`docs/moving.md`: a stale copy neither runs nor finishes. Where the worker claimed the task as it took
the message, the run begins with that claim.
"""

from __future__ import annotations

import json
import secrets
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, repeat
from json.encoder import encode_basestring_ascii as quoted
from typing import Any, Final, Literal, TypeVar

from celery import signals, states
from celery.exceptions import Ignore, Reject, Retry, SoftTimeLimitExceeded, WorkerShutdown, WorkerTerminate
from celery.utils.log import get_task_logger
from kombu import serialization
from redis.exceptions import RedisError, ResponseError

from balancer.adapters.redis_errors import passes
from balancer.adapters.redis_fence import Claim, Delivery, Fence
from balancer.model import Duplicate, Refused, RunFinished, RunStarted
from workers import identity, leaving
from workers.chords import await_dispatch
from workers.header import Header
from workers.results import keep_failure, kept_failure

logger = get_task_logger(__name__)

T = TypeVar("T")

#: Pauses (s) between tries of a script while Redis does not answer; the last is repeated for as
#: long as it takes. A body that is done waits for its Redis: given up, it would have to run again.
PAUSES_S: Final = (0.1, 0.2, 0.5, 1.0, 2.0, 4.0)

#: Tries of a script to which Redis gives an answer that is an error.
TRIES: Final = 3


@dataclass(slots=True)
class Shares:
    """What checkpoints say of the whole task: the part that was done when this run began, the part that
    is done now; `None` unknown."""

    at_start: float | None = 0.0
    done: float | None = None
    #: Size of the last checkpoint, `None` when there is none.
    state_bytes: int | None = None

    def of_this_run(self, *, whole: bool) -> float | None:
        done = 1.0 if whole else self.done
        return None if done is None or self.at_start is None else max(0.0, done - self.at_start)


@dataclass(slots=True, kw_only=True)
class Run:
    """What is known of the run that this process is in. `token` is "" until it has its claim."""

    request: Any
    fence: Fence
    profile: str
    header: Header
    token: str = ""
    began: float = field(default_factory=time.monotonic)
    shares: Shares = field(default_factory=Shares)
    #: What was committed of its end: something ("committed"), and the fence is told once the result is stored
    #: ("settles"), which the ack may do soon enough. What Celery publishes from then on nobody else will.
    end: Literal["", "committed", "settles"] = ""

    @property
    def task_id(self) -> str:
        return str(self.request.id)

    @property
    def delivery(self) -> Delivery:
        """The delivery that this run is of."""
        return delivery_of(self.request, self.header, self.token)

    def _about(self) -> dict[str, Any]:
        """What every event of this run says."""
        return {
            "task_id": self.request.id,
            "profile": self.profile,
            "worker": self.fence.worker,
            "hardware_class": identity.hardware_class(),
            "epoch": self.header.epoch,
        }

    def started(self) -> RunStarted:
        """The event of its begin."""
        return RunStarted(at=0.0, **self._about())

    def finished(self, outcome: str) -> RunFinished:
        """The event of this run's end."""
        return RunFinished(
            at=0.0,
            **self._about(),
            outcome=outcome,
            duration_s=time.monotonic() - self.began,
            size=self.header.size,
            share=self.shares.of_this_run(whole=outcome in ("success", "failure", "stale")),
            ready_at=self.header.ready_at(self.request.eta),
        )

    def told(self, outcome: str) -> str:
        """The document of `finished(outcome)`."""
        return finished_document(
            task_id=self.request.id,
            profile=self.profile,
            worker=self.fence.worker,
            epoch=self.header.epoch,
            outcome=outcome,
            duration_s=time.monotonic() - self.began,
            size=self.header.size,
            share=self.shares.of_this_run(whole=True),
            ready_at=self.header.ready_at(self.request.eta),
        )

    def commit(
        self, outcome: str, *, end: Literal["fin", "again", "done"] = "fin", kept: bytes = b""
    ) -> None:
        """Commit this run's end. Raises `RefusedDelivery` when another run owns the task."""
        # An ack settles, too; but should the worker die before it, only a kept value can be told again.
        settles = end == "fin" and not (kept and self.header.claim)
        if settles and not SETTLING.connected:
            signals.task_postrun.connect(settle, weak=False, dispatch_uid="balancer-settle")
            SETTLING.connected = True
        if not past_its_limit(
            lambda: patiently(
                lambda: self.fence.commit(
                    self.task_id,
                    self.token,
                    self.finished(outcome),
                    self.finished("stale"),
                    end=end,
                    kept=kept,
                    generation=self.delivery.generation,
                )
            )
        ):
            raise leaving.RefusedDelivery("stale", self.backs_another())
        if end == "fin":
            self.end = "settles" if settles else "committed"
            await_dispatch(self.request, self.token)

    def backs_another(self) -> bool:
        """Whether the broker's entry under our tag may back the run that has the claim now.

        It may, too, where there is no fence any more: whoever gets the entry next shall judge.
        """
        keys, client = self.fence.connection.keys, self.fence.connection.client
        tag = patiently(lambda: client.hget(keys.fence(self.task_id), "tag"))
        return tag is None or tag.decode() == self.delivery.tag

    def may_leave(self) -> bool:
        """Whether there is a delivery to hand over: what needs no acknowledgement is nowhere but here."""
        keys, client = self.fence.connection.keys, self.fence.connection.client
        return bool(patiently(lambda: client.hexists(keys.unacked, self.delivery.tag)))

    def give_back(self) -> None:
        """Let the next delivery run it; where Redis is away, the claim lapses with the worker's lease."""
        try:
            self.fence.release(self.task_id, self.delivery.tag, token=self.token)
        except RedisError as error:
            logger.warning("task %s: its claim could not be given back: %s", self.task_id, error)

    def begin(self) -> None:
        """Note that the body begins. Raises `RefusedDelivery` when the claim does not hold any more."""
        self.require(lambda: self.fence.begin(self.task_id, self.token))

    def require(self, holds: Callable[[], bool]) -> None:
        """Raises `RefusedDelivery` unless `holds()`, once Redis answers."""
        if not patiently(holds):
            tell_duplicate(self, "stale")
            raise leaving.RefusedDelivery("stale", self.backs_another())


def past_its_limit(step: Callable[[], T]) -> T:
    """What ends a run whose body is done: its soft time limit, which comes once, is not this step's."""
    try:
        return step()
    except SoftTimeLimitExceeded:
        return step()


def patiently(attempt: Callable[[], T], *, also: tuple[type[Exception], ...] = ()) -> T:
    """Try until Redis answers. An answer that is an error is tried a few times and then raised.

    `also` names further exceptions that mean that Redis is away.
    """
    away: tuple[type[Exception], ...] = (RedisError, *also)
    errors = 0
    for pause_s in chain(PAUSES_S, repeat(PAUSES_S[-1])):
        try:
            return attempt()
        except away as error:
            if isinstance(error, ResponseError) and not passes(error):
                errors += 1
                if errors >= TRIES:
                    raise
            logger.warning("Redis does not answer (%s); trying again in %s s", error, pause_s)
            time.sleep(pause_s)
    raise AssertionError("unreachable")


def keep(value: Any, serializer: str, limit: int) -> bytes:
    """A return value as it is kept until the ack; empty when it cannot be or is over `limit` bytes."""
    try:
        content_type, encoding, data = serialization.dumps(value, serializer=serializer)
    except Exception:
        return b""
    text = data if isinstance(data, str) else data.decode("latin-1")
    kept = json.dumps([content_type, encoding, isinstance(data, str), text]).encode()
    return kept if len(kept) <= limit else b""


def kept_value(kept: bytes) -> Any:
    """The value that `keep` kept. Raises what `keep_failure` kept."""
    document = json.loads(kept)
    failure = kept_failure(document)
    if failure is not None:
        raise failure
    content_type, encoding, is_text, text = document
    data = text if is_text else text.encode("latin-1")
    return serialization.loads(data, content_type, encoding, accept={content_type})


def fenced(run: Run, body: Callable[[], Any], *, serializer: str, kept_limit: int) -> Any:
    """Run `body` under the fence and return what it returns.

    Raises `RefusedDelivery` for a copy that may not run or not finish, `HandedOver` when the task
    left for another worker; what the body raises goes through once its end is committed.
    """
    claim = claim_of(run)
    if claim.verdict == "answer":
        return answer(run, claim.kept)
    value = through(run, body)
    run.commit("success", kept=keep(value, serializer, kept_limit))
    return value


def claim_of(run: Run) -> Claim:
    """Claim a task for this run, as "taken" or "answer". Raises `RefusedDelivery`."""
    delivery, nonce = run.delivery, secrets.token_hex(8)
    claim = patiently(lambda: run.fence.claim(delivery, run.started(), nonce=nonce))
    if claim.verdict not in ("taken", "answer"):
        tell_duplicate(run, claim.verdict)
        raise leaving.RefusedDelivery(
            claim.verdict, claim.same_tag and claim.verdict not in ("done", "cancelled")
        )
    run.token, run.began = claim.token, time.monotonic()
    if claim.suspect and claim.verdict == "taken":
        run.begin()
    return claim


def answer(run: Run, kept: bytes) -> Any:
    """The value that an earlier run of this delivery returned and committed. Raises what it raised."""
    logger.info("task %s had committed before its worker died: its kept result is used", run.task_id)
    run.end = "committed"
    await_dispatch(run.request, run.token)
    return kept_value(kept)


def through(run: Run, body: Callable[[], Any]) -> Any:
    """The body, with every way out of it but success told to the fence."""
    try:
        return body()
    except leaving.Leave as leave:
        past_its_limit(partial(leave_for, run, leave))
    except Retry:
        run.commit("retry", end="again")
        raise
    except Reject as reject:
        if reject.requeue:
            run.give_back()
        else:
            run.commit("failure", end="done")
        raise
    except Ignore:
        run.commit("ignored", end="done")
        raise
    except SystemExit as told:
        if identity.in_main_process() and not isinstance(told, WorkerShutdown | WorkerTerminate):
            # There is no process of its own to end, and the pool would lose sight of the task.
            failure = RuntimeError(f"the task called sys.exit({told.code!r})")
            run.commit("failure", kept=keep_failure(failure))
            raise failure from told
        run.give_back()
        raise
    except Exception as error:
        run.commit("failure", kept=keep_failure(error))
        raise
    except BaseException:
        # The process is told to end: the body has stopped, so the next delivery need not wait.
        run.give_back()
        raise
    raise AssertionError("unreachable")


def leave_for(run: Run, leave: leaving.Leave) -> None:
    """Hand the task over now that its body has stopped. Always raises."""
    delivery, fence = run.delivery, run.fence
    size = run.shares.state_bytes
    answer = patiently(
        lambda: fence.relinquish(delivery, leave.queue, leave.move_id, token=run.token, state_bytes=size)
    )
    if answer == "moved":
        tell(run, run.finished("moved"))
        raise leaving.HandedOver(leave.move_id)
    tell(
        run,
        Refused(at=0.0, move_id=leave.move_id, task_id=delivery.task_id, worker=fence.worker, reason=answer),
    )
    if answer == "gone":
        # The broker gave this delivery back to its queue: free the claim for that copy, which has
        # the same tag, so that an ack of ours could take it away.
        run.give_back()
        raise leaving.RefusedDelivery("stale", True)
    raise leaving.RefusedDelivery("stale", run.backs_another())


def delivery_of(request: Any, header: Header, claim: str) -> Delivery:
    """The delivery that a task's context stands for."""
    return Delivery(
        task_id=request.id,
        nesting=int(request.replaced_task_nesting or 0),
        retries=int(request.retries or 0),
        epoch=header.epoch,
        tag=str((request.properties or {}).get("delivery_tag", "")),
        claim=claim,
    )


def finished_document(
    *,
    task_id: str,
    profile: str,
    worker: str,
    epoch: int,
    outcome: str,
    duration_s: float,
    size: float,
    share: float | None,
    ready_at: float | None = None,
) -> str:
    """A `RunFinished` as `event_document` writes it, for the path on which every microsecond counts: written
    out it takes 3.5 µs, as a record and by `event_document` 19."""
    ready = "" if ready_at is None else f',"ready_at":{ready_at!r}'
    return (
        f'{{"type":"RunFinished","task_id":{quoted(task_id)},"profile":{quoted(profile)},'
        f'"worker":{quoted(worker)},"hardware_class":{quoted(identity.hardware_class())},"epoch":{epoch},'
        f'"outcome":"{outcome}","duration_s":{duration_s:.6f},"size":{size!r},'
        f'"share":{"null" if share is None else repr(share)}{ready}}}'
    )


@dataclass(slots=True)
class Settling:
    """Whether `settle` hears the end of each run in this process: only where a run has need of it."""

    connected: bool = False


SETTLING: Final = Settling()


def settle(sender: Any = None, state: str | None = None, **_: Any) -> None:
    """The result is stored: the fence is only a memory from now on.

    A signal, since `after_return` is the author's to override. An exception that is under way here
    (the signal is sent in a `finally`) is the backend's, which could not store the result.
    """
    run = getattr(getattr(sender, "request", None), "balancer_run", None)
    if run is None or not run.token or run.end != "settles" or state not in (states.SUCCESS, states.FAILURE):
        return
    if sys.exc_info()[0] is None:
        patiently(lambda: run.fence.settle(run.task_id, run.token))


def tell_duplicate(run: Run, verdict: str) -> None:
    tell(run, Duplicate(at=0.0, task_id=run.task_id, worker=run.fence.worker, reason=verdict))


def tell(run: Run, event: Any) -> None:
    """Put an event on the stream; losing one loses a statistic, so an error is only logged."""
    try:
        run.fence.tell(event)
    except RedisError as error:
        logger.warning("an event could not be told: %s", error)
