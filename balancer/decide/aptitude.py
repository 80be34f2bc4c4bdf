"""Workers that are better or worse at single profiles than their class and their own speed tell.

Part of learning a run (`estimate`): what is left of log(expected / seen) after the pair of profile and class
and the worker's speed, by worker and profile, and those where it is so large, over so many runs, that it
counts. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, TypeVar

from balancer.decide.kept import kept
from balancer.decide.thawed import thawed

#: The mean begins as if so many runs had told nothing: it is shrunk towards the worker's speed.
PRIOR_RUNS: Final = 2.0

#: Least weight of a new run: the memory of a dozen runs that pairs have, too.
LEAST_ALPHA: Final = 0.08

#: Furthest from the mean that one run may speak for (log): a hung one, a first one with its imports.
CLIP: Final = math.log(2.0)

#: It counts from so many runs on, from this factor (log) on, and until it is nearer than the next.
RUNS_LEAST: Final = 5
COUNTS: Final = math.log(1.25)
FADES: Final = math.log(1.15)

#: It must be so many standard errors of a mean of that many runs of the pair, whose mean absolute deviation
#: is √(2/π) of a standard deviation.
SURE: Final = 3.0 / math.sqrt(2 / math.pi)

#: A factor in use is told anew when it has changed by this much (log): less would not be worth the work.
NEWS: Final = 0.05

#: No factor is further from 1 than this (log).
FURTHEST: Final = math.log(20.0)

#: Digits of a factor that are worth their place in an order.
DIGITS: Final = 3

#: Most of (worker, profile) remembered. Beyond that those are forgotten that were like their class over so
#: many runs, then those of the workers that have told nothing for longest, until this share is left.
KEPT: Final = 40_000
TYPICAL_RUNS: Final = 12
LEFT: Final = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class Aptitude:
    """The mean of log(speed at a profile relative to the worker's own) and from how many runs."""

    log: float
    count: int


T = TypeVar("T")

Kept = Mapping[str, Mapping[str, Aptitude]]
Factors = Mapping[str, Mapping[str, float]]

_NOBODY: Final[Mapping[str, Aptitude]] = MappingProxyType({})
_TYPICAL: Final[Mapping[str, float]] = MappingProxyType({})


class Learner:
    """What is known while runs are being learned: `kept` by worker and profile, and of it what counts as
    `special`, factors on the workers' speeds. What it was made of stays as it is."""

    def __init__(self, aptitudes: Kept, special: Factors) -> None:
        self.kept, self.special = aptitudes, special
        self._own: dict[str, dict[str, Aptitude]] = {}
        self._said: dict[str, Mapping[str, float]] | None = None

    def factor(self, worker: str, profile: str) -> float:
        """What this worker's speed is to be multiplied by at this profile."""
        return self.special.get(worker, _TYPICAL).get(profile, 1.0)

    def learn(self, worker: str, profile: str, ahead: float, spread: float) -> None:
        """One more run, `ahead` of its worker's own speed by so much (log); `spread` is that of the pair."""
        own = self._own.get(worker)
        if own is None:
            own = self._own[worker] = thawed(self.kept.get(worker, _NOBODY))
        old = own.pop(profile, None) or Aptitude(log=0.0, count=0)
        alpha = max(1 / (old.count + 1 + PRIOR_RUNS), LEAST_ALPHA)
        told = min(CLIP, max(-CLIP, ahead - old.log))
        new = own[profile] = Aptitude(log=old.log + alpha * told, count=old.count + 1)
        known = self.factor(worker, profile)
        factor = 1.0
        if counts(new, spread, already=known != 1.0):
            factor = round(math.exp(min(FURTHEST, max(-FURTHEST, new.log))), DIGITS)
        if factor == known or (factor != 1.0 != known and abs(math.log(factor / known)) < NEWS):
            return
        self._say(worker, profile, factor)

    def _say(self, worker: str, profile: str, factor: float) -> None:
        """Let `factor` count from now on."""
        if self._said is None:
            self._said = thawed(self.special)
            self.special = MappingProxyType(self._said)
        theirs = {**self._said.pop(worker, _TYPICAL), profile: factor}
        if factor == 1.0:
            del theirs[profile]
        if theirs:
            self._said[worker] = MappingProxyType(theirs)

    def forget_worker(self, worker: str) -> None:
        """Nothing is known of a worker whose hardware has changed."""
        self._own[worker] = {}
        for profile in self.special.get(worker, _TYPICAL):
            self._say(worker, profile, 1.0)

    def forget_pair(self, profile: str, members: Mapping[str, str], hardware_class: str) -> None:
        """Nothing is known of how a class's workers differ at a profile that takes another time there."""
        for worker in dict.fromkeys([*self.kept, *self._own]):
            own = self._own.get(worker, self.kept.get(worker, _NOBODY))
            if members.get(worker) == hardware_class and profile in own:
                self._own[worker] = {name: each for name, each in own.items() if name != profile}
                if self.factor(worker, profile) != 1.0:
                    self._say(worker, profile, 1.0)

    def frozen(self, members: Mapping[str, str]) -> tuple[Kept, Factors]:
        """All of it, of those workers alone that are known as `members` of a class; who told something last
        comes last."""
        if not self._own and self.kept.keys() <= members.keys():
            return self.kept, self.special
        by_worker = thawed(self.kept)
        for worker, own in self._own.items():
            by_worker.pop(worker, None)
            if own:
                by_worker[worker] = MappingProxyType(own)
        for worker in [each for each in by_worker if each not in members]:
            del by_worker[worker]
        told, special = MappingProxyType(by_worker), self.special
        if held(told) > KEPT:
            told = MappingProxyType(_bounded(told, special))
        if not special.keys() <= told.keys():
            special = MappingProxyType({w: f for w, f in special.items() if w in told})
        return told, special


@kept
def held(aptitudes: Kept) -> int:
    """How many (worker, profile) are remembered."""
    return sum(map(len, aptitudes.values()))


def crowded(aptitudes: Kept) -> tuple[str, ...]:
    """A note when they come near the bound."""
    count = held(aptitudes)
    if count <= LEFT * KEPT:
        return ()
    return (f"how workers differ at profiles is known of {count} pairs of the {KEPT} kept at most: "
            "those that are typical, then those unheard of for longest, are forgotten",)


def frozen(by_worker: Mapping[str, dict[str, T]]) -> Mapping[str, Mapping[str, T]]:
    """The same, not to be changed."""
    return MappingProxyType({worker: MappingProxyType(own) for worker, own in by_worker.items()})


def counts(one: Aptitude, spread: float, *, already: bool) -> bool:
    """Whether it is told of a worker that it is better or worse at a profile: large enough for that, and too
    large for chance in a pair whose runs deviate by `spread`."""
    if one.count < RUNS_LEAST:
        return False
    least = FADES if already else max(COUNTS, SURE * spread / math.sqrt(min(one.count, 1 / LEAST_ALPHA)))
    return abs(one.log) >= least


def _bounded(aptitudes: Kept, special: Factors) -> dict[str, Mapping[str, Aptitude]]:
    """`aptitudes` within their bound."""
    left: dict[str, Mapping[str, Aptitude]] = {}
    for worker, own in aptitudes.items():
        known = special.get(worker, _TYPICAL)
        some = {p: one for p, one in own.items() if one.count < TYPICAL_RUNS or p in known}
        if some:
            left[worker] = MappingProxyType(some)
    over = sum(map(len, left.values())) - int(LEFT * KEPT)
    for worker in list(left):
        if over <= 0:
            break
        over -= len(left.pop(worker))
    return left
