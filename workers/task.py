"""The base class of balanced tasks: what they declare, how they run, save and resume.

@app.task(base=BalancedTask, bind=True, hardware=("cuda", "cpu"), checkpoints=True)
def train(self, steps): ...
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Mapping
from functools import cache
from numbers import Real
from typing import Any, ClassVar

from celery import Celery, Task, current_task, states
from celery.app.task import get_actual_ignore_result
from celery.exceptions import OperationalError, Reject, SoftTimeLimitExceeded
from celery.utils.log import get_task_logger
from kombu import serialization
from kombu.exceptions import SerializationError
from redis.exceptions import RedisError

from balancer import wiring
from balancer.adapters.redis_connection import connect
from balancer.adapters.redis_fence import Fence
from balancer.errors import CheckpointError, SettingError, StoreError
from balancer.routing import is_ours
from balancer.settings import Settings
from workers import identity, interrupt, leaving
from workers.callbacks import name_callbacks
from workers.declared import checked
from workers.finish import Plan, claimed
from workers.header import read_header
from workers.results import careful
from workers.run import Run, Shares, fenced, patiently

logger = get_task_logger(__name__)

_FENCES: dict[tuple[int, int], tuple[Fence, Settings]] = {}


def fence_of(app: Celery) -> tuple[Fence, Settings]:
    """The fence and the settings of this process for an app; made again in a forked child."""
    place = (os.getpid(), id(app))
    if place not in _FENCES:
        settings = wiring.settings_of(app)
        fence = Fence(
            connect(app, namespace=settings.namespace),
            owner=identity.instance(),
            worker=identity.worker_name(),
            fence_ttl_s=settings.fence_ttl,
            heartbeat_ttl_s=settings.heartbeat_ttl,
        )
        _FENCES[place] = fence, settings
    return _FENCES[place]


def is_share(value: Any) -> bool:
    """Whether a value is a part of a whole: a real number from 0 to 1, also one of numpy's."""
    return isinstance(value, Real) and bool(0 <= value <= 1)  # type: ignore[operator]


@cache
def in_main_process(pid: int) -> bool:
    """`identity.in_main_process`, asked once a process."""
    return identity.in_main_process()


def revoked(task_id: str) -> bool:
    """Whether the worker whose main process this is was told to discard this task."""
    from celery.worker import state  # only where a worker has loaded it anyway

    return task_id in state.revoked


