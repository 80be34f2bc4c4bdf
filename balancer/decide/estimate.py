"""Seconds of a slot that a profile takes on a hardware class, learned from finished runs.

A run's time is p[profile, class]·size·share / speed of its worker, at some profiles times a factor of its
own (`aptitude`). `learn_runs` keeps all three (after each batch of events), `seconds` answers for every pair,
also for those that never ran.
Read by `durations` for all pairs at once, by `slots` and the costs of moves for one.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

import numpy as np

from balancer.decide.aptitude import Aptitude, Learner
from balancer.decide.class_speed import class_speeds, table_speed
from balancer.decide.speeds import Speeds
from balancer.decide.thawed import thawed
from balancer.model import Hardware, HardwareProfile, RunFinished, TaskProfile, Worker
from balancer.routing import preference
from balancer.settings import Settings

#: Least weight of a new run: an estimate forgets with a memory of about a dozen runs.
LEAST_ALPHA: Final = 0.08

#: Runs after which the mean turns into that moving average.
MEAN_RUNS: Final = 12

#: Weight of an author's hint, in runs.
HINT_RUNS: Final = 3.0

#: A run further from the estimate than this factor (or than thrice the pair's own spread) is clipped to it.
CLIP: Final = 2.0

#: A first run further from the hint than this factor is clipped to it: imports, downloads, cold caches.
FIRST_CLIP: Final = 4.0

#: So many runs in a row clipped on the same side are no accident: the estimate begins again from the last.
STRIKES: Final = 3

#: Mean |log(run / estimate)| assumed of a new pair.
SPREAD: Final = 0.25

#: Weight of a run in its worker's speed, and the furthest one run may speak for (a factor).
SPEED_ALPHA: Final = 0.2
SPEED_CLIP: Final = 4.0

#: How far from 1 a class's median worker may drift before its class is measured anew by it.
OFF_CENTRE: Final = 0.002

#: Least part of a task that says something of the whole.
LEAST_SHARE: Final = 0.05

#: Outcomes whose duration is that of the work; a failure ends early and a retry says nothing.
WHOLE: Final = frozenset({"success", "stale", "moved"})

#: Seconds on a CPU of a task of which nothing at all is known.
DEFAULT_S: Final = 1.0

#: Each step down an author's order of preferred hardware is believed to cost this factor until it ran there.
PREFERENCE_STEP: Final = 1.1

#: Most pairs and workers remembered; those unseen for longest are forgotten first.
PAIRS_KEPT: Final = 20_000
WORKERS_KEPT: Final = 20_000

#: Every estimate lies in this range (s).
SHORTEST_S: Final = 1e-6
LONGEST_S: Final = 1e7


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """Seconds for size 1 of one profile on one hardware class, and from how many runs.

    `spread` is the mean |log(run / estimate)|; `strikes` counts the last runs in a row that were clipped,
    positive when they were too long.
    """

    seconds: float
    count: int
    spread: float = SPREAD
    strikes: int = 0


def _nothing() -> Mapping[str, float]:
    return MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimates:
    """All that was learned: by (profile, hardware class), and by worker a speed relative to its class.

    `worker_class` is the class each speed belongs to; `class_speed` how fast classes are over all
    profiles, a CPU about 1; `typical_s` the seconds a profile takes at speed 1, fleet-wide. `aptitudes` are
    by worker and profile what its speed is not the whole of, and `special` the factors on the speed of those
    where that counts.
    """

    pairs: Mapping[tuple[str, str], Estimate] = field(default_factory=lambda: MappingProxyType({}))
    worker_speed: Mapping[str, float] = field(default_factory=_nothing)
    worker_class: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    class_speed: Mapping[str, float] = field(default_factory=_nothing)
    typical_s: float | None = None
    aptitudes: Mapping[str, Mapping[str, Aptitude]] = field(default_factory=lambda: MappingProxyType({}))
    special: Mapping[str, Mapping[str, float]] = field(default_factory=lambda: MappingProxyType({}))


def learn_runs(estimates: Estimates, runs: Iterable[RunFinished], settings: Settings) -> Estimates:
    """`estimates` after these runs, oldest first.

    The rule: a run counts with alpha = max(1/n, 0.08), clipped to a factor of the estimate, so that a
    hung run moves it little; three in a row on the same side begin it anew; while it is young (n ≤ 3) a
    run of less than half replaces it, as what came before was a warm-up. A worker's speed follows the
    same runs, and a class's typical worker keeps speed 1 (median), so a slow one shows as slow
    instead of making its class look slow. One worker alone is its class: its speed stays 1. Where a worker
    is better or worse at a profile than that speed, its runs there are taken for what a typical worker's
    would be; that is forgotten when the profile's pair begins anew.
    """
    pairs, speeds = thawed(estimates.pairs), thawed(estimates.worker_speed)
    classes = thawed(estimates.worker_class)
    members, moved = Counter(classes.values()), False
    own = Learner(estimates.aptitudes, estimates.special)
    touched, changed = set[str](), set[str]()
    for run in runs:
        rate = _rate(run)
        if rate is None:
            continue
        key = (run.profile, run.hardware_class)
        if (before := classes.get(run.worker)) != run.hardware_class:
            speeds.pop(run.worker, None)
            own.forget_worker(run.worker)
            classes[run.worker], moved = run.hardware_class, True
            members.update({run.hardware_class: 1} if before is None else {run.hardware_class: 1, before: -1})
        speed, factor = speeds.pop(run.worker, 1.0), own.factor(run.worker, run.profile)
        old = pairs.pop(key, None)
        hint = _hinted(settings.hints, run.profile, run.hardware_class)
        new = pairs[key] = _updated(old, rate * speed * factor, hint)
        alone = members[run.hardware_class] == 1
        speeds[run.worker] = speed if alone else _speed(speed, old, rate * factor)
        if old is not None and new.count == 1:
            own.forget_pair(run.profile, classes, run.hardware_class)
        elif old is not None and old.count >= STRIKES and not alone:
            own.learn(run.worker, run.profile, math.log(old.seconds / (rate * speed)), old.spread)
        touched.add(run.hardware_class)
        changed.add(run.worker)
    if not touched:
        return estimates
    changed |= _recentre(touched, pairs, speeds, classes)
    known = MappingProxyType(classes) if moved else estimates.worker_class
    return _frozen(pairs, Speeds.of(estimates.worker_speed).then(speeds, changed), known, own)


def _frozen(pairs: dict[tuple[str, str], Estimate], speeds: Speeds,
            classes: Mapping[str, str], own: Learner) -> Estimates:
    """The record of what was learned last, with the classes' speeds fitted to it."""
    if len(pairs) > PAIRS_KEPT:
        pairs = dict(list(pairs.items())[-PAIRS_KEPT:])
    if len(speeds) > WORKERS_KEPT:
        kept = list(speeds)[-WORKERS_KEPT:]
        speeds = Speeds({w: speeds[w] for w in kept})
        classes = MappingProxyType({w: classes[w] for w in kept})
    frozen = MappingProxyType(pairs)
    by_class, typical_s = class_speeds(frozen)
    aptitudes, special = own.frozen(classes)
    return Estimates(pairs=frozen, worker_speed=speeds, worker_class=classes, typical_s=typical_s,
                     class_speed=MappingProxyType(by_class), aptitudes=aptitudes, special=special)


