"""Every scenario by every strategy, five seeds each, in virtual time: `make bench-scenarios`.

Prints a table, the seed document's five claims beside what is measured here, and on the last line one JSON
object: by scenario and strategy the means of the figures of `celery-balancer simulate --json`.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from math import exp, log
from statistics import mean
from typing import Final

from balancer.cli.simulate import outcome
from balancer.settings import STRATEGIES
from balancer.simulate.placement import DEMAND, allocated
from balancer.simulate.scenarios import SCENARIOS, by_name

SEEDS: Final = (1, 2, 3, 4, 5)

#: The scenarios of which the geometric mean of completions is told.
COMPARED: Final = ("spike", "gradual", "mixed", "bursty", "philly", "openb")

Figures = dict[str, float]
Key = tuple[str, str]

#: A strategy that begins without any run time.
COLD: Final = "priced, cold"


def one(case: tuple[str, str, int]) -> tuple[Key, Figures]:
    """One run."""
    name, strategy, seed = case
    result = outcome(by_name(name, seed), strategy.partition(",")[0], cold=strategy == COLD)
    over = result.makespan_s / result.bound_s
    return (name, strategy), {**result.document(), "over_bound": over}


def measure(names: Sequence[str], strategies: Sequence[str], seeds: Sequence[int]) -> dict[Key, Figures]:
    """Means over the seeds, run on every core."""
    cases = [(name, strategy, seed) for name in names for strategy in strategies for seed in seeds]
    found: dict[Key, list[Figures]] = {}
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for key, figures in pool.map(one, cases, chunksize=1):
            found.setdefault(key, []).append(figures)
    return {key: {name: mean(f[name] for f in many) for name in many[0]} for key, many in found.items()}


def draw(found: Mapping[Key, Figures]) -> None:
    print(f"{'scenario':<12} {'strategy':<13} {'makespan':>9} {'mean s':>7} {'p99 s':>7} {'busy':>5} "
          f"{'load σ':>6} {'kJ':>6} {'bound':>6} {'recovery':>8} {'moves':>9} {'left':>4}")
    for (name, strategy), f in found.items():
        moves = f"{f['moves_queued']:.0f}+{f['moves_running']:.0f}"
        print(f"{name:<12} {strategy:<13} {f['over_bound']:>9.3f} {f['mean_completion_s']:>7.1f} "
              f"{f['p99_completion_s']:>7.1f} {f['busy_share']:>5.2f} {f['load_stddev']:>6.3f} "
              f"{f['energy_j'] / 1e3:>6.0f} {f['bound_energy_j'] / 1e3:>6.0f} {f['rebalance_s']:>7.0f}s "
              f"{moves:>9} {f['unfinished']:>4.0f}")


def claims(found: Mapping[Key, Figures]) -> None:
    """The document's claims (its own numbers for its own baseline), and ours against `fixed`."""
    def pair(name: str, figure: str) -> tuple[float, float]:
        return found[name, "fixed"][figure], found[name, "priced"][figure]

    print("\nThe five claims of the first design: what it says, then fixed → priced here")
    print("  spike, seconds to rebalance: 240 → 110; here {:.0f} → {:.0f}".format(
        *pair("spike", "rebalance_s")))
    print("  gradual, deviation of loads: 18 % → 8 %; here {:.0%} → {:.0%}; ".format(
        *pair("gradual", "load_stddev"))
        + "on identical workers {:.1%} → {:.1%}".format(*pair("homogeneous", "load_stddev")))
    print("  mixed, utilisation: 65 % → 82 %; effective here {:.0%} → {:.0%}".format(
        *pair("mixed", "effective_utilisation")))
    before, after = pair("energy", "energy_j")
    slow, fast = pair("energy", "mean_completion_s")
    print(f"  energy: -22 %; here {after / before - 1:+.0%} at {fast / slow - 1:+.0%} mean completion")
    ratio = geometric(found)
    print(f"  completion: 15–25 % faster; here {1 - ratio:.0%} (geometric mean over {', '.join(COMPARED)})")


def geometric(found: Mapping[Key, Figures]) -> float:
    """Mean completion of priced over that of fixed, the geometric mean over scenarios."""
    ratios = [found[n, "priced"]["mean_completion_s"] / found[n, "fixed"]["mean_completion_s"]
              for n in COMPARED]
    return exp(mean(log(ratio) for ratio in ratios))


def placements() -> dict[str, float]:
    """FGD's experiment, one seed a policy: the share of openb's GPUs that is allocated."""
    print(f"\nAllocated GPUs of openb at {DEMAND:.0%} demand (FGD's paper: best fit 93.1 %, FGD 95.4 %)")
    found = {policy: allocated(policy, SEEDS[0]) for policy in ("best fit", "fgd", "pull")}
    for policy, share in found.items():
        print(f"  {policy:<9} {share:.1%}")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=len(SEEDS), help="seeds a cell")
    parser.add_argument("--scenarios", default=",".join(SCENARIOS))
    parser.add_argument("--strategies", default=",".join((*STRATEGIES, COLD.replace(", ", "+"))))
    asked = parser.parse_args()
    names = asked.scenarios.split(",")
    strategies = [s.replace("+", ", ") for s in asked.strategies.split(",")]
    found = measure(names, strategies, range(1, asked.seeds + 1))
    draw(found)
    if set(SCENARIOS) <= set(names) and {"fixed", "priced"} <= set(strategies):
        claims(found)
    document: dict[str, dict[str, Figures]] = {}
    shares = placements() if "openb" in names and asked.seeds >= len(SEEDS) else {}
    for (name, strategy), figures in found.items():
        document.setdefault(name, {})[strategy] = {k: round(v, 4) for k, v in figures.items()}
    print(json.dumps({**document, "allocated": shares}))


if __name__ == "__main__":
    main()