class BalancedMixin:
    """The behaviour of a balanced task over whatever task class it is mixed into."""

    abstract = True
    balanced: ClassVar[bool] = True
    acks_late = True
    reject_on_worker_lost = True
    Request = "workers.request:BalancedRequest"
    Strategy = "workers.strategy:balanced"

    # Declarations; see `workers.declared.DECLARATIONS`.
    hardware: ClassVar[Any] = None
    compute_capability: ClassVar[float | None] = None
    gpu_memory: ClassVar[Any] = None
    memory: ClassVar[Any] = None
    affinity: ClassVar[Any] = None
    profile: ClassVar[Any] = None
    group: ClassVar[Any] = None
    size: ClassVar[Any] = None
    checkpoints: ClassVar[bool | None] = None
    restartable: ClassVar[bool | None] = None
    expected_s: ClassVar[Mapping[str, float] | None] = None
    #: How checkpoints are encoded: "pickle" (any Python state) or a kombu serializer's name.
    checkpoint_serializer: ClassVar[str] = "pickle"

    #: The declared `priority`, which the router gives to the message: Celery deprecates it on a class.
    declared_priority: ClassVar[int | None] = None
    #: The declared `track_started`; `None` leaves it to the app's `task_track_started`.
    declared_track_started: ClassVar[bool | None] = None

    # Given by celery.Task.
    app: Any
    name: Any
    request: Any
    serializer: Any
    run: Callable[..., Any]
    _backend: Any

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for key, value in checked(cls).items():
            setattr(cls, key, value)
        if "priority" in cls.__dict__:
            cls.declared_priority = cls.__dict__["priority"]
            del cls.priority  # type: ignore[attr-defined]
        if not cls.acks_late:
            raise SettingError(
                f"{cls.__name__} sets acks_late = {cls.acks_late!r}: a balanced task is acknowledged when "
                "it has ended, or it would be lost with its worker and at a hand-over; leave acks_late out"
            )
        if "track_started" in cls.__dict__:
            cls.declared_track_started = cls.__dict__["track_started"]
            del cls.track_started

    @property
    def track_started(self) -> bool:
        """Nothing for Celery to do: it would say STARTED before the claim, over the end that another
        copy has stored, and a client that asks late would wait for ever."""
        return False

    @property
    def backend(self) -> Any:
        """As `Task.backend`; in a worker it waits for a Redis that is away, and unsays no end."""
        backend = self.app.backend if self._backend is None else self._backend
        return careful(backend) if identity.worker_name() else backend

    @backend.setter
    def backend(self, value: Any) -> None:
        self._backend = value

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        request = self.request
        if request.called_directly or request.is_eager or getattr(request, "balancer_run", None):
            return super().__call__(*args, **kwargs)  # type: ignore[misc]
        if not (request.properties or {}).get("delivery_tag"):
            return self._body()(*args, **kwargs)
        if in_main_process(os.getpid()) and revoked(request.id):
            # The pool's own queue, where it waited, is not looked through for revoked tasks.
            raise leaving.RefusedDelivery("revoked", False)
        place = os.getpid(), id(self.app)
        fence, settings = _FENCES.get(place) or patiently(lambda: fence_of(self.app), also=(StoreError,))
        raw: Any = getattr(request, "balancer", None)
        header = read_header(raw)
        run = request.balancer_run = Run(
            request=request,
            fence=fence,
            profile=header.profile or self.name,
            header=header,
            token=header.claim,
        )
        name_callbacks(request)
        plan = Plan.of(self, settings, fence.connection)
        if run.token:
            return claimed(self, run, raw, plan, lambda: self._claimed(plan, args, kwargs))
        return fenced(
            run,
            lambda: self._claimed(plan, args, kwargs),
            serializer=self.serializer,
            kept_limit=plan.kept_limit,
        )

    def _claimed(self, plan: Plan, args: Any, kwargs: Any) -> Any:
        """The body of a run that has its claim, told to the client where that is wanted."""
        request = self.request
        if plan.tracks and not get_actual_ignore_result(self, request):
            told = {"pid": os.getpid(), "hostname": request.hostname}
            try:
                # What goes on may have said more of itself, or have been aborted: it is not unsaid.
                begun = request.balancer_run.header.begun
                if not begun or self.backend.get_state(request.id) in states.ALL_STATES:
                    self.backend.store_result(request.id, told, states.STARTED, request=request)
            except SoftTimeLimitExceeded:
                raise
            except Exception as error:
                logger.warning("task %s: that it has started could not be told: %r", request.id, error)
        if not plan.interruptible:
            return self._body()(*args, **kwargs)
        try:
            interrupt.enter(request.balancer_run)
            return self._body()(*args, **kwargs)
        finally:
            interrupt.end()

    def _body(self) -> Callable[..., Any]:
        """The task's own `__call__` where its class has one (an app context, say), else `run`."""
        above = super().__call__  # type: ignore[misc]
        return self.run if getattr(above, "__func__", None) is Task.__call__ else above

    def apply_async(self, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
        """As `Task.apply_async`; `profile=`, `group=` and `size=` say what this one call is."""
        said = {key: options.pop(key) for key in ("profile", "group", "size") if options.get(key) is not None}
        if said:
            headers = dict(options.get("headers") or {})
            options["headers"] = {**headers, "balancer": {**(headers.get("balancer") or {}), **said}}

        def publish() -> Any:
            return super(BalancedMixin, self).apply_async(args, kwargs, **options)  # type: ignore[misc]

        # What follows a task that has committed its end is published by this run or by nobody.
        run = getattr(getattr(current_task, "request", None), "balancer_run", None)
        return patiently(publish, also=(OperationalError,)) if run and run.end else publish()

    def retry(self, *args: Any, **options: Any) -> Any:
        """As `Task.retry`, but only while this run still owns the task."""
        run = getattr(self.request, "balancer_run", None)
        if run is not None:
            # From here on it comes back by itself, as another generation.
            interrupt.end()
            if not patiently(lambda: run.fence.holds(run.task_id, run.token)):
                raise leaving.RefusedDelivery("stale", run.backs_another())
        try:
            return super().retry(*args, **options)  # type: ignore[misc]
        except Reject as unsent:
            # Celery drops for good what it could not publish. A connection that was closed meanwhile (another
            # thread has lost the broker) is a new one the next time.
            if isinstance(unsent.reason, SerializationError):
                raise
        try:
            return super().retry(*args, **options)  # type: ignore[misc]
        except Reject as unsent:
            # With the broker away this delivery is all that there is of the task.
            away = isinstance(unsent.reason, OperationalError | RedisError | OSError)
            raise Reject(unsent.reason, requeue=away) from unsent

    def replace(self, sig: Any, *args: Any, **options: Any) -> Any:
        """As `Task.replace`; the task that is replaced may not be interrupted any more."""
        interrupt.end()
        return super().replace(sig, *args, **options)  # type: ignore[misc]

    def signature_from_request(
        self,
        request: Any = None,
        args: Any = None,
        kwargs: Any = None,
        queue: str | None = None,
        **options: Any,
    ) -> Any:
        """As in `Task`, but what came from a queue of ours comes back where it was published to, not where it
        was sent: to the operator's own queue, or to its lane.

        The lane is entered again: a task may have been sent past it, or run longer than it was kept.
        """
        context = self.request if request is None else request
        came = (context.delivery_info or {}).get("routing_key") or ""
        router = getattr(self.app, "balancer_router", None)
        if queue is None and router is not None and is_ours(came):
            header = read_header(getattr(context, "balancer", None))
            queue = header.home or router.lane_again(self, header.profile or self.name, header.group)
        return super().signature_from_request(request, args, kwargs, queue, **options)  # type: ignore[misc]

    def checkpoint(self, state: Any, *, share: float | None = None) -> None:
        """Save `state` so that this task can go on from here, on this worker or another.

        `share` is the part of the whole work that is done (0–1); with it the balancer knows what
        remains. Leaves the body when the task is wanted elsewhere. Raises `CheckpointError` when
        the state cannot be saved. Outside a worker it does nothing.
        """
        run = getattr(self.request, "balancer_run", None)
        if run is None:
            return
        if share is not None and not is_share(share):
            raise CheckpointError(
                f"share of {self.name} is the part of it that is done, from 0 to 1; it is {share!r}"
            )
        settings = fence_of(self.app)[1]
        data = encode(state, self.checkpoint_serializer, settings.state_limit, self.name)
        with interrupt.closed():
            wanted = patiently(lambda: run.fence.checkpoint(run.task_id, run.token, data, share))
            if not wanted.ours:
                raise leaving.RefusedDelivery("stale", run.backs_another())
        run.shares.done, run.shares.state_bytes = share, len(data)
        if wanted.move_id and run.may_leave():
            raise leaving.Leave(wanted.move_id, wanted.queue)

    def resume(self, default: Any = None) -> Any:
        """The state of the last checkpoint of this task, or `default` when it starts afresh.

        Raises `CheckpointError` when there is a state that cannot be read.
        """
        run = getattr(self.request, "balancer_run", None)
        if run is None:
            return default
        with interrupt.closed():
            saved = patiently(lambda: run.fence.saved(run.task_id))
        if saved is None:
            return default
        data, share = saved
        run.shares = Shares(at_start=share, done=share, state_bytes=len(data))
        return decode(data, self.name)


class BalancedTask(BalancedMixin, Task):  # type: ignore[misc]
    """Base class of tasks that are written for a balanced fleet."""

    abstract = True


def encode(state: Any, serializer: str, limit: int, task: str) -> bytes:
    """A state as bytes: a serializer's name, a NUL, the data. Raises `CheckpointError`."""
    try:
        if serializer == "pickle":
            data = pickle.dumps(state, protocol=pickle.HIGHEST_PROTOCOL)
        else:
            dumped = serialization.dumps(state, serializer=serializer)[2]
            data = dumped.encode() if isinstance(dumped, str) else dumped
    except Exception as error:
        raise CheckpointError(
            f"the state of {task} cannot be saved with {serializer!r}: {error!r}; give plain "
            "data, or set checkpoint_serializer"
        ) from error
    if len(data) > limit:
        raise CheckpointError(f"the state of {task} has {len(data)} bytes; balancer_state_limit is {limit}")
    return serializer.encode() + b"\0" + data


def decode(data: bytes, task: str) -> Any:
    """The state that `encode` wrote. Raises `CheckpointError`."""
    serializer, _, body = data.partition(b"\0")
    try:
        if serializer == b"pickle":
            return pickle.loads(body)
        name = serializer.decode()
        content_type, encoding, _encoder = serialization.registry._encoders[name]
        return serialization.loads(body, content_type, encoding, accept={content_type})
    except Exception as error:
        raise CheckpointError(f"the saved state of {task} cannot be read back: {error!r}") from error
