"""What moving a task gains: points (≥ 0) by the factors the seed lists, and seconds; part of step 6.

Utilisation difference alone sends work to an idle worker three times slower. So, with
`enable_hardware_specific_strategies`, the difference counts only as far as the target keeps up with
the source, and a slower target costs points. Without that switch it is the seed's plain difference.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from balancer.decide import cost, slots
from balancer.decide.candidates import Candidate
from balancer.decide.cost import Weighed
from balancer.decide.energy import joules_saved
from balancer.decide.estimate import seconds, speed_of
from balancer.decide.foreseen import confident
from balancer.decide.load import utilisation
from balancer.decide.situation import Situation
from balancer.model import Score, Worker
from balancer.routing import preference

#: Points of each factor at its greatest difference.
UTILISATION_POINTS: Final = 5.0
HARDWARE_POINTS: Final = 3.0
PREFERENCE_POINTS: Final = 1.0
MEMORY_POINTS: Final = 1.0
ENERGY_POINTS: Final = 2.0
THERMAL_POINTS: Final = 1.0
SUCCESS_POINTS: Final = 1.0

#: Degrees between two workers that count as much as the whole of the thermal table.
HOT_DIFFERENCE_CELSIUS: Final = 50.0


def analyze(candidate: Candidate, target: Worker, situation: Situation) -> Weighed:
    """The benefit of running `candidate` on `target`: points (≥ 0) and seconds (may be negative)."""
    on_source = remaining_s(candidate, candidate.source, situation)
    on_target = remaining_s(candidate, target, situation)
    # By whole runs: of a task that is overdue nothing seems to remain, wherever it is.
    ratio = _speed_ratio(_here_s(candidate, situation), _whole_s(candidate, target, situation))
    gain_s = candidate.wait_s + on_source - on_target
    settings = situation.settings
    parts = {"utilisation": _utilisation_points(candidate, target, situation, ratio)}
    if settings.enable_hardware_specific_strategies:
        parts["hardware"] = HARDWARE_POINTS * _within(math.log2(ratio))
        needs = candidate.profile.needs
        ahead = preference(candidate.source.hardware, needs) - preference(target.hardware, needs)
        parts["preference"] = PREFERENCE_POINTS * _within(ahead)
    parts["memory"] = MEMORY_POINTS * _memory_margin(candidate, target)
    if settings.enable_resource_efficiency:
        parts |= _efficiency_points(candidate.source, target, situation, ratio)
    parts["success"] = SUCCESS_POINTS * _past_success(candidate.profile.name, situation)
    seconds = {"waiting_s": candidate.wait_s, "here_s": on_source, "there_s": -on_target,
               "risk_s": -_risk_s(candidate, gain_s, situation)}
    return Weighed(
        points=max(0.0, sum(parts.values())),
        seconds=sum(seconds.values()),
        parts=MappingProxyType({**parts, **seconds}),
    )


def score(candidate: Candidate, target: Worker, situation: Situation) -> Score:
    """Cost and benefit of one move, in points and seconds, with every factor under its name."""
    costs = cost.analyze(candidate, situation)
    gains = analyze(candidate, target, situation)
    parts = {f"cost.{name}": value for name, value in costs.parts.items()}
    parts |= {f"benefit.{name}": value for name, value in gains.parts.items()}
    return Score(
        cost=costs.points,
        benefit=gains.points,
        cost_s=costs.seconds,
        benefit_s=gains.seconds,
        parts=MappingProxyType(parts),
    )


def remaining_s(candidate: Candidate, worker: Worker, situation: Situation) -> float:
    """Seconds of a slot of `worker` that the rest of the task would take.

    On its source by the pace it shows there; elsewhere the same share of what it takes there.
    """
    held, source = candidate.held, candidate.source
    if held is None or held.started_at is None:
        return _whole_s(candidate, worker, situation)
    here_s = slots.remaining_s(situation, source, held, candidate.profile)
    if worker.name == source.name:
        return here_s
    all_s = _here_s(candidate, situation)
    return _whole_s(candidate, worker, situation) * (here_s / all_s if all_s > 0 else 1.0)


def _speed_ratio(on_source: float, on_target: float) -> float:
    """How many times faster the target is; 1 where either time says nothing."""
    usable = 0 < on_source < math.inf and 0 < on_target < math.inf
    return on_source / on_target if usable else 1.0


def _here_s(candidate: Candidate, situation: Situation) -> float:
    """Seconds of a whole run on the source, by the pace it shows there when it runs."""
    held, source = candidate.held, candidate.source
    if held is None or held.started_at is None:
        return _whole_s(candidate, source, situation)
    return slots.whole_s(situation, source, held, candidate.profile)


def _whole_s(candidate: Candidate, worker: Worker, situation: Situation) -> float:
    one = seconds(
        situation.estimates, candidate.profile, worker.hardware, situation.settings, situation.profiles
    )
    return candidate.size * one / speed_of(situation.estimates, worker, candidate.profile)


def _utilisation_points(
    candidate: Candidate, target: Worker, situation: Situation, ratio: float
) -> float:
    values = foreseen_utilisations(situation)
    before = values.get(candidate.source.name, utilisation(candidate.source))
    after = values.get(target.name, utilisation(target))
    if before is None or after is None:
        return 0.0
    weight = min(1.0, ratio) if situation.settings.enable_hardware_specific_strategies else 1.0
    return UTILISATION_POINTS * max(0.0, before - after) * weight


def foreseen_utilisations(situation: Situation) -> Mapping[str, float]:
    """Utilisations to judge by in place of today's: the forecasts, when the imbalance is a foreseen one."""
    if situation.imbalance is None or situation.imbalance.kind != "predicted":
        return {}
    return situation.foreseen or confident(situation.forecasts)


