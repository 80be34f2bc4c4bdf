"""A balancer that dies between any two steps of its turn: what its successor makes of its moves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from balancer.adapters.in_memory import InMemoryClock, InMemoryLedger
from balancer.adapters.redis_connection import Connection
from balancer.loop import AdaptiveLoadBalancer
from balancer.model import HandedOver, HeldTask, Move, MoveKind, QueuedTask, RunStarted, Score, TaskProfile
from balancer.routing import direct_queue, lane_queue
from balancer.settings import parse
from balancer.standing import Ports
from tests.contract.worlds import RedisWorld, worker
from tests.unit.rig import Scripted
from tests.waiting import wait_until

LANE, FAST = lane_queue("train"), direct_queue("fast@h")
KINDS: tuple[MoveKind, ...] = ("queued", "reserved", "running")
TIMEOUT_S = 0.5

#: The steps of a turn that touch the world, in their order, and on which side of each it dies.
DEATHS = [
    ("observe", "before"),
    ("events", "after"),
    ("save_memory", "before"),
    ("save_memory", "after"),
    ("publish_orders", "after"),
    ("request", "before"),
    ("request", "after"),
    ("record", "before"),
]

#: From here on the moves are written down.
WRITTEN = DEATHS.index(("save_memory", "after"))


class DiedError(BaseException):
    """The process is gone."""


@dataclass(frozen=True, slots=True)
class Mortal:
    """A port whose user dies at one of its methods."""

    port: Any
    step: str
    side: str

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.port, name)
        if name != self.step:
            return method

        def die(*args: Any, **options: Any) -> None:
            if self.side == "after":
                method(*args, **options)
            raise DiedError

        return die


@pytest.fixture
def world(connection: Connection) -> RedisWorld:
    """`slow@h` runs one task and holds another, a third waits in the lane; `fast@h` is idle."""
    made, lane = RedisWorld(connection), LANE
    at = float(connection.client.time()[0])
    made.lane(LANE, TaskProfile(name="train", task="proj.train", checkpoints=True))
    held = HeldTask(task_id="reserved", profile="train", lane=lane)
    running = HeldTask(task_id="running", profile="train", lane=lane, started_at=at - 100, checkpoints=True)
    made.report(worker("slow@h", running=(running,), reserved=(held,), busy=1, slots=1))
    made.report(worker("fast@h", slots=9))
    made.put(QueuedTask(task_id="queued", queue=LANE, profile="train"))
    return made


def moves() -> tuple[Move, ...]:
    return tuple(
        Move(move_id=f"m-{kind}", task_id=kind, profile="train", kind=kind, target="fast@h",
             source=LANE if kind == "queued" else "slow@h", target_queue=FAST, reason="test",
             score=Score(cost=0.0, benefit=9.0, cost_s=0.1, benefit_s=60.0), at=0.0)
        for kind in KINDS
    )


def balancer(world: RedisWorld, holder: str, ledger: InMemoryLedger, suggested: tuple[Move, ...] = (),
             step: str = "", side: str = "") -> AdaptiveLoadBalancer:
    ports = Ports(store=Mortal(world.store, step, side), handover=Mortal(world.handover, step, side),
                  lease=world.lease(holder), ledger=Mortal(ledger, step, side), clock=InMemoryClock())
    settings = parse({"move_timeout": TIMEOUT_S, "handover_cost": 0, "max_simultaneous_migrations": 9})
    return AdaptiveLoadBalancer(ports, settings, Scripted(moves=suggested))


def asked(world: RedisWorld) -> set[str]:
    """Ids of the tasks of which something was asked."""
    found = {arguments["task_id"] for _, arguments in world.commands}
    return found | ({"running"} if world.want("running") else set())


def places(world: RedisWorld) -> int:
    """In how many queues the queued message lies."""
    return sum(world.contents(queue).count("queued") for queue in (LANE, FAST))


@pytest.mark.parametrize("answered", [True, False], ids=["answered", "silent"])
@pytest.mark.parametrize(("step", "side"), DEATHS, ids=[f"{side}-{step}" for step, side in DEATHS])
def test_a_successor_completes_or_gives_up_each_move(
    world: RedisWorld, step: str, side: str, answered: bool
) -> None:
    first = balancer(world, "first", InMemoryLedger(), moves(), step, side)
    with pytest.raises(DiedError):
        first.turn()
    world.lapse()
    was_asked = asked(world)
    written = DEATHS.index((step, side)) >= WRITTEN
    if not written:
        assert (was_asked, places(world)) == (set(), 1)
    if answered:
        for task_id in sorted(was_asked):
            told = HandedOver(at=0.0, move_id=f"m-{task_id}", task_id=task_id, worker="slow@h", queue=FAST)
            world.tell(told)
            world.tell(RunStarted(at=0.0, task_id=task_id, profile="train", worker="fast@h",
                                  hardware_class="cpu-test", epoch=1))
    ledger = InMemoryLedger()
    second = balancer(world, "second", ledger)

    def ended() -> bool:
        return second.turn() and not second.standing.in_flight

    wait_until(ended, "no move is under way any more")
    states = {row["task_id"]: row["state"] for row in ledger.tables.get("moves", ())}
    assert set(states) == (set(KINDS) if written else set())
    for task_id, state in states.items():
        if task_id == "queued":
            continue
        assert state == ("completed" if answered and task_id in was_asked else "stale")
    # What was given up is wished for no more, and the message lies in one place.
    assert (world.want("running") is None) or (answered and "running" in was_asked)
    assert places(world) == 1
    # The tasks are free to move again.
    assert second.standing.state.migrations == ()
