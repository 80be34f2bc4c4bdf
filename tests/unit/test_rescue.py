"""Which running tasks move to which idle slot, which do not and why; and stranded messages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.decide.estimate import Estimates
from balancer.decide.history import MoveHistory, ProfileMoves, TaskMoves
from balancer.decide.plan import admit
from balancer.decide.situation import Situation, Suggestions
from balancer.decide.slots import left_s
from balancer.decide.strategies import by_name
from balancer.model import Fleet, HeldTask, Move, QueuedTask, Reading
from balancer.routing import class_queue, direct_queue, lane_queue
from balancer.settings import Settings
from tests.unit.fleets import NOW, fleet, held, known, lane, situation, with_running, worker

V100, K80 = "cuda-V100", "cuda-K80"
FAST, FAST_1, SLOW, SLOW_1 = f"{V100}-0", f"{V100}-1", f"{K80}-0", f"{K80}-1"

#: Seconds for size 1; sizes below are 100.
TABLE = {"a": {V100: 1.0, K80: 4.0}}


def one_on_k80(*tasks: HeldTask, workers: str = f"{V100} {K80}", lanes: str = "a:0") -> Fleet:
    return with_running(fleet(workers, lanes=lanes), SLOW, *tasks)


def task(task_id: str = "t", *, ran_s: float | None = 50.0, ago_s: float | None = 1.0, size: float = 100.0,
         state_bytes: int | None = None) -> HeldTask:
    return held(task_id, "a", ran_s=ran_s, checkpoint_ago_s=ago_s, size=size, state_bytes=state_bytes)


def checkpointing(state: Fleet, checkpoints: bool = True) -> Fleet:
    lanes = (replace(x, profile=replace(x.profile, checkpoints=checkpoints)) for x in state.lanes)
    return replace(state, lanes=tuple(lanes))


def asked(state: Fleet, *, estimates: Estimates | None = None, history: MoveHistory | None = None,
          in_flight: tuple[Move, ...] = (), **options: object) -> tuple[Situation, Suggestions]:
    settings = Settings(**options)  # type: ignore[arg-type]
    made = situation(checkpointing(state), estimates or known(TABLE), settings=settings, history=history)
    given_ = replace(made, in_flight=in_flight)
    return given_, by_name("priced").suggest(given_)


def pairs(suggestions: Suggestions) -> list[tuple[str, str]]:
    return [(move.task_id, move.target) for move in suggestions.moves]


def reasons(suggestions: Suggestions) -> Mapping[str, str]:
    return {no.task_id: no.reason for no in suggestions.rejected}


def test_a_task_on_a_slow_worker_moves_to_an_idle_fast_one() -> None:
    """350 s remain on the K80; on the V100 87.5 s, and one second of work again (0.25 s there)."""
    given_, found = asked(one_on_k80(task()))
    (move,) = found.moves
    assert (move.kind, move.source, move.target) == ("running", SLOW, FAST)
    assert move.target_queue == direct_queue(FAST)
    assert move.score.benefit_s == pytest.approx(350 - 87.75)
    assert move.score.cost_s == pytest.approx(0.1)
    assert move.score.parts["repeated_s"] == pytest.approx(1.0)
    assert 0 < move.score.cost <= 10
    assert move.score.net_benefit > 0
    assert move.move_id == asked(one_on_k80(task()))[1].moves[0].move_id
    assert admit(found, given_)[0] == found.moves


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (one_on_k80(task(ran_s=399.8, ago_s=0.0)), "gain too small"),
        (one_on_k80(task(ago_s=None, ran_s=300.0)), "gain too small"),
        (one_on_k80(task(state_bytes=20_000_000_000)), "gain too small"),
        (one_on_k80(task(ran_s=2.0)), "young"),
        (one_on_k80(task(), workers=f"rocm {K80}", lanes="a:0@cuda"), "no idle slot fits"),
    ],
)
def test_a_task_stays_with_a_reason(state: Fleet, reason: str) -> None:
    found = asked(state)[1]
    assert found.moves == ()
    assert reasons(found) == {"t": reason}


def test_a_task_that_does_not_checkpoint_stays() -> None:
    state = one_on_k80(replace(task(), checkpoints=False))
    found = by_name("priced").suggest(situation(checkpointing(state, False), known(TABLE)))
    assert reasons(found) == {"t": "not migratable"}


def test_unsaved_work_is_repeated_where_it_goes() -> None:
    saved, unsaved = (asked(one_on_k80(task(ran_s=100.0, ago_s=ago)))[1].moves[0] for ago in (0.0, 100.0))
    assert (saved.score.benefit_s or 0) - (unsaved.score.benefit_s or 0) == pytest.approx(25.0)


@pytest.mark.parametrize(
    ("lanes", "workers", "moves"),
    [
        ("a:0", f"{V100} {K80}", True),  # an idle V100 with nothing to do
        ("a:1", f"{V100} {K80}", False),  # it has a task of its own to take
        ("a:0", f"{K80}*2", False),  # the idle one is no better
    ],
)
def test_only_slots_with_nothing_better_are_given(lanes: str, workers: str, moves: bool) -> None:
    assert bool(asked(one_on_k80(task(), workers=workers, lanes=lanes))[1].moves) is moves


def test_slots_with_something_on_its_way_or_that_ail_are_not_given() -> None:
    state = one_on_k80(task())
    waiting = replace(state, queues={direct_queue(FAST): 1})
    shared = replace(state, queues={class_queue(V100): 1})
    ailing = replace(state, workers=tuple(replace(w, health="degraded") if w.name == FAST else w
                                          for w in state.workers))
    for other in (waiting, shared, ailing):
        assert asked(other)[1] == Suggestions()
    hot = replace(state, workers=tuple(replace(w, reading=Reading(temperature_celsius=99.0)) if w.name == FAST
                                       else w for w in state.workers))
    assert reasons(asked(hot)[1]) == {"t": "no idle slot fits"}


@pytest.mark.parametrize(("came_ago_s", "moves"), [(0.3, False), (0.9, True)])
def test_a_slot_that_a_moved_task_took_since_the_report_is_not_idle(came_ago_s: float, moves: bool) -> None:
    state = one_on_k80(task())
    state = replace(state, workers=tuple(replace(w, at=NOW - 0.8) for w in state.workers))
    past = TaskMoves(count=1, last_at=NOW - came_ago_s, left=SLOW_1, reached=FAST)
    found = asked(state, history=MoveHistory(tasks={"other": past}))[1]
    assert bool(found.moves) is moves


def test_two_tasks_never_share_a_slot_and_the_larger_gain_wins() -> None:
    short = task("short", size=60.0)
    state = with_running(one_on_k80(short, workers=f"{V100} {K80}*2"), SLOW_1, task("long"))
    found = asked(state)[1]
    assert pairs(found) == [("long", FAST)]
    assert reasons(found) == {"short": "slot taken"}
    two = with_running(one_on_k80(short, workers=f"{V100}*2 {K80}*2"), SLOW_1, task("long"))
    assert sorted(pairs(asked(two)[1])) == [("long", FAST), ("short", FAST_1)]


def test_a_slowed_worker_loses_its_task_to_an_equal_one() -> None:
    """Two V100s; the busy one runs at a quarter of the speed."""
    state = with_running(fleet(f"{V100}*2", lanes="a:0"), FAST, task(ran_s=100.0, ago_s=0.5))
    assert asked(state)[1].moves == ()
    slowed = replace(known(TABLE), worker_speed={FAST: 0.25}, worker_class={FAST: V100})
    assert pairs(asked(state, estimates=slowed)[1]) == [("t", FAST_1)]


def test_a_task_that_tells_its_progress_shows_a_slow_down_before_any_run_has_ended() -> None:
    told = replace(task(ran_s=100.0, ago_s=0.5), share_done=0.25)
    state = with_running(fleet(f"{V100}*2", lanes="a:0"), FAST, told)
    found = asked(state)[1]
    assert pairs(found) == [("t", FAST_1)]
    assert found.moves[0].score.parts["remaining_s"] > 150


def test_progress_made_before_this_run_is_not_taken_for_its_pace() -> None:
    resumed = replace(task(ran_s=10.0, ago_s=0.0), share_before=0.5, share_done=0.6)
    unknown = replace(task(ran_s=10.0, ago_s=0.0), epoch=1, share_done=0.6)
    assert left_s(resumed, NOW, 100.0) == pytest.approx(40.0)
    assert left_s(unknown, NOW, 100.0) == pytest.approx(40.0)


def test_a_task_past_its_time_still_needs_some() -> None:
    assert left_s(task(ran_s=500.0, ago_s=None), NOW, 100.0) == pytest.approx(200.0)


def history(**tasks: TaskMoves) -> MoveHistory:
    return MoveHistory(tasks=tasks)


@pytest.mark.parametrize(
    ("past", "reason"),
    [
        (TaskMoves(count=1, last_at=NOW - 29, left=FAST_1), "cooldown"),
        (TaskMoves(count=1, last_at=NOW - 31, left=FAST_1), None),
        (TaskMoves(count=2, last_at=NOW - 59, left=FAST_1), "cooldown"),
        (TaskMoves(count=1, last_at=NOW - 31, left=FAST), "moved back"),
    ],
)
def test_a_task_rests_and_does_not_go_back(past: TaskMoves, reason: str | None) -> None:
    found = asked(one_on_k80(task()), history=history(t=past))[1]
    assert reasons(found).get("t") == reason
    assert bool(found.moves) is (reason is None)


def test_a_task_may_go_back_when_the_world_has_changed() -> None:
    past = history(t=TaskMoves(count=1, last_at=NOW - 100, left=FAST))
    state = one_on_k80(task())
    ailing = tuple(replace(w, health="degraded") if w.name == SLOW else w for w in state.workers)
    assert pairs(asked(replace(state, workers=ailing), history=past)[1]) == [("t", FAST)]


def test_what_hand_overs_cost_is_learned() -> None:
    dear = MoveHistory(profiles={"a": ProfileMoves(count=9, cost_s=90.0)})
    found = asked(one_on_k80(task()), history=dear)[1]
    assert reasons(found) == {"t": "gain too small"}
    assert found.rejected[0].score is not None
    assert found.rejected[0].score.cost_s == pytest.approx(90.0)


def test_moves_in_flight_hold_their_task_and_their_slot() -> None:
    state = with_running(one_on_k80(task(), workers=f"{V100} {K80}*2"), SLOW_1, task("u"))
    first = asked(state)[1].moves[0]
    found = asked(state, in_flight=(first,))[1]
    assert found.moves == ()
    two = with_running(one_on_k80(task(), workers=f"{V100}*2 {K80}*2"), SLOW_1, task("u"))
    again = asked(two, in_flight=(first,))[1]
    assert reasons(again) == {first.task_id: "in flight"}
    assert [target for _, target in pairs(again)] == [FAST_1]


def test_a_task_of_a_queue_of_the_operators_moves_among_those_that_serve_it() -> None:
    state = one_on_k80(replace(task(), home="payments"), workers=f"{V100}*2 {K80}")
    assert reasons(asked(state)[1]) == {"t": "no idle slot fits"}
    assert pairs(asked(serving(state, FAST_1))[1]) == [("t", FAST_1)]


def serving(state: Fleet, name: str) -> Fleet:
    """The same fleet, in which this worker serves the queue of the operator's own."""
    return replace(state, workers=tuple(
        replace(w, queues=("payments",)) if w.name == name else w for w in state.workers))