def _memory_margin(candidate: Candidate, target: Worker) -> float:
    """Share of memory (of the GPU when the task asks for it) freer on the target; 0 when unread."""
    on_gpu = candidate.profile.needs.gpu_memory_bytes is not None
    before, after = (
        w.reading.gpu_memory if on_gpu else w.reading.memory for w in (candidate.source, target)
    )
    return 0.0 if before is None or after is None else _within(before - after)


def _efficiency_points(source: Worker, target: Worker, situation: Situation,
                       ratio: float) -> dict[str, float]:
    """Energy and heat: joules by what the reports of power tell, else the table of hardware profiles, and
    temperatures where both are read. The target is `ratio` times as fast."""
    here, there = (situation.profiles[w.hardware.kind] for w in (source, target))
    heat = there.thermal_efficiency - here.thermal_efficiency
    hot, cool = source.reading.temperature_celsius, target.reading.temperature_celsius
    if hot is not None and cool is not None:
        heat += (hot - cool) / HOT_DIFFERENCE_CELSIUS
    classes = source.hardware.hardware_class, target.hardware.hardware_class
    saved = joules_saved(situation.power, *classes, ratio)
    if saved is None:
        saved = _within(there.energy_efficiency - here.energy_efficiency)
    return {
        "energy": ENERGY_POINTS * saved,
        "thermal": THERMAL_POINTS * _within(heat),
    }


def _risk_s(candidate: Candidate, gain_s: float, situation: Situation) -> float:
    """Seconds that are lost on average because moves of the profile fail: then nothing is gained, and the
    work since the last checkpoint may have to be done again."""
    past = situation.history.profiles.get(candidate.profile.name)
    lost_s = max(0.0, gain_s) + cost.work_at_risk_s(candidate.held, situation.fleet.at)
    return past.failing * lost_s if past is not None and math.isfinite(lost_s) else 0.0


def _past_success(profile: str, situation: Situation) -> float:
    """−1 when past moves of the profile all failed, 1 when all went well, 0 when there were none."""
    past = situation.history.profiles.get(profile)
    return 0.0 if past is None or past.count == 0 else 2.0 * past.success - 1.0


def _within(value: float) -> float:
    return max(-1.0, min(1.0, value))
