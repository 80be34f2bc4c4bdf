"""What fairness between groups of tasks gives and costs on unlike hardware: `python -m tests.bench.groups`.

The scenario `mixed` with its jobs given to groups, at random or by their kind, at several weights: how far
the shares of slot-seconds are from the weights while all wait, and the makespan over that without weights.
"rank" serves the hindmost group first whatever it costs. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import replace
from random import Random
from statistics import mean
from typing import Final

from balancer import wiring
from balancer.decide import fairness
from balancer.settings import parse
from balancer.simulate.history import History
from balancer.simulate.scenario import Scenario
from balancer.simulate.scenarios import by_name
from balancer.simulate.twin import play

WEIGHTS: Final[tuple[Mapping[str, float], ...]] = (
    {"a": 3.0, "b": 1.0}, {"a": 1.0, "b": 1.0, "c": 1.0}, {"a": 6.0, "b": 3.0, "c": 1.0})

#: Seconds of its share for which a lane counts for half: so few make a rank of the price.
RANK_S: Final = 0.01

#: From when on all jobs are there, and until what part of the makespan all groups have some (s).
FROM_S: Final = 25.0
UNTIL: Final = 0.4


def grouped(scenario: Scenario, groups: list[str], by_kind: bool, seed: int) -> Scenario:
    """The scenario with each job in a group, by chance or each kind in one."""
    chance, kinds = Random(seed), sorted(scenario.profiles)
    jobs, profiles = [], {}
    for job in scenario.jobs:
        group = groups[kinds.index(job.profile) % len(groups)] if by_kind else chance.choice(groups)
        name = f"{job.profile}@{group}"
        profiles[name] = replace(scenario.profiles[job.profile], name=name, group=group)
        jobs.append(replace(job, profile=name))
    seconds = {name: scenario.seconds[profile.learned_as] for name, profile in profiles.items()}
    return replace(scenario, jobs=tuple(jobs), profiles=profiles, seconds=seconds)


def played(scenario: Scenario, weights: Mapping[str, float]) -> History:
    hints = {profile: dict(by_class) for profile, by_class in scenario.seconds.items()}
    settings = parse({"group_weights": weights, "hints": hints})
    return play(scenario, wiring.strategy_of(settings), settings)


def error(scenario: Scenario, history: History, weights: Mapping[str, float]) -> float:
    """The furthest that any group's share is from its weight's."""
    group = {job.task_id: scenario.profiles[job.profile].group for job in scenario.jobs}
    until, had = UNTIL * max(history.ended.values()), dict.fromkeys(weights, 0.0)
    for span in history.spans:
        had[group[span.task_id]] += max(0.0, min(span.until_s, until) - max(span.from_s, FROM_S))
    total, weight = sum(had.values()), sum(weights.values())
    return max(abs(had[name] / total - weights[name] / weight) for name in weights)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=4)
    seeds, usual_s = range(1, parser.parse_args().seeds + 1), fairness.HALVING_S
    found: dict[str, dict[str, float]] = {}
    for name, halving_s in (("off", usual_s), ("price", usual_s), ("rank", RANK_S)):
        fairness.HALVING_S = halving_s  # type: ignore[misc]
        for by_kind in (False, True):
            errors, ends = [], []
            for weights in WEIGHTS:
                for seed in seeds:
                    scenario = grouped(by_name("mixed", seed), list(weights), by_kind, seed)
                    history = played(scenario, {} if name == "off" else weights)
                    errors.append(error(scenario, history, weights))
                    ends.append(max(history.ended.values()))
            found[f"{name}, {'by kind' if by_kind else 'at random'}"] = {
                "share_error": round(mean(errors), 4), "makespan_s": round(mean(ends), 2)}
    for key, figures in found.items():
        free = found[f"off, {key.partition(', ')[2]}"]["makespan_s"]
        print(f"{key:<18} share off by {figures['share_error']:.3f}, "
              f"makespan {figures['makespan_s'] / free - 1:+.1%}")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