def queued(task_id: str, queue: str, size: float = 10.0, home: str = "") -> QueuedTask:
    return QueuedTask(task_id=task_id, queue=queue, profile="a", size=size, home=home)


def test_a_message_stranded_behind_a_busy_worker_goes_to_an_idle_one() -> None:
    state = replace(one_on_k80(task(ran_s=1.0)), queued=(queued("q", direct_queue(SLOW)),),
                    queues={direct_queue(SLOW): 1})
    given_, found = asked(state)
    (move,) = found.moves
    assert (move.kind, move.source, move.target) == ("queued", direct_queue(SLOW), FAST)
    assert move.target_queue == direct_queue(FAST)
    assert reasons(found) == {"t": "young"} or "t" not in reasons(found)
    assert [m.task_id for m in admit(found, given_)[0]] == ["q"]


def test_without_an_idle_worker_it_goes_back_to_its_lane() -> None:
    state = replace(one_on_k80(task(ran_s=1.0)), queued=(queued("q", direct_queue(SLOW)),))
    state = with_running(state, FAST, task("short", size=3.0, ran_s=1.0))
    given_, found = asked(state)
    (move,) = found.moves
    assert (move.target, move.target_queue) == (lane_queue("a"), lane_queue("a"))
    assert [m.task_id for m in admit(found, given_)[0]] == ["q"]


