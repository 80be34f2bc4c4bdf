"""What it gives to know that a worker is better at one kind of work than its class.

`python -m tests.bench.specialists`: the jobs of `mixed` four times over, at once or arriving at load 0.9, on
18 workers of three models of which a third do one kind twice as fast and another at 0.7 of the speed, each
worker kinds of its own. Makespan over its bound and mean completion, with what was learned of single workers'
kinds and without; the balancer begins with the classes' true run times, and with nothing. The last line is
one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from random import Random
from statistics import mean, stdev
from types import MappingProxyType
from typing import Final

from balancer.cli.simulate import outcome
from balancer.decide import aptitude
from balancer.simulate.mix import MEAN_SIZE, Maker, gavel_mix
from balancer.simulate.scenario import Machine, Scenario
from balancer.simulate.scenarios import MEAN_S, TYPES, fleet

WORKERS: Final = 18
BETTER: Final = 2.0
WORSE: Final = 0.7

#: Seconds of the whole fleet's work, and the load at which it arrives.
WORK_S: Final = 960.0
LOAD: Final = 0.9


def specialised(machines: tuple[Machine, ...], chance: Random, better: float) -> tuple[Machine, ...]:
    """Every third machine of each model good at one kind and bad at another."""
    seen: dict[str, int] = {}
    made = []
    for machine in machines:
        name = machine.hardware.hardware_class
        seen[name] = seen.get(name, -1) + 1
        if seen[name] % 3 == 0:
            good, bad = chance.sample(TYPES, 2)
            machine = replace(machine, speeds=MappingProxyType({good: better, bad: WORSE}))
        made.append(machine)
    return tuple(made)


def scenario(arriving: bool, seed: int, better: float) -> Scenario:
    machines, mix = fleet(WORKERS, ("K80", "P100", "V100")), gavel_mix(TYPES, MEAN_S)
    chance, maker = Random(1_000 + seed), Maker(mix, Random(seed))
    full = mix.rate(machines) / MEAN_SIZE
    if arriving:
        maker.arrive(WORK_S, lambda _: LOAD * full, LOAD * full)
    else:
        for _ in range(round(WORK_S * full)):
            maker.add(chance.uniform(0.0, 20.0))
    if better:
        machines = specialised(machines, chance, better)
    return Scenario(name="specialists", about="a third of the workers differ in two kinds",
                    machines=machines, jobs=maker.sorted(), profiles=mix.profiles(), seconds=mix.seconds)


Case = tuple[bool, bool, bool, int, float]


def one(case: Case) -> dict[str, float]:
    """One run: arriving, cold, with what is known of single workers, the seed, how much better."""
    arriving, cold, known, seed, better = case
    made = scenario(arriving, seed, better)
    with unknown() if not known else nullcontext():
        result = outcome(made, "priced", cold=cold)
    return {"over_bound": result.makespan_s / result.bound_s, "mean_s": result.mean_completion_s,
            "p99_s": result.p99_completion_s, "moves": float(result.moves_running)}


@contextmanager
def unknown() -> Iterator[None]:
    """Nothing counts as special meanwhile."""
    told, aptitude.counts = aptitude.counts, lambda one, spread, *, already: False
    try:
        yield
    finally:
        aptitude.counts = told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--better", type=float, default=BETTER, help="0: there are no specialists")
    chosen = parser.parse_args()
    seeds, found = range(1, chosen.seeds + 1), {}
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for arriving, cold in ((False, False), (False, True), (True, False), (True, True)):
            name = f"{'arriving' if arriving else 'at once'}, {'cold' if cold else 'warm'}"
            cases = [(arriving, cold, known, seed, chosen.better) for known in (False, True)
                     for seed in seeds]
            figures = list(pool.map(one, cases))
            without, known = figures[:chosen.seeds], figures[chosen.seeds:]
            found[name] = {key: compared([w[key] for w in without], [k[key] for k in known])
                           for key in without[0]}
            for key, each in found[name].items():
                print(f"{name:<15} {key:<10} {each['without']:8.3f} → {each['known']:8.3f}   "
                      f"{each['ratio'] - 1:+7.2%} ± {each['error']:.2%}", flush=True)
    print(json.dumps(found))


def compared(without: list[float], known: list[float]) -> dict[str, float]:
    """Both means, and the mean of the pairs' ratios with its standard error."""
    ratios = [k / w for w, k in zip(without, known, strict=True) if w > 0] or [1.0]
    error = stdev(ratios) / len(ratios) ** 0.5 if len(ratios) > 1 else 0.0
    return {"without": mean(without), "known": mean(known), "ratio": mean(ratios), "error": error}


if __name__ == "__main__":
    main()
