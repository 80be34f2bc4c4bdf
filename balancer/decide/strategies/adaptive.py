"""The seed's algorithm: from each overloaded worker to the underloaded ones that can run its tasks.

Its thresholds move by the seed's own rule (`thresholds.literal`), imbalances that are foreseen count,
and at most `max_simultaneous_migrations` moves are in flight. Tasks are first served as under
`static`. One thing is not the seed's: an imbalance must last `trip_samples` ticks before it counts;
set `trip_samples` and `clear_samples` to 1 for its own behaviour, in which one blip triggers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Final

from balancer.decide.benefit import score
from balancer.decide.candidates import Candidate, migratable_tasks, slots_by_class, stuck_tasks
from balancer.decide.plan import move_id
from balancer.decide.situation import Situation, Suggestions
from balancer.decide.strategies.static import best_class_orders
from balancer.decide.thresholds import literal
from balancer.model import Imbalance, Move, Order, Rejected, SystemLoad, Thresholds, Worker
from balancer.routing import absent_reason, can_run, direct_queue
from balancer.settings import Settings

#: Most sources, tasks a source and targets that one tick looks at, so that its time is bounded.
SOURCES_LIMIT: Final = 32
TASKS_LIMIT: Final = 32
TARGETS_LIMIT: Final = 16


class Adaptive:
    """The seed's document, with its defaults."""

    name: str = "adaptive"
    moves_thresholds: bool = True
    foresees: bool = True

    @staticmethod
    def adjust(bounds: Thresholds, loads: Sequence[SystemLoad], settings: Settings) -> Thresholds:
        """The rule by which the tick moves the thresholds for this strategy: the seed's own."""
        return literal(bounds, loads, settings)

    def orders(self, situation: Situation) -> tuple[Order, ...]:
        """Each profile on its best class, as under `static`: the seed balances by moving alone."""
        return best_class_orders(situation, strategy=self.name)

    def suggest(self, situation: Situation) -> Suggestions:
        """Every candidate of every overloaded worker, for every underloaded worker that can run it."""
        found = pairs(situation, situation.orders or self.orders(situation))
        return replace(found, at_most=situation.settings.max_simultaneous_migrations)


def pairs(situation: Situation, orders: Sequence[Order]) -> Suggestions:
    """Scored moves from overloaded to underloaded workers, the tasks that no such worker can run or that
    cannot leave, and what was cut short.

    In the order of load: from the most loaded source, to the least loaded target. Empty when the
    situation shows no imbalance.
    """
    imbalance = situation.imbalance
    if imbalance is None:
        return Suggestions()
    moves: list[Move] = []
    rejected: list[Rejected] = []
    seen: set[str] = set()
    cut: Counter[str] = Counter()
    slots = slots_by_class(situation.fleet)
    targets = [w for w in _workers(situation, imbalance.underloaded) if w.idle_slots > 0]
    sources = list(_workers(situation, imbalance.overloaded))
    for source in sources[:SOURCES_LIMIT]:
        found = (c for c in migratable_tasks(source, situation, orders, slots) if c.task_id not in seen)
        for candidate in islice(found, TASKS_LIMIT):
            seen.add(candidate.task_id)
            able = list(islice((t for t in targets if _may_take(t, candidate)), TARGETS_LIMIT + 1))
            cut["targets"] += len(able) > TARGETS_LIMIT
            moves += [_move(candidate, t, situation, imbalance) for t in able[:TARGETS_LIMIT]]
            if not able:
                rejected.append(_nowhere(candidate, imbalance))
        rejected += islice(stuck_tasks(source, situation), TASKS_LIMIT)
        cut["tasks"] += next(found, None) is not None
    return Suggestions(moves=tuple(moves), rejected=tuple(rejected), notes=_cuts(len(sources), cut))


def _cuts(sources: int, cut: Mapping[str, int]) -> tuple[str, ...]:
    """What one tick did not look at, so that nobody takes silence for a refusal."""
    notes = []
    if sources > SOURCES_LIMIT:
        notes.append(f"looked at the {SOURCES_LIMIT} most loaded of {sources} overloaded workers")
    if cut["tasks"]:
        notes.append(f"looked at {TASKS_LIMIT} tasks each of {cut['tasks']} workers that hold more")
    if cut["targets"]:
        notes.append(f"looked at {TARGETS_LIMIT} targets each for {cut['targets']} tasks that have more")
    return tuple(notes)


def _workers(situation: Situation, names: Sequence[str]) -> Iterator[Worker]:
    by_name = {worker.name: worker for worker in situation.fleet.workers}
    return (by_name[name] for name in names if name in by_name)


def _may_take(target: Worker, candidate: Candidate) -> bool:
    needs = candidate.profile.needs
    return (target.name != candidate.source.name and absent_reason(candidate.home, target.queues) is None
            and can_run(target.hardware, needs, worker=target.name))


def _move(candidate: Candidate, target: Worker, situation: Situation, imbalance: Imbalance) -> Move:
    at = situation.fleet.at
    bounds = situation.thresholds
    when = "will be" if imbalance.kind == "predicted" else "is"
    return Move(
        move_id=move_id(candidate.task_id, at),
        task_id=candidate.task_id,
        profile=candidate.profile.name,
        kind=candidate.kind,
        source=candidate.place,
        target=target.name,
        target_queue=direct_queue(target.name),
        reason=f"{candidate.source.name} {when} over {bounds.high:.2f}, {target.name} under {bounds.low:.2f}",
        score=score(candidate, target, situation),
        at=at,
        proactive=imbalance.kind == "predicted",
    )


def _nowhere(candidate: Candidate, imbalance: Imbalance) -> Rejected:
    return Rejected(
        task_id=candidate.task_id, profile=candidate.profile.name, kind=candidate.kind,
        source=candidate.place, target="", reason="nowhere to go",
        detail=f"none of {len(imbalance.underloaded)} underloaded workers can run it and has an idle slot",
    )