def _rate(run: RunFinished) -> float | None:
    """Seconds for size 1 that this run speaks of; `None` when it says nothing."""
    share = run.share
    if run.outcome not in WHOLE or share is None or not LEAST_SHARE <= share <= 1.0:
        return None
    if not (0 <= run.duration_s < math.inf and 0 < run.size < math.inf):
        return None
    return min(LONGEST_S, max(SHORTEST_S, run.duration_s / (run.size * share)))


def _updated(old: Estimate | None, rate: float, hint: float | None) -> Estimate:
    """The estimate after one more run of `rate` seconds, by the rule of `learn_runs`."""
    if old is None:
        first = rate if hint is None else min(hint * FIRST_CLIP, max(hint / FIRST_CLIP, rate))
        return Estimate(seconds=first, count=1)
    if old.count <= STRIKES and rate < old.seconds / CLIP:
        return Estimate(seconds=rate, count=old.count + 1, spread=old.spread)
    away, reach = math.log(rate / old.seconds), _reach(old)
    side = 0 if abs(away) <= reach else (1 if away > 0 else -1)
    strikes = (old.strikes if old.strikes * side > 0 else 0) + side
    if abs(strikes) >= STRIKES:
        return Estimate(seconds=rate, count=1)
    clipped = min(reach, max(-reach, away))
    alpha = max(1 / (old.count + 1), LEAST_ALPHA)
    seconds = old.seconds + alpha * (old.seconds * math.exp(clipped) - old.seconds)
    spread = old.spread + LEAST_ALPHA * (abs(clipped) - old.spread)
    return Estimate(seconds=seconds, count=old.count + 1, spread=spread, strikes=strikes)


