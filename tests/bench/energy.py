"""What frugality costs and saves at load 0.5, beside what nobody can beat: `make bench-energy`.

The scenario `energy` by several slacks of seconds, against `fixed` and against `priced` with no slack. Beside
each row, the least energy of any schedule with that mean completion: a fluid program in which no task ever
waits and every device may be busy all the time. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from statistics import mean
from typing import Final

import numpy as np
from scipy.optimize import linprog

from balancer.cli.simulate import outcome
from balancer.simulate.measures import Result
from balancer.simulate.scenario import Scenario
from balancer.simulate.scenarios import by_name

SLACKS: Final = (0, 5, 10, 20, 40)


def least_j(scenario: Scenario, mean_s: float, makespan_s: float) -> float:
    """Joules that no schedule of this makespan can go below whose mean completion is `mean_s` (inf: none is
    so fast): work split over the classes, least joules above idle, each task's time its run alone."""
    machines, total = scenario.machines, len(scenario.jobs)
    classes = sorted({m.hardware.hardware_class for m in machines})
    work = {p: sum(job.work for job in scenario.jobs if job.profile == p) for p in scenario.seconds}
    pairs = [(p, h) for p in work for h in classes if h in scenario.seconds[p]]
    seconds = np.array([work[p] * scenario.seconds[p][h] for p, h in pairs])
    watts = {m.hardware.hardware_class: (m.busy_w - m.idle_w) / m.slots for m in machines}
    slots = [sum(m.slots for m in machines if m.hardware.hardware_class == h) for h in classes]
    here = np.array([[h == name for _, h in pairs] for name in classes], dtype=float)
    found = linprog(
        seconds * np.array([watts[h] for _, h in pairs]),
        A_ub=np.vstack([seconds / total, here * seconds]), b_ub=[mean_s, *(n * makespan_s for n in slots)],
        A_eq=np.array([[p == name for p, _ in pairs] for name in work], dtype=float), b_eq=np.ones(len(work)),
    )
    return float(found.fun) + sum(m.idle_w for m in machines) * makespan_s if found.status == 0 else np.inf


def row(name: str, found: Sequence[Result], least: Sequence[float],
        against: Sequence[Sequence[Result]]) -> str:
    def ratio(one: Sequence[Result], figure: str) -> str:
        return f"{mean(getattr(r, figure) for r in found) / mean(getattr(r, figure) for r in one) - 1:+.1%}"

    joules = mean(r.energy_j for r in found)
    compared = "".join(f"{ratio(one, 'energy_j'):>8} at {ratio(one, 'mean_completion_s'):>7}"
                       for one in against)
    return (f"{name:<16}{joules / 1e3:>6.0f}{joules / mean(r.bound_energy_j for r in found):>8.2f}"
            f"{joules / mean(least):>10.2f}{mean(r.mean_completion_s for r in found):>8.2f}{compared}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    seeds = range(1, parser.parse_args().seeds + 1)
    scenarios = [by_name("energy", seed) for seed in seeds]
    fixed = [outcome(s, "fixed") for s in scenarios]
    priced = {slack: [outcome(s, "priced", changed=(f"energy_slack={slack}",)) for s in scenarios]
              for slack in SLACKS}
    print(f"{'':<16}{'kJ':>6}{'/bound':>8}{'/least':>10}{'mean s':>8}"
          f"{'against fixed':>19}{'against priced':>19}")
    rows = {"fixed": fixed, **{f"priced, {slack} s": found for slack, found in priced.items()}}
    for name, found in rows.items():
        least = [least_j(s, r.mean_completion_s, r.makespan_s) for s, r in zip(scenarios, found, strict=True)]
        print(row(name, found, least, (fixed, priced[0])))
    blind, tenth = priced[0], 1.1
    bound = [least_j(s, tenth * r.mean_completion_s, r.makespan_s)
             for s, r in zip(scenarios, blind, strict=True)]
    floor = mean(bound) / mean(r.energy_j for r in blind) - 1
    print(f"no schedule saves more than {-floor:.1%} against priced at {tenth - 1:.0%} more mean completion")
    document = {name: {"energy_j": round(mean(r.energy_j for r in found)),
                       "mean_completion_s": round(mean(r.mean_completion_s for r in found), 3)}
                for name, found in rows.items()}
    print(json.dumps({**document, "least_against_priced": round(floor, 4)}))


if __name__ == "__main__":
    main()
