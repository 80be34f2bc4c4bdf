"""The same jobs on real processes, by every system in turn: `python -m tests.bench.peers`.

Workers are real; the GPUs are emulated (a job sleeps for as long as it would take there, by Gavel's measured
speeds). Ours and the central dispatcher get their work twice: `cold` knows nothing beforehand, `warm` is the
next pass of the same fleet. The last line is one JSON object: medians over the rounds of makespan over bound.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from statistics import median
from typing import Any, Final

from tests.bench.peers.losses import losses
from tests.bench.peers.passes import SYSTEMS, Pass, give, standing
from tests.bench.peers.work import Shape, work

#: Systems that learn: a cold pass, then a warm one.
LEARNING: Final = ("ours", "central")

#: What is not installed with the project, by system.
NEEDS: Final = {"dask": "distributed", "ray": "ray"}

Passes = dict[str, list[Pass]]


def present(names: Sequence[str]) -> list[str]:
    """The systems of these names that are installed."""
    missing = [n for n in names if n in NEEDS and find_spec(NEEDS[n]) is None]
    for name in missing:
        print(f"{name}: skipped, {NEEDS[name]} is not installed (pip install 'celery-balancer[peers]')")
    return [name for name in names if name not in missing]


def labels(name: str, *, arriving: bool) -> tuple[str, ...]:
    """The keys of a system's passes, in their order. `ours_arriving` is the cold one."""
    end = "_arriving" if arriving else ""
    if name not in LEARNING:
        return (f"{name}{end}",)
    return (f"{name}_arriving", f"{name}_arriving_warm") if arriving else (f"{name}_cold", f"{name}_warm")


def one(name: str, seed: int, shape: Shape, *, arriving: bool, explain: bool) -> Passes:
    """All passes of a system, on processes of its own."""
    scenario, found = work(seed, shape, arriving=arriving), {}
    began = time.monotonic()
    with standing(name, scenario) as (submit, folder):
        start_s = time.monotonic() - began
        for label in labels(name, arriving=arriving):
            loads, took = os.getloadavg(), give(scenario, submit, folder, label)
            found[label] = [took]
            print(f"  seed {seed}  {label:<22} {took.over_bound:6.3f} of {took.bound_s:5.1f} s   mean "
                  f"{took.mean_s:5.1f} s  p99 {took.p99_s:5.1f} s  moved {took.left:2d}   "
                  f"start {start_s:4.1f} s  load {loads[0]:.1f}", flush=True)
            if explain:
                print(f"      lost: {losses(scenario, took.spans).sentence()}", flush=True)
    return found


def document(found: Mapping[str, Sequence[Pass]]) -> dict[str, Any]:
    """For the last line: the ratio by pass, then its spread, mean and p99."""
    ratio = {label: [p.over_bound for p in many] for label, many in found.items()}
    out: dict[str, Any] = {label: round(median(ratios), 4) for label, ratios in ratio.items()}
    for label, many in found.items():
        ratios = ratio[label]
        out[f"{label}_least_most"] = [round(min(ratios), 4), round(max(ratios), 4)]
        out[f"{label}_mean_s"] = round(median(p.mean_s for p in many), 2)
        out[f"{label}_p99_s"] = round(median(p.p99_s for p in many), 2)
    return out


def draw(found: Mapping[str, Sequence[Pass]]) -> None:
    print(f"\n{'pass':<22} {'makespan over bound':>20} {'least–most':>14} {'mean s':>7} {'p99 s':>6} "
          f"{'rounds':>6}")
    for label, many in sorted(found.items(), key=lambda item: median(p.over_bound for p in item[1])):
        ratios = [p.over_bound for p in many]
        print(f"{label:<22} {median(ratios):>20.3f} {f'{min(ratios):.3f}–{max(ratios):.3f}':>14} "
              f"{median(p.mean_s for p in many):>7.1f} {median(p.p99_s for p in many):>6.1f} {len(many):>6}")


def turns(asked: argparse.Namespace, names: Sequence[str], number: int) -> list[tuple[str, bool]]:
    """What a round runs: (system, whether work arrives). Odd and even rounds go in opposite order."""
    near = [n for n in names if n in LEARNING]
    always = [(n, a) for n in near for a in (False, True)]
    others = [(n, a) for n in names if n not in near for a in (False, True)]
    chosen = [t for t in (*always, *others) if asked.arriving == "yes" or not t[1]]
    if asked.arriving == "some":
        # The peers' work arrives in every second round only, or a run would take an hour.
        chosen = [*always, *((n, a) for n, a in others if a == bool(number % 2))]
    return chosen if number % 2 == 0 else chosen[::-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--systems", default=",".join(SYSTEMS), help="in turn, of: " + ", ".join(SYSTEMS))
    parser.add_argument("--rounds", type=int, default=3, help="seeds")
    parser.add_argument("--seed", type=int, default=1, help="the first")
    parser.add_argument("--arriving", choices=("some", "yes", "no"), default="some",
                        help="work that arrives over time: some (peers every second round), yes, no")
    parser.add_argument("--jobs", type=int, default=400)
    parser.add_argument("--bound", type=float, default=30.0, help="seconds that no schedule can beat")
    parser.add_argument("--wide", action="store_true", help="sizes exponential, not about alike")
    parser.add_argument("--explain", action="store_true", help="where each pass lost its seconds")
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))
    shape = Shape(jobs=asked.jobs, bound_s=asked.bound, wide=asked.wide)
    names = present(asked.systems.split(","))
    print(f"{shape.jobs} jobs of 4 kinds, {shape.workers} one-slot workers, 4 each of K80, P100 and V100 "
          f"(EMULATED: a job sleeps for its time on that class, by Gavel), bound {shape.bound_s:g} s, "
          f"ours on balanced-redis with its defaults; {os.cpu_count()} cores", flush=True)
    began, found = time.monotonic(), Passes()
    for number in range(asked.rounds):
        for name, arriving in turns(asked, names, number):
            try:
                passes = one(name, asked.seed + number, shape, arriving=arriving, explain=asked.explain)
            except (AssertionError, OSError, RuntimeError) as error:
                print(f"  seed {asked.seed + number}  {name}: FAILED, {error}", flush=True)
                continue
            for label, many in passes.items():
                found.setdefault(label, []).extend(many)
    draw(found)
    minutes = (time.monotonic() - began) / 60
    print(f"{minutes:.1f} minutes")
    print(json.dumps({**document(found), "rounds": asked.rounds, "minutes": round(minutes, 1)}))


if __name__ == "__main__":
    main()
