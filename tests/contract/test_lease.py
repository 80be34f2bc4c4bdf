"""What every `Lease` does, over the twin and over Redis."""

from __future__ import annotations

from tests.contract.worlds import World


def test_one_holds_it_and_the_other_waits(world: World) -> None:
    first, second = world.lease("beat1"), world.lease("beat2")
    assert first.holder() is None
    fence = first.acquire()
    assert fence is not None
    assert second.acquire() is None
    assert (second.holder() or "").startswith("beat1")


def test_renewing_keeps_the_fence(world: World) -> None:
    lease = world.lease("beat1")
    assert lease.acquire() == lease.acquire() is not None


def test_each_new_holder_has_a_greater_fence(world: World) -> None:
    first, second = world.lease("beat1"), world.lease("beat2")
    fences = [first.acquire()]
    first.release()
    fences.append(second.acquire())
    world.lapse()
    fences.append(first.acquire())
    known = [fence for fence in fences if fence is not None]
    assert len(known) == 3
    assert known == sorted(set(known))


def test_only_its_own_lease_is_released(world: World) -> None:
    first, second = world.lease("beat1"), world.lease("beat2")
    first.acquire()
    second.release()
    assert (first.holder() or "").startswith("beat1")
    assert second.acquire() is None


def test_a_holder_that_overslept_does_not_disturb_the_next(world: World) -> None:
    first, second = world.lease("beat1"), world.lease("beat2")
    first.acquire()
    world.lapse()
    second.acquire()
    first.release()
    assert first.acquire() is None
    assert (first.holder() or "").startswith("beat2")


def test_a_lapsed_holder_cannot_save_once_another_has_taken_the_lease(world: World) -> None:
    first, second = world.lease("beat1"), world.lease("beat2")
    old = first.acquire()
    world.lapse()
    new = second.acquire()
    assert old is not None
    assert new is not None
    assert not world.store.save_memory({"late": True}, fence=old)
    assert world.store.save_memory({"new": True}, fence=new)
