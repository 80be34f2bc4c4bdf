"""FGD's measure of what is left free and of no use, and the choices that it leads to."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.decide.fragments import Mix, Room, best_fit, fragments, left_bytes
from balancer.decide.pull import Device, packed, ranked
from balancer.model import Footprint, LaneOffer, Order
from balancer.simulate.placement import allocated
from balancer.simulate.recorded import load_nodes

HALF: Mix = ((1.0, Footprint(share=0.5, cpu=2.0)),)


@pytest.mark.parametrize(("left", "cpu", "expected"), [
    ((1.0, 1.0), 4.0, 0.0),  # everything is of use
    ((1.0, 0.4), 4.0, 0.4),  # the second GPU is too full for half of one
    ((0.4, 0.4), 4.0, 0.8),  # none is of use
    ((1.0, 1.0), 1.0, 2.0),  # no processor is left to use them with
    ((0.4,), 4.0, 0.4),
    ((0.6,), 4.0, 0.0),
])
def test_what_is_of_no_use_to_half_a_gpu(left: tuple[float, ...], cpu: float, expected: float) -> None:
    assert fragments(Room(left=left, cpu=cpu), HALF) == pytest.approx(expected)


def test_a_mix_weighs_its_tasks() -> None:
    both: Mix = ((0.75, Footprint(share=0.5)), (0.25, Footprint(share=1.0, gpus=2)))
    # Half a GPU finds one that is free enough; two whole ones are not there at all.
    assert fragments(Room(left=(1.0, 0.4)), both) == pytest.approx(0.75 * 0.4 + 0.25 * 1.4)


def test_without_a_slot_all_that_is_free_is_of_no_use() -> None:
    assert fragments(Room(left=(0.75,), slots=0), HALF) == 0.75
    assert fragments(Room(left=(0.75,), slots=1), HALF) == 0.0


def test_a_task_goes_where_it_leaves_most_of_use() -> None:
    """A tenth more on the GPU that half a GPU does not fit anyway."""
    fit = best_fit(Room(left=(1.0, 0.4)), Footprint(share=0.3), HALF, 0.0)
    assert fit is not None
    assert fit.after.left == (1.0, 0.1)
    assert best_fit(Room(left=(0.2, 0.2)), Footprint(share=0.3), HALF, 0.0) is None


SHARES = st.sampled_from([0.1, 0.2, 0.3, 0.5, 0.9, 1.0])
MIXES = st.lists(st.tuples(st.integers(1, 9), SHARES), min_size=1, max_size=4).map(
    lambda rows: tuple((n / sum(m for m, _ in rows), Footprint(share=share)) for n, share in rows))


@given(left=st.lists(st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.8, 1.0]), min_size=1, max_size=3), mix=MIXES,
       share=SHARES)
def test_the_best_fit_is_what_trying_every_gpu_finds(left: list[float], mix: Mix, share: float) -> None:
    room, task = Room(left=tuple(left)), Footprint(share=share)
    tried = [fragments(room.after(task, (g,)), mix) for g in range(len(left)) if left[g] >= share]
    fit = best_fit(room, task, mix, fragments(room, mix))
    assert (fit is None) is not tried
    if fit is not None:
        assert fit.growth + fragments(room, mix) == pytest.approx(min(tried))


#: Queues by the share that their tasks take.
TAKES = {f"q{share}": Footprint(share=share) for share in (0.0, 0.1, 0.3, 0.5, 0.9, 1.0)}


def order(*groups: tuple[str, ...], usual: Mix = ()) -> Order:
    queues = [queue for group in groups for queue in group]
    offers = tuple(LaneOffer(queue=q, seconds=1.0, best_seconds=1.0, value=1.0, ratio=1.0) for q in queues)
    return Order(hardware_class="cuda", at=0.0, groups=groups, offers=offers, guarded=False, usual=usual)


#: Half of a device is free, for two tasks; the usual task asks for half of one, or for a whole one.
FREE = Device(room=Room(left=(0.5,), slots=2), takes=TAKES)
USUAL: Mix = ((0.5, Footprint(share=0.5)), (0.5, Footprint(share=1.0)))
WAITING, AGES = dict.fromkeys(TAKES, 5), {**dict.fromkeys(TAKES, 1.0), "q0.3": 99.0}


def test_of_lanes_of_one_price_the_one_that_fills_the_device_comes_first() -> None:
    made = order(("q0.3", "q0.5", "q0.9"), usual=USUAL)
    assert ranked(made, WAITING, AGES) == ["q0.3", "q0.5", "q0.9"], "by age where nothing is shared"
    assert ranked(made, WAITING, AGES, 1.0, FREE) == ["q0.5", "q0.3"]


def test_a_lane_that_is_worth_more_or_starves_goes_before_what_fits_better() -> None:
    made = order(("q0.3",), ("q0.5",), usual=USUAL)
    assert ranked(made, WAITING, AGES, 1.0, FREE) == ["q0.3", "q0.5"]


def test_lanes_that_waste_as_much_go_by_age() -> None:
    takes = {"old": Footprint(share=0.5), "new": Footprint(share=0.5)}
    made = order(("new", "old"), usual=USUAL)
    device = Device(room=FREE.room, takes=takes)
    assert ranked(made, {"old": 1, "new": 1}, {"old": 9.0, "new": 1.0}, 1.0, device) == ["old", "new"]


def test_an_order_that_tells_no_usual_tasks_is_followed_as_it_stands() -> None:
    assert ranked(order(("q0.3",), ("q0.5",)), WAITING, AGES, 1.0, FREE) == ["q0.3", "q0.5"]


@given(free=st.sampled_from([0.0, 0.2, 0.4, 0.5, 0.95, 1.0]), slots=st.integers(0, 4), mix=MIXES)
def test_nothing_is_listed_that_does_not_fit_and_the_first_wastes_least(free: float, slots: int,
                                                                        mix: Mix) -> None:
    room = Room(left=(free,), slots=slots)
    groups = packed([tuple(TAKES)], Device(room=room, takes=TAKES), mix)
    listed = [queue for group in groups for queue in group]
    assert set(listed) == {q for q, task in TAKES.items() if slots >= 1 and task.share <= free}
    wasted = [fragments(Room(left=(free - TAKES[q].share,), slots=slots - 1), mix) for q in listed]
    assert wasted == pytest.approx(sorted(wasted))


def test_pulling_by_the_measure_allocates_most_and_blind_placing_least() -> None:
    """A part of the cluster: what waits in lanes packs better than what must be placed as it comes."""
    nodes = load_nodes()[::40]
    shares = {policy: allocated(policy, 1, nodes) for policy in ("random", "best fit", "fgd", "pull")}
    assert max(shares.values()) == shares["pull"] >= 0.95
    assert shares["fgd"] > shares["random"]


@pytest.mark.parametrize(
    ("promised", "read", "left"),
    [((), None, 16.0), ((4, 4), None, 8.0), ((4, 4), 12.0, 8.0), ((4,), 3.0, 3.0), ((12, 8), None, 0.0),
     ((), 20.0, 16.0)],
)
def test_what_is_left_is_what_was_neither_promised_nor_taken(
    promised: tuple[int, ...], read: float | None, left: float
) -> None:
    assert left_bytes(16, promised, read) == left
