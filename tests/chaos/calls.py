"""The calls of a run: every shape a client can make of tasks, and what each of them must come to."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Literal
from uuid import uuid4

from celery import chain, chord, group
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from balancer.errors import BalancerError

#: How a task must end: with a value, without a result, as a failure, or without having begun.
End = int | Literal["silent", "fails", "expired"]

#: What a client is told when its broker does not answer; kombu's own words for a channel whose
#: connection was closed under it are an `AttributeError`.
AWAY: Final = (OperationalError, RedisError, BalancerError, OSError, AttributeError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A call as a client made it: each task it is made of, in the order in which they can begin."""

    shape: str
    ends: dict[str, End]
    before: dict[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class Publisher:
    """Makes calls until there are `wanted` tasks.

    It is `ahead` of what has ended at most, and of the disturbances by one: `share` says how much of
    them there was.
    """

    tasks: Any
    random: random.Random
    wanted: int
    ahead: int
    share: Callable[[], float]
    open: dict[str, tuple[Call, End]] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)
    published: int = 0
    refused: int = 0

    def run(self, over: threading.Event) -> None:
        shapes, weights = zip(*self._shapes(), strict=True)
        while self.published < self.wanted and not over.is_set():
            if len(self.open) >= self.ahead or self.published > self.wanted * self.share():
                over.wait(0.02)
                continue
            shape = self.random.choices(shapes, weights)[0]
            self._call(shape, self.random.randrange(1000), over)

    def _shapes(self) -> list[tuple[Callable[[int], tuple[Any, Call]], int]]:
        return [
            (self._alone, 40),
            (self._silent, 40),
            (self._chain, 4),
            (self._group, 4),
            (self._chord, 3),
            (self._step, 6),
            (self._whole, 2),
            (self._retries, 3),
            (self._eta, 2),
            (self._expired, 1),
            (self._fails, 2),
            (self._linked, 2),
        ]

    def _call(self, shape: Callable[[int], tuple[Any, Call]], number: int, over: threading.Event) -> None:
        """Publish until the broker has taken it: ids are frozen, so that a second time is the same call."""
        send, call = shape(number)
        self.calls.append(call)
        self.open.update({task_id: (call, end) for task_id, end in call.ends.items()})
        self.published += len(call.ends)
        while not over.is_set():
            try:
                send()
                return
            except AWAY:
                self.refused += 1
                over.wait(0.2)

    def _alone(self, number: int) -> tuple[Any, Call]:
        task_id, priority = str(uuid4()), self.random.choice((0, 3, 6, 9))
        return (
            lambda: self.tasks.quick.apply_async((number,), task_id=task_id, priority=priority),
            Call(shape="alone", ends={task_id: number}),
        )

    def _silent(self, number: int) -> tuple[Any, Call]:
        task_id = str(uuid4())
        return (
            lambda: self.tasks.silent.apply_async((number,), task_id=task_id),
            Call(shape="silent", ends={task_id: "silent"}),
        )

    def _chain(self, number: int) -> tuple[Any, Call]:
        ids = [str(uuid4()) for _ in range(4)]
        links = [self.tasks.quick.s(number), self.tasks.step.s(steps=2), self.tasks.quick.s(other=1)]
        links.append(self.tasks.quick.s(other=2))
        signed = [link.set(task_id=task_id) for link, task_id in zip(links, ids, strict=True)]
        values = (number, number + 2, number + 3, number + 5)
        ends: dict[str, End] = dict(zip(ids, values, strict=True))
        before = {after: (ids[place],) for place, after in enumerate(ids[1:])}
        return chain(*signed).apply_async, Call(shape="chain", ends=ends, before=before)

    def _group(self, number: int) -> tuple[Any, Call]:
        ids = [str(uuid4()) for _ in range(4)]
        signed = [
            self.tasks.quick.s(number, other=place).set(task_id=one) for place, one in enumerate(ids)
        ]
        ends: dict[str, End] = {one: number + place for place, one in enumerate(ids)}
        return group(signed).apply_async, Call(shape="group", ends=ends)

    def _chord(self, number: int) -> tuple[Any, Call]:
        ids, body = [str(uuid4()) for _ in range(3)], str(uuid4())
        header = [self.tasks.quick.s(number).set(task_id=one) for one in ids[:2]]
        header.append(self.tasks.step.s(number, steps=2).set(task_id=ids[2]))
        ends: dict[str, End] = {ids[0]: number, ids[1]: number, ids[2]: number + 2, body: 3 * number + 2}
        # The group's id, too: members that were taken the first time must count for the second.
        whole = chord(header, self.tasks.total.s().set(task_id=body), task_id=body)
        return whole.apply_async, Call(shape="chord", ends=ends, before={body: tuple(ids)})

    def _step(self, number: int) -> tuple[Any, Call]:
        task_id, steps = str(uuid4()), self.random.randint(1, 20)
        return (
            lambda: self.tasks.step.apply_async((number, steps), task_id=task_id),
            Call(shape="step", ends={task_id: number + steps}),
        )

    def _whole(self, number: int) -> tuple[Any, Call]:
        task_id, seconds = str(uuid4()), self.random.uniform(0.1, 0.8)
        return (
            lambda: self.tasks.whole.apply_async((number, seconds), task_id=task_id),
            Call(shape="whole", ends={task_id: number}),
        )

    def _retries(self, number: int) -> tuple[Any, Call]:
        task_id, times = str(uuid4()), 1 + number % 3
        return (
            lambda: self.tasks.flaky.apply_async((times, number % 2), task_id=task_id),
            Call(shape="retries", ends={task_id: times}),
        )

    def _eta(self, number: int) -> tuple[Any, Call]:
        task_id, wait_s = str(uuid4()), self.random.uniform(0.2, 6)
        return (
            lambda: self.tasks.quick.apply_async((number,), task_id=task_id, countdown=wait_s, expires=3600),
            Call(shape="eta", ends={task_id: number}),
        )

    def _expired(self, number: int) -> tuple[Any, Call]:
        task_id = str(uuid4())
        return (
            lambda: self.tasks.quick.apply_async((number,), task_id=task_id, expires=-60),
            Call(shape="expired", ends={task_id: "expired"}),
        )

    def _fails(self, number: int) -> tuple[Any, Call]:
        task_id, handler = str(uuid4()), str(uuid4())
        link = self.tasks.errback.s().set(task_id=handler)
        return (
            lambda: self.tasks.broken.apply_async(task_id=task_id, link_error=link),
            Call(shape="fails", ends={task_id: "fails", handler: 0}, before={handler: (task_id,)}),
        )

    def _linked(self, number: int) -> tuple[Any, Call]:
        task_id, callback = str(uuid4()), str(uuid4())
        link = self.tasks.quick.s(other=7).set(task_id=callback)
        ends: dict[str, End] = {task_id: number, callback: number + 7}
        return (
            lambda: self.tasks.quick.apply_async((number,), task_id=task_id, link=link),
            Call(shape="linked", ends=ends, before={callback: (task_id,)}),
        )
