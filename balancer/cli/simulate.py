"""`celery-balancer simulate`: what a strategy would make of a scenario, a trace or the fleet's own past.

No fleet and no Redis are needed. One JSON object with `--json`; the same seed gives the same figures.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Console
from rich.markup import escape

from balancer import settings as options
from balancer import wiring
from balancer.adapters.duckdb_ledger import read
from balancer.cli.screen import console, share, table
from balancer.errors import BalancerError
from balancer.report.words import count
from balancer.simulate import given, scenarios
from balancer.simulate.measures import Result, judge
from balancer.simulate.replay import from_ledger
from balancer.simulate.scenario import Scenario
from balancer.simulate.twin import play

#: A file that is there.
FILE: Final = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.option("--scenario", "name", default="mixed", show_default=True,
              help=f"One of {', '.join(scenarios.SCENARIOS)}.")
@click.option("--strategy", default="priced", show_default=True,
              help=f"One of {', '.join(options.STRATEGIES)}, or an import path (module:Class).")
@click.option("--cold", is_flag=True, help="The balancer knows no run times beforehand.")
@click.option("--seed", type=int, default=1, show_default=True, help="Chooses what is random.")
@click.option("--workers", type=click.IntRange(1, given.WORKERS_LIMIT), help="Workers of the fleet.")
@click.option("--trace", type=FILE, help="Jobs of your own: arrival_s, job_type, scale_factor, total_steps.")
@click.option("--speeds", type=FILE, help="Their speeds: job_type, scale_factor, then a column a class.")
@click.option("--from-ledger", "ledger", type=FILE, help="Replay the runs of a ledger.")
@click.option("--add", "more", multiple=True, metavar="CLASS=N",
              help="N more workers of a class (or fewer: -N).")
@click.option("--set", "changed", multiple=True, metavar="OPTION=VALUE",
              help="Another option of the balancer.")
@click.option("--ahead", type=click.IntRange(0, 1000), default=0, show_default=True,
              help="Messages that a worker reserves beyond its slots.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for programs.")
def simulate(name: str, seed: int, workers: int | None, trace: Path | None, speeds: Path | None,
             ledger: Path | None, more: Sequence[str], as_json: bool, **given_options: Any) -> None:
    """Play a workload in virtual time with the balancer's own decisions, beside what nobody can beat."""
    scenario = _scenario(name, seed, workers, trace, speeds, ledger)
    if more:
        scenario = given.with_more(scenario, dict(_count(text) for text in more))
    result = outcome(scenario, **given_options)
    if as_json:
        click.echo(json.dumps(result.document()))
    else:
        draw(scenario, given_options, result, console())


def outcome(scenario: Scenario, strategy: str, *, cold: bool = False, changed: Sequence[str] = (),
            ahead: int = 0) -> Result:
    """The figures of one run. Warm, the balancer begins with the true mean run times as its hints."""
    values: dict[str, Any] = {**scenario.settings, "strategy": strategy,
                              **dict(_pair(text) for text in changed)}
    if not cold:
        values.setdefault("hints", {p: dict(by_class) for p, by_class in scenario.seconds.items()})
    chosen = options.parse(values)
    return judge(scenario, play(scenario, wiring.strategy_of(chosen), chosen, ahead=ahead))


def _scenario(name: str, seed: int, workers: int | None, trace: Path | None, speeds: Path | None,
              ledger: Path | None) -> Scenario:
    """What is asked for: the replay of a ledger, a trace with its speeds, or a scenario by name."""
    if (trace is None) != (speeds is None):
        raise click.UsageError("--trace and --speeds go together: a trace tells steps, speeds what they take")
    if ledger is not None:
        if trace is not None or workers is not None:
            raise click.UsageError("--from-ledger brings its own jobs and workers; --add adds some")
        return from_ledger(ledger, lambda statement: read(str(ledger), statement))
    if trace is not None and speeds is not None:
        return given.from_files(trace, speeds, seed, workers)
    return scenarios.by_name(name, seed, workers)


def _pair(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    name = name.removeprefix(options.PREFIX)
    if not sign or not name:
        raise BalancerError(f"--set {text}: OPTION=VALUE was expected, such as check_interval=5")
    if name == "strategy":
        raise BalancerError(f"--set {text}: the strategy is chosen by --strategy")
    return name, value


def _count(text: str) -> tuple[str, int]:
    name, sign, value = text.rpartition("=")
    try:
        return name, int(value) if sign and name else int("no number")
    except ValueError:
        raise BalancerError(f"--add {text}: CLASS=N was expected, such as cuda-V100=2") from None


def draw(scenario: Scenario, chosen: dict[str, Any], result: Result, out: Console) -> None:
    """What was simulated, then each figure with what it is measured against."""
    classes: dict[str, int] = {}
    for machine in scenario.machines:
        name = machine.hardware.hardware_class
        classes[name] = classes.get(name, 0) + 1
    fleet = ", ".join(f"{number} {name}" for name, number in sorted(classes.items()))
    known = "nothing known beforehand" if chosen["cold"] else "run times known beforehand"
    out.print(f"[bold]{escape(scenario.name)}[/bold]: {escape(scenario.about)}")
    out.print(f"{count(len(scenario.jobs), 'job')} on {escape(fleet)}; "
              f"strategy {escape(chosen['strategy'])}, {known}")
    out.print(table("", ("figure", "value", "beside"), _rows(result)))
    if result.unfinished:
        out.print(f"[bold]{count(result.unfinished, 'job')} did not end[/bold]: counted as ended at last.")


def _rows(r: Result) -> list[tuple[str, str, str]]:
    over = r.makespan_s / r.bound_s if r.bound_s else 1.0
    return [
        ("makespan", f"{r.makespan_s:.1f} s", f"{over:.3f} of {r.bound_s:.1f} s, which nobody can beat"),
        ("completion, mean", f"{r.mean_completion_s:.1f} s", "from arrival to end"),
        ("completion, p99", f"{r.p99_completion_s:.1f} s", ""),
        ("recovery", f"{r.rebalance_s:.0f} s",
         "from the spike, or the start, until no idle slot would do better for what waits"),
        ("effective utilisation", share(r.effective_utilisation), "bound over makespan"),
        ("busy share of slots", share(r.busy_share), "also high where slow slots do the wrong work"),
        ("deviation of loads", share(r.load_stddev), "between workers, by the minute"),
        ("energy", f"{r.energy_j / 1e3:.0f} kJ", f"nobody below {r.bound_energy_j / 1e3:.0f} kJ"),
        ("moves", f"{r.moves_queued} waiting, {r.moves_running} running", ""),
    ]