def _speed(speed: float, old: Estimate | None, rate: float) -> float:
    """A worker's speed after a run of `rate`, moved less where the pair's runs differ much anyway."""
    if old is None or old.count < 2:
        return speed
    seen = min(math.log(SPEED_CLIP), max(-math.log(SPEED_CLIP), math.log(old.seconds / rate)))
    alpha = SPEED_ALPHA / (1 + (2 * old.spread) ** 2)
    return math.exp(math.log(speed) + alpha * (seen - math.log(speed)))


def _recentre(touched: Collection[str], pairs: dict[tuple[str, str], Estimate], speeds: dict[str, float],
              classes: Mapping[str, str]) -> set[str]:
    """Give the median worker of each of these classes speed 1, where its speed is no longer about that, and
    the class's pairs the seconds of that worker, in place. Returns the workers whose speeds have changed."""
    members: dict[str, list[str]] = {name: [] for name in touched}
    for worker, own in classes.items():
        if own in members:
            members[own].append(worker)
    middles: dict[str, float] = {}
    changed: set[str] = set()
    for name, workers in members.items():
        if not workers:
            continue
        middle = float(np.exp(np.median(np.log([speeds[worker] for worker in workers]))))
        if abs(middle - 1) >= OFF_CENTRE:
            middles[name] = middle
            speeds.update({worker: speeds[worker] / middle for worker in workers})
            changed.update(workers)
    for key, e in pairs.items() if middles else ():
        if (by := middles.get(key[1])) is not None:
            pairs[key] = Estimate(seconds=e.seconds / by, count=e.count, spread=e.spread, strikes=e.strikes)
    return changed


def seconds(estimates: Estimates, profile: TaskProfile, hardware: Hardware, settings: Settings,
            profiles: Mapping[str, HardwareProfile]) -> float:
    """Seconds for size 1 of `profile` on a typical worker of this hardware's class.

    What ran, with a hint as so many runs until they refute it; else the hint; else the profile's runs and
    hints elsewhere by the classes' relative speeds; else what a task of the fleet takes, by the hardware's
    weight.
    """
    hardware_class = hardware.hardware_class
    learned = estimates.pairs.get((profile.learned_as, hardware_class))
    hint = hinted_s(profile, hardware_class, settings)
    if learned is not None:
        weight = 0.0 if hint is None or _refuted(hint, learned) else _hint_weight(learned.count)
        value = learned.seconds if hint is None else weight * hint + (1 - weight) * learned.seconds
    elif hint is not None:
        value = hint
    else:
        typical_s = _elsewhere(estimates, profile, settings, profiles)
        value = _guess(estimates, profile, hardware, typical_s, profiles)
    return min(LONGEST_S, max(SHORTEST_S, value))


def row_seconds(estimates: Estimates, profile: TaskProfile, hardware: Sequence[Hardware], settings: Settings,
                profiles: Mapping[str, HardwareProfile]) -> list[float]:
    """`seconds` of one profile on each of `hardware`, which are of unlike classes."""
    if profile.expected_s or profile.name in settings.hints:
        return [seconds(estimates, profile, h, settings, profiles) for h in hardware]
    answer, typical = [], None
    for one in hardware:
        learned = estimates.pairs.get((profile.learned_as, one.hardware_class))
        if learned is not None:
            value = learned.seconds
        else:
            typical = _elsewhere(estimates, profile, settings, profiles) if typical is None else typical
            value = _guess(estimates, profile, one, typical, profiles)
        answer.append(min(LONGEST_S, max(SHORTEST_S, value)))
    return answer


