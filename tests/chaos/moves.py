"""Moves of every kind, asked for at random beside the balancer's own."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from redis.exceptions import RedisError

from balancer.adapters.redis_connection import connect
from balancer.adapters.redis_handover import RedisHandOver
from balancer.errors import BalancerError
from balancer.model import Move, Score
from balancer.routing import class_queue, direct_queue, lane_queue
from tests.chaos.crew import CLASSES, Crew

LANES = ("quick", "silent", "step", "whole", "flaky", "total")


@dataclass(slots=True, kw_only=True)
class Mover:
    """Asks for a move every `every_s`."""

    crew: Crew
    app: Any
    random: random.Random
    every_s: float
    asked: Counter[str] = field(default_factory=Counter)

    def run(self, over: threading.Event) -> None:
        hand_over = RedisHandOver(
            connect(self.app), self._command("balancer_relinquish"), self._command("balancer_preempt")
        )
        while not over.wait(self.every_s):
            try:
                move = self._some_move()
                if move is not None:
                    hand_over.request(move, timeout_s=5)
                    self.asked[move.move_id.partition("-")[0]] += 1
            except (RedisError, BalancerError, OSError):
                continue  # Redis is away, as it often is here

    def _command(self, name: str) -> Callable[[str, Any], None]:
        def tell(worker: str, arguments: Any) -> None:
            self.app.control.broadcast(name, arguments=dict(arguments), destination=[worker])

        return tell

    def _some_move(self) -> Move | None:
        kind = self.random.choice(("queued", "reserved", "running", "running", "preempted"))
        target = self.random.choice(self.crew.workers)
        queue = direct_queue(f"{target}@chaos")
        if kind == "queued":
            source = lane_queue("chaos." + self.random.choice(LANES))
            queue = self.random.choice((queue, class_queue(self.random.choice(CLASSES))))
            return self._move(kind, "", source, target, queue)
        holder = self.random.choice(self.crew.workers)
        held = self.crew.holds().get(holder, {}).get("running" if kind == "preempted" else kind)
        if not held or holder == target:
            return None
        return self._move(kind, self.random.choice(held), f"{holder}@chaos", target, queue)

    def _move(self, kind: Any, task_id: str, source: str, target: str, queue: str) -> Move:
        return Move(
            move_id=f"{kind}-{self.random.getrandbits(40)}",
            task_id=task_id,
            profile="p",
            kind="running" if kind == "preempted" else kind,
            preempt=kind == "preempted",
            source=source,
            target=f"{target}@chaos",
            target_queue=queue,
            reason="chaos",
            count=self.random.randint(1, 4),
            score=Score(cost=0.0, benefit=1.0),
            at=0.0,
        )