def test_stranded_messages_of_a_queue_of_the_operators_stay_with_those_that_serve_it() -> None:
    state = replace(one_on_k80(task(ran_s=1.0), workers=f"{V100}*2 {K80}"),
                    queued=(queued("q", direct_queue(SLOW), home="payments"),))
    given_, found = asked(state)
    (move,) = found.moves
    assert (move.target, move.target_queue) == ("payments", "payments")
    assert [m.task_id for m in admit(found, given_)[0]] == ["q"]
    assert pairs(asked(serving(state, FAST_1))[1]) == [("q", FAST_1)]


def test_a_message_that_its_worker_takes_next_stays() -> None:
    state = replace(fleet(f"{V100}*2", lanes="a:0"), queued=(queued("q", direct_queue(FAST)),))
    found = asked(state)[1]
    assert found.moves == ()
    assert reasons(found) == {"q": "gain too small"}


def test_messages_of_a_draining_worker_leave() -> None:
    state = fleet(f"{V100} {K80}", lanes="a:0")
    draining = tuple(replace(w, health="draining") if w.name == FAST else w for w in state.workers)
    state = replace(state, workers=draining, queued=(queued("q", direct_queue(FAST)),))
    assert pairs(asked(state)[1]) == [("q", SLOW)]


@given(
    st.lists(
        st.tuples(st.sampled_from([V100, K80]), st.integers(1, 3), st.integers(0, 3)), min_size=1, max_size=8
    ),
    st.lists(st.floats(0.1, 500.0), min_size=24, max_size=24),
)
def test_whatever_runs_no_slot_is_given_twice_and_every_move_pays(
    plan: list[tuple[str, int, int]], sizes: list[float]
) -> None:
    workers = []
    for number, (hardware_class, slots, busy) in enumerate(plan):
        running = tuple(task(f"t{number}-{i}", size=sizes[number * 3 + i]) for i in range(min(busy, slots)))
        workers.append(worker(hardware_class, number, slots=slots, running=running))
    state = replace(fleet(""), workers=tuple(workers), lanes=(lane("a"),))
    found = asked(state)[1]
    targets = [target for _, target in pairs(found)]
    assert all(targets.count(w.name) <= w.idle_slots for w in workers)
    ids = [task_id for task_id, _ in pairs(found)] + list(reasons(found))
    assert len(ids) == len(set(ids))
    for move in found.moves:
        gain, cost = move.score.benefit_s or 0.0, move.score.cost_s or 0.0
        assert gain - cost > 3 * cost
        assert gain - cost > 0.25 * move.score.parts["remaining_s"]
        assert move.score.net_benefit > 0
