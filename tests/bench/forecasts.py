"""`make bench-forecasts`: how good the forecasters are on the loads of the twin's runs, and what they cost.

Every forecast that came due is held against what came, for all forecasters at once. The last line is one
JSON object: by load the mean absolute error of each forecaster and of what was told, the share of truths in
the 80 % interval told, and how often each was told; and the milliseconds of a tick's forecasts of 10,000
workers.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import numpy as np

from balancer.decide import strategies
from balancer.decide.forecast import Foresight, Records, look_ahead
from balancer.decide.foreseen import METHODS, Judged, Verdicts
from balancer.decide.series import Series
from balancer.model import Decision, Fleet
from balancer.settings import Settings, parse
from balancer.simulate.governor import Governor, Turn
from balancer.simulate.scenarios import by_name
from balancer.simulate.twin import Twin

SEEDS: Final = (1, 2, 3)
SCENARIOS: Final = ("gradual", "homogeneous", "bursty", "philly", "openb")

#: A run lasts minutes: the time between ticks and the time foreseen are a third of the defaults.
HURRIED: Final = {"check_interval": 10.0, "prediction_window": 1.0}

#: Workers and records of the timed tick.
WORKERS: Final = 10_000
DEPTHS: Final = (11, 64, 512)


class Watched(Governor):
    """A governor that keeps every verdict."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(strategies.by_name("priced"), settings)
        self.seen: list[Judged] = []

    def turn(self, fleet: Fleet, *, whole: bool) -> Turn:
        answer = super().turn(fleet, whole=whole)
        if isinstance(answer.chosen, Decision) and isinstance(answer.chosen.judged, Verdicts):
            self.seen += answer.chosen.judged.judged
        return answer


def of_scenario(name: str) -> Iterator[Judged]:
    """The verdicts of three runs of a scenario under the default strategy, run times known."""
    for seed in SEEDS:
        scenario = by_name(name, seed)
        hints = {profile: dict(by_class) for profile, by_class in scenario.seconds.items()}
        watched = Watched(parse({**scenario.settings, **HURRIED, "hints": hints}))
        twin = Twin(scenario, watched.strategy, watched.settings, 0)
        twin.governor = watched
        twin.run()
        yield from watched.seen


def of_loads(load: Callable[[float, np.random.Generator], float], hours: float = 2.0) -> Iterator[Judged]:
    """The verdicts on ten workers of a made-up load, at the default pace."""
    settings, kept, dice = Settings(), Foresight(), np.random.default_rng(1)
    names = [f"w{i}@bench" for i in range(10)]
    times: list[float] = []
    rows: list[list[float]] = []
    for tick in range(round(3600 * hours / settings.check_interval)):
        at = tick * settings.check_interval
        times = [*times, at][-11:]
        rows = [*rows, [load(at, dice) for _ in names]][-11:]
        table = np.clip(np.array(rows).T, 0.0, 1.0)
        kept, _, verdicts = look_ahead(
            kept, Records(times=times, series=Series(names, table), system=table.mean(axis=0)), settings)
        yield from verdicts.judged


MADE_UP: Final[dict[str, Callable[[float, np.random.Generator], float]]] = {
    "flat, 2 % noise": lambda at, dice: 0.6 + dice.normal(0, 0.02),
    "wave of 10 min": lambda at, dice: 0.5 + 0.35 * math.sin(at / 300 * math.pi) + dice.normal(0, 0.03),
    "4 of 15 min": lambda at, dice: (0.9 if at % 900 < 240 else 0.2) + dice.normal(0, 0.03),
}


def figures(judged: Sequence[Judged]) -> dict[str, Any]:
    """Errors, coverage and shares over these verdicts, the system's left out."""
    parts = [(one, one.rows()[one.rows() > 0]) for one in judged]
    truth = np.concatenate([one.truth[rows] for one, rows in parts])
    values = np.concatenate([one.forecasts.batch.values[:, rows] for one, rows in parts], axis=1)
    told = np.concatenate([one.forecasts.batch.told[rows] for one, rows in parts])
    sure = np.concatenate([one.forecasts.batch.confidences[rows] for one, rows in parts])
    inside = np.concatenate([one.inside()[rows] for one, rows in parts])
    errors = np.abs(values - truth)
    means = {name: float(np.nanmean(row)) if np.isfinite(row).any() else None
             for name, row in zip(METHODS, errors, strict=True)}
    chosen = errors[told, np.arange(truth.size)]
    confident = sure >= Settings().prediction_confidence
    return {
        "judged": truth.size, **{f"mae_{name}": rounded(value) for name, value in means.items()},
        "mae_told": rounded(float(chosen.mean())), "coverage": rounded(float(inside.mean())),
        **{f"told_{name}": rounded(float((told == i).mean())) for i, name in enumerate(METHODS)},
        "confident": rounded(float(confident.mean())),
        "mae_confident": rounded(float(chosen[confident].mean())) if confident.any() else None,
    }


def rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def milliseconds(depth: int, count: int = 25) -> float:
    """The shortest time of a tick's forecasts and judgements of all workers, with so many records."""
    settings, dice = Settings(check_interval=max(0.6, 300.0 / (depth - 1))), np.random.default_rng(2)
    names = tuple(f"w{i}@bench" for i in range(WORKERS))
    kept, best = Foresight(), math.inf
    level = dice.uniform(0.1, 0.9, WORKERS)
    table = np.asfortranarray(np.clip(level[:, None] + dice.normal(0, 0.03, (WORKERS, depth)), 0, 1))
    for tick in range(count):
        times = [settings.check_interval * (tick + i) for i in range(depth)]
        there = Records(times=times, series=Series(names, table), system=table.mean(axis=0))
        began = time.process_time()
        kept, _, _ = look_ahead(kept, there, settings)
        best = min(best, 1e3 * (time.process_time() - began)) if tick > 10 else best
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenario", action="append", choices=SCENARIOS)
    chosen = parser.parse_args().scenario or SCENARIOS
    found: dict[str, Any] = {}
    print(f"{'load':<16} {'judged':>6}  mean absolute error: {'line':>5} {'last':>5} {'damp':>5} {'seas':>5} "
          f"{'told':>5}  {'cover':>5}  told: {'line':>4} {'last':>4} {'damp':>4} {'seas':>4}  "
          f"confident, error then")
    for name in (*MADE_UP, *chosen):
        f = found[name] = figures(list(of_loads(MADE_UP[name]) if name in MADE_UP else of_scenario(name)))
        errors = " ".join(f"{'–' if v is None else format(v, '.3f'):>5}"
                          for v in (*(f[f"mae_{m}"] for m in METHODS), f["mae_told"]))
        shares = " ".join(f"{f[f'told_{m}']:>4.0%}" for m in METHODS)
        print(f"{name:<16} {f['judged']:>6} {'':>21}{errors}  {f['coverage']:>5.0%} {'':>6} {shares}  "
              f"{f['confident']:>9.0%}, {f['mae_confident']}", flush=True)
    found["forecast_ms"] = {str(depth): round(milliseconds(depth), 1) for depth in DEPTHS}
    for depth, ms in found["forecast_ms"].items():
        print(f"{WORKERS:,} workers, {depth} records: {ms:.1f} ms of processor time a tick (shortest)")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
