"""The twin beside real workers on the same small workload: `python -m tests.bench.twin`.

The same jobs, machines and true mean run times as hints, by `static` and by `priced`: once in virtual time,
once by Celery workers that sleep for as long as the twin's jobs run. The last line is one JSON object:
medians over the seeds of real over twin, of the makespan and of the mean completion.
"""

from __future__ import annotations

import argparse
import json
import os
from collections import Counter
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Final

from balancer import settings as options
from balancer import wiring
from balancer.simulate.measures import bound_of
from balancer.simulate.scenario import Scenario
from balancer.simulate.twin import play
from tests.bench.peers.losses import losses
from tests.bench.peers.ours import ours
from tests.bench.peers.passes import Pass, give
from tests.bench.peers.work import Shape, work

STRATEGIES: Final = ("static", "priced")


def simulated(scenario: Scenario, strategy: str) -> Pass:
    """In virtual time."""
    hints = {profile: dict(by_class) for profile, by_class in scenario.seconds.items()}
    chosen = options.parse({"strategy": strategy, "hints": hints})
    history = play(scenario, wiring.strategy_of(chosen), chosen)
    return Pass(scenario=scenario, spans=tuple(history.spans), bound_s=bound_of(scenario))


def real(scenario: Scenario, strategy: str, passes: int = 1) -> Pass:
    """On workers of its own: the last of so many passes. In the first the lanes are new and have no order
    until the balancer's next turn; the twin's are there from the beginning."""
    with TemporaryDirectory(prefix="twin-") as name, ours(
            f"ours-{strategy}", scenario, Path(name), hinted=True) as submit:
        return [give(scenario, submit, Path(name), f"{strategy}-{n}") for n in range(passes)][-1]


def placed(took: Pass) -> Counter[tuple[str, str]]:
    """Jobs that ended by kind and hardware class."""
    classes = {m.name: m.hardware.hardware_class for m in took.scenario.machines}
    kinds = {job.task_id: job.profile for job in took.scenario.jobs}
    return Counter((kinds[span.task_id], classes[span.worker]) for span in took.spans if span.done)


def alike(one: Pass, other: Pass) -> float:
    """The share of the jobs that both have on the same class, kind by kind."""
    return sum((placed(one) & placed(other)).values()) / len(one.scenario.jobs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=60)
    parser.add_argument("--bound", type=float, default=10.0, help="seconds that no schedule can beat")
    parser.add_argument("--strategies", default=",".join(STRATEGIES))
    parser.add_argument("--arriving", action="store_true", help="jobs arrive over two thirds of the bound")
    parser.add_argument("--explain", action="store_true", help="where each lost its seconds")
    asked = parser.parse_args()
    shape = Shape(jobs=asked.jobs, workers=6, bound_s=asked.bound)
    found: dict[str, list[tuple[float, float, float]]] = {}
    for seed in range(1, asked.seeds + 1):
        scenario = work(seed, shape, arriving=asked.arriving)
        for strategy in asked.strategies.split(","):
            load, pair = os.getloadavg()[0], (real(scenario, strategy, 2), simulated(scenario, strategy))
            longer = pair[0].over_bound / pair[1].over_bound
            later, same = pair[0].mean_s / pair[1].mean_s, alike(*pair)
            found.setdefault(strategy, []).append((longer, later, same))
            print(f"seed {seed}  {strategy:<8} over bound: real {pair[0].over_bound:.3f}, twin "
                  f"{pair[1].over_bound:.3f}; real over twin: makespan {longer:.3f}, mean completion "
                  f"{later:.3f}; placed alike {same:.0%}; load {load:.1f}", flush=True)
            for name, one in zip(("real", "twin"), pair if asked.explain else (), strict=False):
                print(f"    {name} lost: {losses(scenario, one.spans).sentence()}")
    out = {}
    for strategy, many in found.items():
        for name, column in zip(("makespan", "mean_completion", "placed_alike"), zip(*many, strict=True),
                                strict=True):
            out[f"{strategy}_{name}"] = round(median(column), 4)
    print(json.dumps({**out, "seeds": asked.seeds}))


if __name__ == "__main__":
    main()
