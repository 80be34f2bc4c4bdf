"""A balancer over the in-memory world, with a strategy that says what it is told to say."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from balancer.adapters.in_memory import (
    InMemoryClock,
    InMemoryFleet,
    InMemoryFleetStore,
    InMemoryHandOver,
    InMemoryLease,
    InMemoryLedger,
    LeaseBoard,
)
from balancer.decide.situation import Situation, Strategy, Suggestions
from balancer.loop import AdaptiveLoadBalancer
from balancer.model import Move, MoveKind, Order, RunFinished, RunStarted, Score
from balancer.routing import direct_queue
from balancer.settings import parse
from balancer.standing import Ports
from tests.unit.fleets import held, lane, worker

SLOW, FAST = "cpu-0", "cuda-V100-0"


@dataclass(slots=True)
class Scripted:
    """A strategy whose next suggestions are `moves`; it orders every lane for every class."""

    moves: tuple[Move, ...] = ()
    name: str = "scripted"
    moves_thresholds: bool = True
    foresees: bool = True
    eager: bool = False
    breaks: bool = False

    def orders(self, situation: Situation) -> tuple[Order, ...]:
        if self.breaks:
            raise RuntimeError("the strategy is broken")
        lanes = tuple(each.queue for each in situation.fleet.lanes)
        return tuple(Order(hardware_class=name, at=situation.fleet.at, groups=(lanes,))
                     for name in situation.fleet.classes)

    def suggest(self, situation: Situation) -> Suggestions:
        suggested, self.moves = self.moves, ()
        return Suggestions(moves=suggested)


@dataclass(slots=True, kw_only=True)
class Rig:
    """The world, its ports and the balancer over them; `add` makes a second one over the same world."""

    world: InMemoryFleet
    store: InMemoryFleetStore
    handover: InMemoryHandOver
    ledger: InMemoryLedger
    clock: InMemoryClock
    board: LeaseBoard
    strategy: Strategy
    settings: Mapping[str, Any] = field(default_factory=dict)

    def add(self, holder: str, store: Any = None, handover: Any = None) -> AdaptiveLoadBalancer:
        lease = InMemoryLease(holder, board=self.board, now=lambda: self.world.now)
        ports = Ports(store=store or self.store, handover=handover or self.handover, lease=lease,
                      ledger=self.ledger, clock=self.clock)
        return AdaptiveLoadBalancer(ports, parse(self.settings), self.strategy)

    def tick(self, seconds: float = 1.0) -> None:
        """Time passes, and the workers report."""
        self.world.now += seconds
        for one in list(self.world.reports.values()):
            self.world.report(one)

    def rows(self, table: str) -> list[Mapping[str, Any]]:
        return self.ledger.tables.get(table, [])


def rig(moves: Sequence[Move] = (), *, on_wait: Callable[[float], None] | None = None,
        strategy: Strategy | None = None, **settings: Any) -> Rig:
    """A slow worker that runs `t1` and has `t2` reserved, a fast one that is idle, and one lane."""
    world = InMemoryFleet()
    store = InMemoryFleetStore(world)
    made = Rig(world=world, store=store, handover=InMemoryHandOver(world), ledger=InMemoryLedger(),
               clock=InMemoryClock(world.now, on_wait), board=world.board,
               strategy=strategy or Scripted(moves=tuple(moves)), settings=settings)
    resnet = lane("resnet", 0)
    world.lanes[resnet.queue] = resnet.profile
    world.report(worker("cpu", load=0.99, slots=2, running=(held("t1", "resnet", ran_s=100.0),),
                        reserved=(held("t2", "resnet"),)))
    world.report(worker("cuda-V100", load=0.01, slots=2))
    return made


def a_move(task_id: str = "t1", kind: MoveKind = "running", at: float = 1_000.0, *, source: str = SLOW,
           target: str = FAST, count: int = 1) -> Move:
    return Move(move_id=f"{task_id or 'any'}@{at:.3f}", task_id=task_id, profile="resnet", kind=kind,
                source=source, target=target, target_queue=direct_queue(target), reason="rescue",
                score=Score(cost=1, benefit=5, cost_s=0.1, benefit_s=50.0), at=at, count=count)


def began(rig: Rig, worker_name: str, task_id: str = "t1") -> RunStarted:
    return RunStarted(at=rig.world.now, task_id=task_id, profile="resnet", worker=worker_name,
                      hardware_class="cuda-V100", epoch=1, queue=direct_queue(worker_name))


def finished(rig: Rig, worker_name: str, task_id: str = "t1", outcome: str = "success") -> RunFinished:
    return RunFinished(at=rig.world.now, task_id=task_id, profile="resnet", worker=worker_name,
                       hardware_class="cpu", epoch=0, outcome=outcome, duration_s=10.0)
