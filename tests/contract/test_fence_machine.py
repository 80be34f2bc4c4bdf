"""No order of claims, ends, moves, silences, deaths and late answers loses a task or ends it twice.

Hypothesis drives the real scripts on a real Redis as workers do: two or three of them that fall
silent and are late, die, take, run, leave, retry, commit and acknowledge, each step at any moment and
each script sent once or twice. Afterwards all die, and one that comes new must find the task
ended, or end it. `FENCE_EXAMPLES=5000` looks longer.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import pytest
import redis
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from balancer.adapters.redis_connection import Connection
from balancer.adapters.redis_keys import Keys
from tests.contract.fence_world import LANE, OTHER, TASK, Holding, World, delivery_of

OWNERS = ("a:1:1", "b:2:2", "c:3:3")
LAST = "z:9:9"

owners = st.sampled_from(OWNERS)
picks = st.integers(min_value=0, max_value=5)
twice = st.booleans()


class FenceMachine(RuleBasedStateMachine):
    """The moves of the game. A frozen worker does nothing; a silent one may be late, not dead."""

    connection: ClassVar[Connection]
    atomic: ClassVar[bool]
    played: ClassVar[int] = 0

    def __init__(self) -> None:
        super().__init__()
        self.connection.client.flushdb()
        self.world = World(connection=self.connection, atomic=self.atomic)
        self.frozen: set[str] = set()
        self.retries = 0
        for owner in OWNERS:
            self.world.beat(owner)
        self.world.publish()

    def hand(self, pick: int, *stages: str) -> Holding | None:
        """One of the deliveries at such a stage, in the hands of a worker that can act."""
        able = [h for h in self.world.hands if h.stage in stages and h.owner not in self.frozen]
        return able[pick % len(able)] if able else None

    @contextmanager
    def sent(self, again: bool) -> Iterator[None]:
        self.world.twice = again
        yield
        self.world.twice = False

    # Workers.

    @rule(owner=owners, again=twice)
    def take(self, owner: str, again: bool) -> None:
        if owner not in self.frozen:
            with self.sent(again):
                self.world.take(owner)

    @rule(pick=picks)
    def begin(self, pick: int) -> None:
        """The body begins; a worker that cannot vouch for its claim reads the fence first."""
        holding = self.hand(pick, "waiting")
        if holding is None or holding.verdict == "answer":
            return
        ours = self.world.fence(holding.owner).holds(TASK, holding.token)
        holding.stage = "running" if ours else "refused"

    @rule(pick=picks)
    def checkpoint(self, pick: int) -> None:
        holding = self.hand(pick, "running")
        if holding is not None:
            wanted = self.world.fence(holding.owner).checkpoint(TASK, holding.token, b"state", 0.5)
            holding.stage = holding.stage if wanted.ours else "refused"

    @rule(pick=picks, again=twice)
    def finish(self, pick: int, again: bool) -> None:
        holding = self.hand(pick, "running")
        if holding is not None:
            with self.sent(again):
                self.world.finish(holding)

    @rule(pick=picks, again=twice)
    def commit(self, pick: int, again: bool) -> None:
        holding = self.hand(pick, "running")
        if holding is not None:
            with self.sent(again):
                self.world.commit(holding, "fin")

    @rule(pick=picks)
    def settle(self, pick: int) -> None:
        holding = self.hand(pick, "committed")
        if holding is not None:
            self.world.fence(holding.owner).settle(TASK, holding.token)

    @rule(pick=picks)
    def retry(self, pick: int) -> None:
        """The body asks to come back: the next generation is published, then this one committed."""
        holding = self.hand(pick, "running")
        if holding is None or self.retries >= 2:
            return
        if self.world.fence(holding.owner).holds(TASK, holding.token):
            self.retries += 1
            self.world.publish(retries=holding.delivery.retries + 1, epoch=holding.delivery.epoch)
            holding.stage = "retried"
        else:
            holding.stage = "refused"

    @rule(pick=picks, again=twice)
    def commit_retry(self, pick: int, again: bool) -> None:
        holding = self.hand(pick, "retried")
        if holding is not None:
            with self.sent(again):
                self.world.commit(holding, "again")

    @rule(pick=picks, again=twice)
    def acknowledge(self, pick: int, again: bool) -> None:
        """Also of a run without a result, which the ack commits, and of an answer that was told."""
        holding = self.hand(pick, "running", "committed", "refused", "waiting")
        if holding is None or (holding.stage == "waiting" and holding.verdict != "answer"):
            return
        before = self.world.record()
        with self.sent(again):
            self.world.ack(holding)
        if before.get("claim") not in (None, holding.token) and before.get("state") in ("run", "fin"):
            entry = self.connection.client.hexists("unacked", before.get("tag", ""))
            assert entry or before.get("tag") in self.gone, "a late ack took away another's entry"

    @rule(pick=picks, again=twice)
    def leave(self, pick: int, again: bool) -> None:
        holding = self.hand(pick, "running", "waiting")
        if holding is not None and holding.verdict == "taken":
            with self.sent(again):
                self.world.leave(holding)

    @rule(pick=picks, again=twice)
    def lose_its_process(self, pick: int, again: bool) -> None:
        holding = self.hand(pick, "running", "committed", "retried")
        if holding is not None:
            with self.sent(again):
                self.world.lose(holding)

    # What befalls them.

    @rule(owner=owners)
    def freeze(self, owner: str) -> None:
        self.frozen.add(owner)
        self.world.beat(owner, silent=True)

    @rule(owner=owners)
    def thaw(self, owner: str) -> None:
        """It acts again before it has reported again."""
        self.frozen.discard(owner)

    @rule(owner=owners, silent=st.booleans())
    def report(self, owner: str, silent: bool) -> None:
        """A report comes in time, or so late that the worker counted as dead meanwhile."""
        if owner not in self.frozen:
            self.world.beat(owner, silent=silent)

    @rule(owner=owners)
    def die(self, owner: str) -> None:
        """Killed; the one of that name that is there at once has another memory and the same instance."""
        self.world.beat(owner, silent=True)
        self.world.forget(owner)
        self.frozen.discard(owner)

    @rule(owner=owners)
    def recover(self, owner: str) -> None:
        self.world.recover(owner)

    @rule(pick=picks)
    def restore(self, pick: int) -> None:
        """The visibility timeout, of any delivery."""
        tags = sorted(self.connection.client.hkeys("unacked"))
        if tags:
            self.world.restore(tags[pick % len(tags)].decode())

    @rule(chance=st.integers(min_value=0, max_value=5))
    def cancel(self, chance: int) -> None:
        if chance == 0:  # seldom, or little else would be tried
            self.connection.client.hset(self.connection.keys.cancelled, TASK, "{}")

    @property
    def gone(self) -> set[str]:
        """Tags that lie in a queue: restored by kombu while their run goes on."""
        return {delivery_of(raw).tag for raw in self.world.waiting()}

    # What must hold.

    @invariant()
    def ends_once(self) -> None:
        assert len(set(self.world.ends)) <= 1, self.world.ends

    def teardown(self) -> None:
        """All die; a worker that comes new finds the task ended, or ends it."""
        world = self.world
        world.twice = False
        for owner in OWNERS:
            world.beat(owner, silent=True)
            world.forget(owner)
        for _ in range(12):
            world.beat(LAST)
            for owner in OWNERS:
                world.recover(owner)
            world.take(LAST)
            for holding in list(world.hands):
                if holding.verdict == "taken":
                    holding.stage = "running"
                    world.finish(holding)
                world.ack(holding)
            if not world.waiting() and not self.connection.client.hlen("unacked"):
                break
        FenceMachine.played += 1
        assert len(set(world.ends)) == 1, f"ends {world.ends}, fence {world.record()}"
        assert world.waiting() == []
        assert self.connection.client.hkeys("unacked") == []
        assert self.connection.client.llen(LANE) == self.connection.client.llen(OTHER) == 0


@pytest.mark.parametrize("atomic", [False, True], ids=["stock", "atomic"])
def test_no_order_of_events_loses_a_task_or_ends_it_twice(redis_server: Any, atomic: bool) -> None:
    with redis.Redis.from_url(redis_server.url, db=9) as client:
        FenceMachine.connection = Connection.of_client(client, Keys())
        FenceMachine.atomic, FenceMachine.played = atomic, 0
        run_state_machine_as_test(
            FenceMachine,
            settings=settings(
                max_examples=int(os.environ.get("FENCE_EXAMPLES", "120")),
                stateful_step_count=30,
                deadline=None,
                phases=(Phase.generate, Phase.shrink),
                suppress_health_check=list(HealthCheck),
            ),
        )
    assert FenceMachine.played >= 50
