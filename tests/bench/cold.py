"""What not knowing anything costs: the jobs of `make bench-peers` in the twin, `python -m tests.bench.cold`.

Each seed all at once and arriving, with the true run times as hints and without any. Virtual time has no
noise of processes, so that a percent shows. The last line is one JSON object: mean makespan over bound.
"""

from __future__ import annotations

import argparse
import json
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from math import sqrt
from statistics import mean, stdev
from typing import Final

from balancer.cli.simulate import outcome
from balancer.simulate.measures import Result
from balancer.simulate.scenario import Costs, Scenario
from tests.bench.peers.work import Shape, work

#: Jobs that are there at once are published one after the other all the same (s between two).
PUBLISH_S: Final = 0.0005

#: Checkpoints as those of the real jobs, and next to no state.
COSTS: Final = Costs(checkpoint_s=0.5, state_bytes=1_000)

Case = tuple[int, bool, bool]


def jobs(seed: int, *, arriving: bool) -> Scenario:
    """The scenario of a seed."""
    made = work(seed, Shape(), arriving=arriving)
    if not arriving:
        published = (replace(job, release_s=PUBLISH_S * i) for i, job in enumerate(made.jobs))
        made = replace(made, jobs=tuple(published))
    return replace(made, costs=COSTS)


def one(case: Case) -> Result:
    seed, arriving, cold = case
    return outcome(jobs(seed, arriving=arriving), "priced", cold=cold)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first", type=int, default=1, help="the first seed")
    asked = parser.parse_args()
    found = {}
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for arriving in (False, True):
            for cold in (False, True):
                cases = [(seed, arriving, cold) for seed in range(asked.first, asked.first + asked.seeds)]
                results = list(pool.map(one, cases))
                over = [r.makespan_s / r.bound_s for r in results]
                name = f"{'arriving' if arriving else 'at_once'}_{'cold' if cold else 'warm'}"
                error = stdev(over) / sqrt(len(over)) if len(over) > 1 else 0.0
                print(f"{name:<14} {mean(over):.3f} ± {error:.3f}, worst {max(over):.3f}; mean completion "
                      f"{mean(r.mean_completion_s for r in results):.2f} s", flush=True)
                found[name] = round(mean(over), 4)
    print(json.dumps({**found, "seeds": asked.seeds}))


if __name__ == "__main__":
    main()
