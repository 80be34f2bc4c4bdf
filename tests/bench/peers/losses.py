"""Where a run's seconds over the bound went, by the prices of the fluid program.

Its dual says what a second of each class is worth: Σ π·slots = 1 and the bound is Σ v·work. So the makespan
is, without a rest, the bound and the priced seconds that were lost: a job on another class than the program
would have it, a body that took longer than its work, a slot that was idle. Over the records of real processes
and of the twin alike.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Final

from balancer.simulate.history import Span
from balancer.simulate.scenario import Scenario
from tests.bench.peers.program import program

#: An idle slot that takes work within this time waited for its hand-over; longer, it let the work alone.
HANDOVER_S: Final = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Losses:
    """Shares of the bound that were lost: `misplaced`, jobs on classes that are dearer for them (moved ones
    with what they did twice); `overrun`, bodies that took longer than their work; `handover`, short idle
    spells while work waited, `refused`, long ones; `nothing`, idle with nothing waiting before the last job
    began; `tail`, idle after that."""

    misplaced: float
    overrun: float
    handover: float
    refused: float
    nothing: float
    tail: float

    def sentence(self) -> str:
        return ", ".join(f"{name} {share:.1%}" for name, share in asdict(self).items())


def losses(scenario: Scenario, spans: Sequence[Span]) -> Losses:
    """The shares, of a run whose jobs all ended. Times of spans are seconds from its start."""
    now, lost = program(scenario), dict.fromkeys(("handover", "refused", "nothing", "tail"), 0.0)
    classes = {m.name: m.hardware.hardware_class for m in scenario.machines}
    for worker, kind, seconds in idle(scenario, spans):
        lost[kind] += now.price[classes[worker]] * seconds
    taken: dict[str, list[Span]] = defaultdict(list)
    for span in spans:
        taken[span.task_id].append(span)
    misplaced = overrun = 0.0
    for job in scenario.jobs:
        runs, value = taken[job.task_id], now.value[job.profile] * job.work
        cost = sum(now.price[classes[run.worker]] * (run.until_s - run.from_s) for run in runs)
        if len(runs) == 1:
            name = classes[runs[0].worker]
            right = now.price[name] * scenario.whole_s(job, name)
            overrun += cost - right
            cost = right
        misplaced += cost - value
    return Losses(misplaced=misplaced / now.drain_s, overrun=overrun / now.drain_s,
                  **{kind: seconds / now.drain_s for kind, seconds in lost.items()})


def idle(scenario: Scenario, spans: Sequence[Span]) -> Iterator[tuple[str, str, float]]:
    """Idle spells of each worker by kind of loss (s)."""
    begun: dict[str, float] = {}
    for span in spans:
        begun[span.task_id] = min(span.from_s, begun.get(span.task_id, span.from_s))
    last, end = max(begun.values()), max(span.until_s for span in spans)
    empty = _empty(sorted(job.release_s for job in scenario.jobs), sorted(begun.values()), last)
    for machine in scenario.machines:
        mine = sorted((s.from_s, s.until_s) for s in spans if s.worker == machine.name)
        for (_, start), (until, _) in pairwise([(0.0, 0.0), *mine, (end, end)]):
            yield machine.name, "tail", max(0.0, until - max(start, last))
            spell = max(0.0, min(until, last) - start)
            nothing = sum(max(0.0, min(b, until) - max(a, start)) for a, b in empty)
            yield machine.name, "nothing", nothing
            waited = max(0.0, spell - nothing)
            yield machine.name, "handover" if waited <= HANDOVER_S else "refused", waited


def _empty(releases: Sequence[float], begins: Sequence[float], last: float) -> list[tuple[float, float]]:
    """Intervals up to `last` in which no job waited."""
    changes = sorted([(at, 1) for at in releases] + [(at, -1) for at in begins])
    found, waiting, since = [], 0, 0.0
    for at, change in changes:
        if waiting == 0 and at > since:
            found.append((since, min(at, last)))
        waiting, since = waiting + change, at
    return found
