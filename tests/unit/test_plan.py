"""The choke point: every limit, every reason, and that nothing ever passes a limit."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.decide.history import MoveHistory, TaskMoves
from balancer.decide.plan import MOVES_A_WORKER, admit, move_id, started_at
from balancer.decide.situation import Situation, Suggestions
from balancer.model import Fleet, Move, MoveKind, Needs, QueuedTask, Reading, Rejected, Score, Worker
from balancer.routing import class_queue, direct_queue, lane_queue
from balancer.settings import Settings
from tests.unit.fleets import NOW, held, lane, situation, worker


def busy(
    number: int, *tasks: str, slots: int = 1, reserved: tuple[str, ...] = (), load: float = 0.95
) -> Worker:
    return worker(
        "cpu", number, load=load, slots=slots, running=tuple(held(t, "p", ran_s=5) for t in tasks),
        reserved=tuple(held(t, "p") for t in reserved),
    )


def idle(number: int, slots: int = 1) -> Worker:
    return worker("cpu", number, load=0.05, slots=slots)


def there(*workers: Worker, settings: Settings | None = None, **changes: object) -> Situation:
    gpu_only = lane("gpu-only", needs=Needs(hardware=("cuda",)))
    fleet = Fleet(at=NOW, workers=workers, lanes=(lane("p"), gpu_only))
    return replace(situation(fleet, settings=settings), **changes)  # type: ignore[arg-type]


def move(
    task: str, source: str = "cpu-0", target: str = "cpu-1", *, kind: MoveKind = "running", net: float = 1.0,
    profile: str = "p", count: int = 1, gain_s: float | None = None,
) -> Move:
    return Move(
        move_id=move_id(task, NOW), task_id=task, profile=profile, kind=kind, source=source, target=target,
        target_queue=direct_queue(target), reason="", score=Score(cost=1, benefit=1 + net, benefit_s=gain_s),
        at=NOW, count=count,
    )


def plan(now: Situation, *moves: Move, **wishes: object) -> tuple[list[str], list[tuple[str, str]]]:
    """Ids of the admitted tasks in order, and (id, reason) of the refused."""
    made, refused = admit(Suggestions(moves=moves, **wishes), now)  # type: ignore[arg-type]
    return [m.task_id for m in made], [(r.task_id, r.reason) for r in refused]


def reason(now: Situation, suggested: Move, **wishes: object) -> str | None:
    made, refused = plan(now, suggested, **wishes)
    assert len(made) + len(refused) == 1
    return refused[0][1] if refused else None


def test_a_good_move_passes() -> None:
    assert reason(there(busy(0, "t"), idle(1)), move("t")) is None


def test_every_reason_has_a_sentence_and_the_score() -> None:
    suggested = move("t", net=-0.5)
    _, (refusal,) = admit(Suggestions(moves=(suggested,)), there(busy(0, "t"), idle(1)))
    assert refusal == Rejected(
        task_id="t", profile="p", kind="running", source="cpu-0", target="cpu-1", reason="no net benefit",
        detail="benefit 0.50 does not exceed cost 1.00", score=suggested.score,
    )


@pytest.mark.parametrize(
    ("suggested", "why"),
    [
        (move("t", target="cpu-9"), "target gone"),
        (move("t", target="cpu-0"), "same place"),
        (move("t", source="cpu-9"), "source gone"),
        (move("other"), "not there"),
        (move("t", kind="reserved"), "not there"),  # it runs already
        (move("t", profile="strange"), "unknown profile"),
        (move("t", profile="gpu-only"), "target unfit"),
        (move("t", net=0.0), "no net benefit"),
        (move("t", net=float("nan")), "no net benefit"),
    ],
)
def test_refusals(suggested: Move, why: str) -> None:
    assert reason(there(busy(0, "t"), idle(1)), suggested) == why


@pytest.mark.parametrize("health", ["degraded", "draining"])
def test_no_move_to_a_worker_that_ails(health: str) -> None:
    assert reason(there(busy(0, "t"), replace(idle(1), health=health)), move("t")) == "target not healthy"


def test_no_move_to_a_hot_worker() -> None:
    hot = replace(idle(1), reading=Reading(cpu=0.05, temperature_celsius=97.0))
    assert reason(there(busy(0, "t"), hot), move("t")) == "target struck out"


def test_a_task_of_a_queue_of_the_operators_stays_with_those_that_serve_it() -> None:
    mine = replace(busy(0), running=(replace(held("t", "p", ran_s=5), home="payments"),), busy=1)
    assert reason(there(mine, idle(1)), move("t")) == "target unfit"
    assert reason(there(mine, replace(idle(1), queues=("payments",))), move("t")) is None
    queue = direct_queue("cpu-9")
    now = there(idle(1))
    waits = QueuedTask(task_id="t", queue=queue, profile="p", home="payments")
    now = replace(now, fleet=replace(now.fleet, queued=(waits,)))
    back = replace(move("t", queue, "payments", kind="queued"), target_queue="payments")
    assert reason(now, move("t", queue, kind="queued")) == "target unfit"
    assert reason(now, back) is None


def test_a_running_task_without_checkpoints_stays() -> None:
    stays = replace(busy(0), running=(replace(held("t", "p", ran_s=5), checkpoints=False),), busy=1)
    now = there(stays, idle(1))
    plain = replace(now.fleet, lanes=(lane("p", checkpoints=False),))
    assert reason(replace(now, fleet=plain), move("t")) == "not migratable"
    assert reason(now, move("t")) is None  # its profile says that it checkpoints


def test_switch_task_migration() -> None:
    off = there(busy(0, "t"), idle(1), settings=Settings(enable_task_migration=False))
    assert plan(off, move("t")) == ([], [("t", "migration off")])


def test_switch_cost_benefit_analysis() -> None:
    now = there(busy(0, "a", "b", slots=2), idle(1), idle(2))
    moves = (move("a", net=-1.0), move("b", target="cpu-2", net=5.0))
    assert plan(now, *moves)[0] == ["b"]
    off = replace(now, settings=Settings(enable_cost_benefit_analysis=False))
    assert plan(off, *moves)[0] == ["a", "b"]  # in the strategy's own order, whatever the net benefit
    assert plan(now, *moves, weighed=False)[0] == ["a", "b"]


def test_highest_net_benefit_first() -> None:
    tasks = [f"t{i}" for i in range(4)]
    now = there(*(busy(i, t) for i, t in enumerate(tasks)), *(idle(i) for i in range(4, 8)))
    moves = [move(t, f"cpu-{i}", f"cpu-{i + 4}", net=(1, 4, 2, 3)[i]) for i, t in enumerate(tasks)]
    made, refused = plan(now, *moves)
    assert made == ["t1", "t3"]
    assert refused == [("t2", "too many at once"), ("t0", "too many at once")]


def test_in_flight_running_moves_count() -> None:
    workers = [busy(0, "a"), busy(1, "b"), busy(2, "c"), idle(3), idle(4), idle(5)]
    on_its_way = move("c", "cpu-2", "cpu-5")
    now = there(*workers, in_flight=(on_its_way,))
    made, refused = plan(now, move("a", "cpu-0", "cpu-3"), move("b", "cpu-1", "cpu-4"), on_its_way)
    assert made == ["a"]
    assert sorted(refused) == [("b", "too many at once"), ("c", "in flight")]


def test_no_simultaneous_migrations_at_all() -> None:
    none = there(busy(0, "t"), idle(1), settings=Settings(max_simultaneous_migrations=0))
    assert reason(none, move("t")) == "too many at once"


def test_two_moves_a_worker() -> None:
    many = Settings(max_simultaneous_migrations=99)
    now = there(busy(0, "a", "b", "c", slots=3), *(idle(i) for i in (1, 2, 3)), settings=many)
    made, refused = plan(now, *(move(t, target=f"cpu-{i}") for i, t in enumerate("abc", 1)))
    assert (len(made), [r for _, r in refused]) == (MOVES_A_WORKER, ["worker limit"])
    into_one = there(busy(0, "a"), busy(2, "b"), busy(3, "c"), idle(1, slots=8), settings=many)
    made, refused = plan(into_one, move("a"), move("b", "cpu-2"), move("c", "cpu-3"))
    assert (len(made), [r for _, r in refused]) == (MOVES_A_WORKER, ["worker limit"])


def test_queued_moves_are_limited_by_slots_alone() -> None:
    now = there(busy(0), idle(1, slots=5), settings=Settings(max_simultaneous_migrations=0))
    moves = [move(f"q{i}", source=class_queue("cpu"), kind="queued") for i in range(20)]
    made, refused = plan(now, *moves)
    assert len(made) == 5
    assert {r for _, r in refused} == {"no idle slot"}


def test_messages_in_the_direct_queue_have_their_slots() -> None:
    now = there(busy(0), idle(1, slots=5))
    fleet = replace(now.fleet, queues={direct_queue("cpu-1"): 3})
    moves = [move(f"q{i}", source=class_queue("cpu"), kind="queued") for i in range(5)]
    assert len(plan(replace(now, fleet=fleet), *moves)[0]) == 2


def test_a_move_that_is_seen_at_its_target_counts_once() -> None:
    arrived = replace(idle(1, slots=3), running=(held("a", "p", ran_s=0.1),), busy=1)
    now = there(busy(0, "b"), arrived, in_flight=(move("a"),))
    waiting = move("q", source=class_queue("cpu"), kind="queued")
    assert plan(now, waiting, replace(waiting, task_id="r"), replace(waiting, task_id="s"))[0] == ["q", "r"]
    in_queue = replace(
        there(busy(0, "b"), idle(1, slots=2), in_flight=(move("a"),)).fleet,
        queues={direct_queue("cpu-1"): 1},
        queued=(QueuedTask(task_id="a", queue=direct_queue("cpu-1"), profile="p"),),
    )
    assert plan(replace(now, fleet=in_queue), waiting, replace(waiting, task_id="r"))[0] == ["q"]


def test_anonymous_messages_are_cut_to_the_slots() -> None:
    now = there(busy(0), idle(1, slots=4))
    (made,), () = admit(
        Suggestions(moves=(move("", source=class_queue("cpu"), kind="queued", count=100),)), now
    )
    assert made.count == 4


def test_back_to_a_lane_needs_no_slot() -> None:
    lonely = move("q", source=direct_queue("cpu-0"), target=lane_queue("p"), kind="queued")
    assert reason(there(busy(0, "t")), lonely) is None
    silent = replace(there(busy(0)).fleet, silent=("cpu-1",))
    assert reason(replace(there(busy(0, "t")), fleet=silent), move("q", kind="queued")) == "target gone"


def test_a_strategy_may_want_fewer() -> None:
    now = there(busy(0), idle(1, slots=9))
    moves = [move(f"q{i}", source=class_queue("cpu"), kind="queued") for i in range(5)]
    made, refused = plan(now, *moves, at_most=2)
    assert len(made) == 2
    assert {r for _, r in refused} == {"too many at once"}


@pytest.mark.parametrize(
    ("count", "since_s", "why"),
    [(1, 29, "cooldown"), (1, 30, None), (2, 59, "cooldown"), (2, 60, None), (4, 239, "cooldown"),
     (4, 240, None), (99, 3599, "cooldown"), (99, 3600, None)],
)
def test_cooldown_doubles(count: int, since_s: float, why: str | None) -> None:
    past = MoveHistory(tasks={"t": TaskMoves(count=count, last_at=NOW - since_s, left="elsewhere")})
    assert reason(there(busy(0, "t"), idle(1), history=past), move("t")) == why


def test_where_no_cooldown_is_wanted_it_doubles_from_a_second_on() -> None:
    none = Settings(move_cooldown=0.0)
    for count, since_s, why in ((1, 0.9, "cooldown"), (1, 1.0, None), (4, 7.9, "cooldown"), (4, 8.0, None)):
        past = MoveHistory(tasks={"t": TaskMoves(count=count, last_at=NOW - since_s, left="elsewhere")})
        assert reason(there(busy(0, "t"), idle(1), history=past, settings=none), move("t")) == why


@pytest.mark.parametrize(
    ("epoch", "ran_s", "why"),
    [(0, 1, None), (1, 59, "begun anew"), (1, 60, None), (3, 239, "begun anew"), (3, 240, None)],
)
def test_a_run_that_would_be_lost_is_left_alone_for_longer_each_time(epoch: int, ran_s: float,
                                                                     why: str | None) -> None:
    task = replace(held("t", "p", ran_s=ran_s), checkpoints=False, epoch=epoch)
    source = replace(busy(0, "t"), running=(task,), pool="prefork")
    now = there(source, idle(1))
    profile = replace(now.fleet.lanes[0].profile, checkpoints=False, restartable=True)
    lanes = (replace(now.fleet.lanes[0], profile=profile),)
    assert reason(replace(now, fleet=replace(now.fleet, lanes=lanes)), move("t")) == why


def test_a_message_leaves_the_queue_of_a_class_that_nobody_is_of() -> None:
    past = MoveHistory(tasks={"t": TaskMoves(count=1, last_at=NOW - 500, left=lane_queue("p"))})
    to_lane = move("t", class_queue("cuda"), lane_queue("p"), kind="queued")
    back = replace(to_lane, target_queue=lane_queue("p"))
    assert reason(there(idle(1), history=past), back) is None
    served = there(idle(1), worker("cuda"), history=past)
    assert reason(served, back) == "moved back"


def test_no_way_back_unless_the_world_changed() -> None:
    past = MoveHistory(tasks={"t": TaskMoves(count=1, last_at=NOW - 500, left="cpu-1")})
    now = there(busy(0, "t"), idle(1), history=past)
    assert reason(now, move("t")) == "moved back"
    restarted = replace(idle(1), instance=f"host:7:{NOW - 100}")
    assert reason(there(busy(0, "t"), restarted, history=past), move("t")) is None
    ailing = replace(busy(0, "t"), health="draining")
    assert reason(there(ailing, idle(1), history=past), move("t")) is None


@pytest.mark.parametrize(("instance", "at"), [("h:1:12.5", 12.5), ("h:1:x", 0.0), ("", 0.0)])
def test_start_of_an_instance(instance: str, at: float) -> None:
    assert started_at(replace(idle(0), instance=instance)) == at


def test_a_swap_of_equals_is_refused() -> None:
    calm = busy(0, "t", load=0.5)  # busy in its slots, and in nothing else
    assert reason(there(calm, idle(1)), move("t")) == "only swaps"
    assert reason(there(calm, idle(1)), move("t", gain_s=30.0)) is None  # it saves time
    assert reason(there(busy(0, "t"), idle(1)), move("t")) is None  # the source suffers
    waiting = busy(0, "t", reserved=("w",), load=0.5)
    assert reason(there(waiting, idle(1)), move("w", kind="reserved")) is None  # it really evens out


def test_after_the_waiting_task_left_the_running_one_stays() -> None:
    waiting = busy(0, "t", reserved=("w",), load=0.5)
    made, refused = plan(
        there(waiting, idle(1), idle(2)), move("w", kind="reserved", net=2), move("t", target="cpu-2", net=1)
    )
    assert made == ["w"]
    assert refused == [("t", "only swaps")]


def test_the_second_best_target_is_used_and_is_no_refusal() -> None:
    now = there(busy(0, "a", "b", slots=2), idle(1), idle(2))
    made, refused = admit(
        Suggestions(moves=tuple(
            move(t, target=target, net=net) for t, target, net in
            [("a", "cpu-1", 5), ("b", "cpu-1", 4), ("b", "cpu-2", 3), ("a", "cpu-2", 1)]
        )), now,
    )
    assert [(m.task_id, m.target) for m in made] == [("a", "cpu-1"), ("b", "cpu-2")]
    assert refused == ()


def test_what_the_strategy_refused_is_passed_on() -> None:
    own = Rejected(task_id="x", profile="p", kind="running", source="a", target="b", reason="too young")
    assert admit(Suggestions(rejected=(own,)), there(idle(1))) == ((), (own,))


@st.composite
def suggestions(draw: st.DrawFn) -> tuple[Situation, Suggestions]:
    workers = tuple(
        busy(
            i, *(f"r{i}.{j}" for j in range(draw(st.integers(0, 3)))), slots=draw(st.integers(0, 4)),
            reserved=tuple(f"w{i}.{j}" for j in range(draw(st.integers(0, 2)))), load=draw(st.floats(0, 1)),
        )
        for i in range(draw(st.integers(1, 5)))
    )
    tasks: list[tuple[str, str, MoveKind]] = [(f"q{i}", class_queue("cpu"), "queued") for i in range(6)]
    for w in workers:
        tasks += [(t.task_id, w.name, "running") for t in w.running]
        tasks += [(t.task_id, w.name, "reserved") for t in w.reserved]

    def some(most: int) -> list[Move]:
        drawn = st.tuples(st.sampled_from(tasks), st.sampled_from(workers), st.floats(-1, 5))
        return [
            move(t, source, target.name, kind=kind, net=net)
            for (t, source, kind), target, net in draw(st.lists(drawn, max_size=most))
        ]

    in_flight = {m.task_id: m for m in some(4)}
    settings = Settings(
        max_simultaneous_migrations=draw(st.integers(0, 4)), enable_cost_benefit_analysis=draw(st.booleans())
    )
    now = there(*workers, settings=settings, in_flight=tuple(in_flight.values()))
    return now, Suggestions(moves=tuple(some(20)), at_most=draw(st.one_of(st.none(), st.integers(0, 5))))


@given(suggestions())
def test_no_plan_exceeds_a_limit(drawn: tuple[Situation, Suggestions]) -> None:
    now, wishes = drawn
    made, refused = admit(wishes, now)
    flying = now.in_flight
    running = sum(m.kind == "running" for m in made)
    already = sum(m.kind == "running" for m in flying)
    assert running <= max(0, now.settings.max_simultaneous_migrations - already)
    if wishes.at_most is not None:
        assert len(made) <= max(0, wishes.at_most - len(flying))
    assert len({m.task_id for m in made}) == len(made)
    assert not {m.task_id for m in made} & {m.task_id for m in flying}
    for name, count in Counter(m.target for m in made).items():
        target = now.fleet.worker(name)
        assert target is not None
        shown = {t.task_id for t in (*target.running, *target.reserved)}
        coming = sum(m.target == name and m.task_id not in shown for m in flying)
        assert count <= max(0, target.idle_slots - coming)
    for role in ("source", "target"):
        held_moves = Counter(getattr(m, role) for m in made if m.kind != "queued")
        assert all(n <= MOVES_A_WORKER for n in held_moves.values())
    if now.settings.enable_cost_benefit_analysis:
        assert all(m.score.net_benefit > 0 for m in made)
    assert all(r.reason and r.detail for r in refused)
    told = {m.task_id for m in made} | {r.task_id for r in refused}
    assert told == {m.task_id for m in wishes.moves}


@given(suggestions())
def test_the_same_input_gives_the_same_plan(drawn: tuple[Situation, Suggestions]) -> None:
    now, wishes = drawn
    if now.settings.enable_cost_benefit_analysis:
        backwards = replace(wishes, moves=wishes.moves[::-1])
        assert admit(wishes, now)[0] == admit(backwards, now)[0]
    assert admit(wishes, now) == admit(wishes, now)
