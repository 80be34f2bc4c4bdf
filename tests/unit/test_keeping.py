"""What a balancer leaves for the next one: whole after a whole tick, little in between, nothing lost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from balancer import standing, state
from balancer.decide.fairness import Account
from balancer.decide.situation import Situation
from balancer.errors import StoreError
from balancer.loop import AdaptiveLoadBalancer
from balancer.model import HandedOver, Order
from balancer.settings import Settings
from tests.unit.rig import SLOW, Rig, Scripted, a_move, finished, rig


def hears(made: Rig, balancer: AdaptiveLoadBalancer, task_id: str, *, whole: bool) -> None:
    """A second passes, a task finishes, and the balancer takes a turn."""
    made.tick()
    made.store.tell(finished(made, SLOW, task_id))
    assert balancer.turn(whole=whole)


def learned(balancer: AdaptiveLoadBalancer) -> int:
    return balancer.standing.state.memory.estimates.pairs["resnet", "cpu"].count


def test_the_whole_is_written_after_a_whole_tick_and_little_in_between() -> None:
    made = rig()
    balancer = made.add("a")
    balancer.turn(whole=False)
    assert made.store.since is None, "a holder's first turn leaves the whole"
    hears(made, balancer, "x", whole=False)
    assert made.store.since is not None
    assert set(made.store.since) == {"version", "cursor", "history", "migrations", "in_effect"}
    balancer.turn()
    assert made.store.since is None


def test_the_next_holder_learns_again_what_was_not_written_down() -> None:
    made = rig()
    first = made.add("first")
    hears(made, first, "x1", whole=True)
    for task_id in ("x2", "x3"):
        hears(made, first, task_id, whole=False)
    assert learned(first) == 3
    first.ports.lease.release()
    second = made.add("second")
    hears(made, second, "x4", whole=False)
    assert learned(second) == 4
    assert second.standing.state.memory.cursor == first.standing.state.memory.cursor.replace("3", "4")


def test_an_onlooker_sees_what_was_learned_since() -> None:
    made = rig()
    works = made.add("works")
    works.turn()
    hears(made, works, "x", whole=False)
    looks = made.add("looks")
    looks.look()
    assert learned(looks) == 1


def test_the_next_holder_knows_how_far_moves_had_come_between_two_ticks() -> None:
    made = rig([a_move()])
    first = made.add("first")
    first.turn()
    made.tick()
    move = a_move()
    made.store.tell(HandedOver(at=made.world.now, move_id=move.move_id, task_id="t1", worker=SLOW,
                               queue=move.target_queue))
    first.turn(whole=False)
    first.ports.lease.release()
    second = made.add("second")
    second.turn(whole=False)
    assert [m.state for m in second.standing.state.migrations] == ["handed_over"]


def test_the_whole_is_written_when_much_would_have_to_be_learned_again(
        monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standing, "RELEARNED_MOST", 1)
    made = rig()
    balancer = made.add("a")
    balancer.turn()
    kept = []
    for task_id in ("x1", "x2", "x3"):
        hears(made, balancer, task_id, whole=False)
        kept.append(made.store.since is None)
    assert kept == [False, True, False]


def test_what_came_since_alone_says_what_it_says() -> None:
    made = rig([a_move()])
    balancer = made.add("a")
    balancer.turn()
    alone = {"since": state.since_document(balancer.standing.state)}
    found = state.from_document(alone, Settings())
    assert found.migrations == balancer.standing.state.migrations
    assert found.memory.loads == ()


def test_what_groups_had_is_kept_and_told_between_whole_ticks() -> None:
    made = rig()
    balancer = made.add("a")
    balancer.turn()
    now, account = balancer.standing, Account(at=1.0, ahead_s={"gold": 2.54, "": 0.0})
    now = replace(now, state=replace(now.state, memory=replace(now.state.memory, account=account)))
    found = state.from_document({"since": state.since_document(now.state)}, Settings())
    assert found.memory.account == account
    told = standing.statistics(now, Settings(), balancer.strategy, None, None)
    assert told["groups"] == {"gold": 2.5, "": 0.0}
    whole = {**state.to_document(now.state), "since": state.since_document(balancer.standing.state)}
    assert state.from_document(whole, Settings()).memory.account is None


@pytest.mark.parametrize(("since", "reason"), [
    ([], "since: an object was expected"),
    ({"version": 9}, "version 9"),
    ({"version": 1, "cursor": "", "migrations": []}, "since.history"),
    ({"version": 1, "history": {}, "migrations": []}, "since.cursor"),
    ({"version": 1, "cursor": "", "history": {}, "migrations": [{}]}, "migrations"),
    ({"version": 1, "cursor": "", "history": {}, "migrations": [], "account": 7}, "since.account"),
])
def test_what_came_since_is_read_strictly(since: object, reason: str) -> None:
    with pytest.raises(StoreError) as refused:
        state.from_document({"since": since}, Settings())
    assert reason in str(refused.value)


class Slow(Scripted):
    """A strategy that takes longer than the lease lasts; `meanwhile` happens under it, once."""

    meanwhile: Callable[[], object] = staticmethod(lambda: None)

    def orders(self, situation: Situation) -> tuple[Order, ...]:
        happens, self.meanwhile = self.meanwhile, staticmethod(lambda: None)
        happens()
        return super().orders(situation)


@pytest.mark.parametrize("whole", [True, False])
def test_a_turn_whose_lease_another_took_meanwhile_asks_for_nothing_and_writes_nothing(whole: bool) -> None:
    strategy = Slow(moves=(a_move(),))
    made = rig(strategy=strategy)
    slow, rival = made.add("slow"), made.add("rival")

    def lapses_and_is_taken() -> None:
        made.board.until = float("-inf")
        assert rival.ports.lease.acquire() is not None

    strategy.meanwhile = lapses_and_is_taken
    assert slow.turn(whole=whole) is False
    assert (made.handover.requested, made.store.orders, made.store.memory) == ([], {}, None)
    assert slow.turn() is False, "and it waits from now on"
    assert rival.turn() is True


def test_a_turn_whose_lease_lapsed_and_nobody_took_goes_on() -> None:
    strategy = Slow(moves=(a_move(),))
    made = rig(strategy=strategy)
    strategy.meanwhile = lambda: setattr(made.board, "until", float("-inf"))
    assert made.add("slow").turn() is True
    assert made.handover.requested == [a_move()]
