"""What the balancer learns from how things went: finished runs, and moves that ended (step 7).

Moving averages weigh the newest outcome with max(1/n, `MOVE_ALPHA`): the first few count alike, later
ones fade.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Final

from balancer.decide.energy import learn_power
from balancer.decide.estimate import learn_runs
from balancer.decide.hardware import observe_profiles
from balancer.decide.heat import learn_warming
from balancer.decide.history import MoveHistory, ProfileMoves, TaskMoves
from balancer.decide.memory import Memory
from balancer.decide.rest import learn_needs
from balancer.model import Event, Fleet, Migration, RunFinished
from balancer.model.table import WorkerTable
from balancer.settings import Settings

#: Floor of the weight of the newest move in a profile's averages.
MOVE_ALPHA: Final = 0.2

#: One move speaks for so many times the cost that was known of its profile, or of a hand-over of `LEAST_S`
#: seconds: what stood longer waited for a slot or for memory, which the next one need not.
UNLIKELY: Final = 10.0
LEAST_S: Final = 0.1

#: How the detail of a refusal begins that says nothing about whether moving works: the task was done
#: before it could leave.
MOOT: Final = "finished"


def learn(memory: Memory, events: Sequence[Event], fleet: Fleet, settings: Settings) -> Memory:
    """The memory after this look and these events: power, heat, durations by profile and class, then the
    hardware profiles."""
    power, needs = learn_power(memory.power, fleet), learn_needs(memory.needs, fleet, settings)
    warming = learn_warming(memory.warming, fleet, settings)
    if power is not memory.power or needs is not memory.needs or warming is not memory.warming:
        memory = replace(memory, power=power, needs=needs, warming=warming)
    runs = [event for event in events if isinstance(event, RunFinished)]
    shared = {p.name: p.learned_as for lane in fleet.lanes if (p := lane.profile).group}
    if shared:
        runs = [replace(run, profile=shared.get(run.profile, run.profile)) for run in runs]
    if not runs:
        return memory
    estimates = learn_runs(memory.estimates, runs, settings)
    unlike = WorkerTable.of(fleet.workers).roster.unlike
    hardware = {each.hardware_class: each for each in unlike}
    profiles = observe_profiles(memory.profiles, estimates, hardware)
    return replace(memory, estimates=estimates, profiles=MappingProxyType(dict(profiles)))


def learn_migrations(memory: Memory, ended: Sequence[Migration], settings: Settings) -> Memory:
    """The memory after these moves ended: success and cost by profile, cooldown by task, totals.

    Moves that are still in flight are ignored.
    """
    history = memory.history
    for migration in ended:
        if not migration.in_flight:
            history = _with(history, migration, settings)
    latest = max((m.ended_at for m in ended if m.ended_at is not None), default=None)
    return replace(memory, history=history if latest is None else history.forget(latest))


def _with(history: MoveHistory, migration: Migration, settings: Settings) -> MoveHistory:
    move = migration.move
    profiles, tasks = dict(history.profiles), dict(history.tasks)
    past = profiles.get(move.profile, ProfileMoves())
    handover_s = settings.handover_cost if past.cost_s is None else past.cost_s
    stood_s = _believed_s(migration, handover_s, history.bandwidth_bytes_per_s)
    history = _with_state(history, migration, stood_s, handover_s)
    if migration.successful or not migration.detail.startswith(MOOT):
        profiles[move.profile] = _profile_after(past, migration, stood_s, history.bandwidth_bytes_per_s)
    if move.task_id:
        earlier = tasks.get(move.task_id)
        tasks[move.task_id] = TaskMoves(
            count=(earlier.count if earlier else 0) + 1,
            last_at=_ended_at(migration),
            left=move.source if migration.successful else "",
            reached=move.target if migration.successful else "",
        )
    return replace(
        history,
        profiles=MappingProxyType(profiles),
        tasks=MappingProxyType(tasks),
        initiated=history.initiated + 1,
        successful=history.successful + migration.successful,
    )


def _believed_s(migration: Migration, handover_s: float, bandwidth_bytes_per_s: float) -> float | None:
    """The standstill as far as it is believed (s); `None` where it was not timed."""
    stood_s = standstill_s(migration)
    likely_s = max(LEAST_S, handover_s) + (migration.state_bytes or 0) / bandwidth_bytes_per_s
    return None if stood_s is None else min(stood_s, UNLIKELY * likely_s)


def _with_state(
    history: MoveHistory, migration: Migration, stood_s: float | None, handover_s: float
) -> MoveHistory:
    """The history that has seen the state of this move on its way: all of the standstill that a hand-over of
    its profile does not explain."""
    carried = migration.state_bytes or 0
    if stood_s is None or not carried or migration.move.kind == "queued":
        return history
    return replace(
        history, state_bytes=(1 - MOVE_ALPHA) * history.state_bytes + carried,
        state_s=(1 - MOVE_ALPHA) * history.state_s + max(0.0, stood_s - handover_s))


def _profile_after(past: ProfileMoves, migration: Migration, measured_s: float | None,
                   bandwidth_bytes_per_s: float) -> ProfileMoves:
    """The profile after one more move, whose cost is its standstill less the time its state took."""
    count = past.count + 1
    alpha = max(1.0 / count, MOVE_ALPHA)
    success = (1 - alpha) * past.success + alpha * float(migration.successful)
    cost_s = past.cost_s
    if measured_s is not None:
        measured_s = max(0.0, measured_s - (migration.state_bytes or 0) / bandwidth_bytes_per_s)
        cost_s = measured_s if cost_s is None else (1 - alpha) * cost_s + alpha * measured_s
    return ProfileMoves(count=count, success=success, cost_s=cost_s)


def standstill_s(migration: Migration) -> float | None:
    """Seconds the task stood still for its move; `None` when the move failed or was not timed.

    A running task works on until it is handed over; queued work waits from the request on.
    """
    move = migration.move
    began = migration.requested_at if move.kind == "queued" else migration.handed_over_at
    back = migration.ended_at if migration.started_at is None else migration.started_at
    if not migration.successful or began is None or back is None:
        return None
    return max(0.0, back - began)


def _ended_at(migration: Migration) -> float:
    return migration.requested_at if migration.ended_at is None else migration.ended_at