def _guess(estimates: Estimates, profile: TaskProfile, hardware: Hardware, typical_s: float,
           profiles: Mapping[str, HardwareProfile]) -> float:
    """Seconds of a pair that never ran, from the `typical_s` of the profile at speed 1."""
    speed = _class_speed(estimates, hardware.hardware_class, profiles)
    return typical_s / speed * PREFERENCE_STEP ** preference(hardware, profile.needs)


def _hint_weight(count: int) -> float:
    """What is left of a hint worth `HINT_RUNS` runs in a moving average that has seen `count` since."""
    mean = min(count, MEAN_RUNS)
    faded: float = (1 - LEAST_ALPHA) ** (count - mean)
    return HINT_RUNS / (HINT_RUNS + mean) * faded


def _refuted(hint: float, learned: Estimate) -> bool:
    """Whether the runs of a pair say otherwise than its hint: as many as it is worth, further away than they
    are from each other."""
    return learned.count >= HINT_RUNS and abs(math.log(hint / learned.seconds)) > _reach(learned)


def _reach(estimate: Estimate) -> float:
    """How far |log| a run may be from an estimate."""
    return max(math.log(CLIP), 3 * estimate.spread)


def hinted_s(profile: TaskProfile, hardware_class: str, settings: Settings) -> float | None:
    """Seconds for size 1 that the operator, else the author, tells of a pair; `None` when neither does."""
    told = _hinted(settings.hints, profile.name, hardware_class)
    return _of_class(profile.expected_s, hardware_class) if told is None else told


def _hinted(hints: Mapping[str, Any], profile: str, hardware_class: str) -> float | None:
    """The operator's hint for a pair, when there is a usable one."""
    by_class = hints.get(profile)
    return _of_class(by_class, hardware_class) if isinstance(by_class, Mapping) else None


def _of_class(by_class: Mapping[str, Any], hardware_class: str) -> float | None:
    """The seconds under a class's name, else under its kind's; `None` when they are no positive number."""
    value = by_class.get(hardware_class, by_class.get(hardware_class.partition("-")[0]))
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 < value < math.inf else None


def _elsewhere(estimates: Estimates, profile: TaskProfile, settings: Settings,
               profiles: Mapping[str, HardwareProfile]) -> float:
    """Seconds of a profile at speed 1, from its runs and hints on other classes; else of any task."""
    logs, weights = [], []
    for known in estimates.class_speed:
        run = estimates.pairs.get((profile.learned_as, known))
        if run is not None:
            logs.append(math.log(run.seconds * estimates.class_speed[known]))
            weights.append(float(min(run.count, MEAN_RUNS)))
    hinted = settings.hints.get(profile.name)
    for by_class in (hinted if isinstance(hinted, Mapping) else {}, profile.expected_s):
        for known in by_class:
            hint = _of_class(by_class, known)
            if hint is not None:
                logs.append(math.log(hint * _class_speed(estimates, known, profiles)))
                weights.append(HINT_RUNS)
    if not logs:
        return estimates.typical_s or DEFAULT_S
    return math.exp(sum(w * v for w, v in zip(weights, logs, strict=True)) / sum(weights))


def _class_speed(estimates: Estimates, hardware_class: str,
                 profiles: Mapping[str, HardwareProfile]) -> float:
    """How fast a class is, a CPU about 1: learned, else the weight of its kind."""
    return estimates.class_speed.get(hardware_class) or table_speed(hardware_class, profiles)


def speed_of(estimates: Estimates, worker: Worker, profile: TaskProfile | None = None) -> float:
    """A worker's speed relative to its class, at this profile where one is given; 1 until runs say
    otherwise."""
    known = estimates.worker_class.get(worker.name)
    if known is None or known != worker.hardware.hardware_class:
        return 1.0
    speed, special = estimates.worker_speed.get(worker.name, 1.0), estimates.special.get(worker.name)
    return speed if profile is None or special is None else speed * special.get(profile.learned_as, 1.0)
