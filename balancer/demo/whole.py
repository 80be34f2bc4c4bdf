"""The whole demo, from an empty folder to its figures."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from balancer.demo.course import Course
from balancer.demo.crew import crew
from balancer.demo.display import Display
from balancer.demo.disturb import capacity, planned, planned_ready
from balancer.demo.look import commands_sentence
from balancer.demo.place import Place
from balancer.demo.settings import LEDGER
from balancer.demo.stage import Options, Stage, stage
from balancer.demo.summary import Account, figures, show
from balancer.demo.tasks import block_seconds
from balancer.demo.watch import judge
from balancer.demo.workload import Workload, build
from balancer.settings import parse
from balancer.simulate.bound import optimizer

#: The command line's own entry, so that the report is the one that a user gets.
REPORT: Final = "import sys; from balancer.cli import main; sys.exit(main())"


def whole(make_app: Callable[[Place], Any], name: str, options: Options, console: Console) -> dict[str, Any]:
    """Run a demo and return its figures.

    `make_app` makes the demo's Celery app for a place; `name` is the module path under which
    children find the same app.

    Raises `BalancerError` when it cannot be set up (`SettingError` for an unknown strategy,
    `MissingExtraError` without scipy, `NoRedisError`); a task that is lost is a figure, no exception.
    """
    parse({"strategy": options.strategy})
    optimizer()
    members, block_s = crew(), block_seconds()
    plan = planned(
        members, options.bound_s, kill_beat=options.kill_beat, second_balancer=options.second_balancer
    )
    expected = capacity(members, planned_ready(members, plan), plan)
    say = Display(console, members)
    with _terminated_like_interrupted(), stage(make_app, name, options, block_s) as standing:
        say.say(standing.redis)
        if standing.flower_url:
            say.say(f"Flower, while the demo runs: {standing.flower_url}")
        elif options.flower:
            say.say("Flower is not installed (pip install 'celery-balancer[dashboard]'): no dashboard")
        say.say(commands_sentence(Path(standing.place.folder), name))
        say.say(f"starting beat and {sum(not member.joins_later for member in members)} workers …")
        standing.start(members)
        workload = build(options.jobs, options.bound_s, options.seed, expected, block_s)
        course = Course(standing, workload, members, plan, say)
        course.gather()
        say.say(_opening(options, workload))
        with say:
            course.run()
        account = _account(course, options, standing)
        standing.children.stop()
    account = _with_report(account, name, standing)
    found = figures(account)
    show(found, console)
    return found


def _opening(options: Options, workload: Workload) -> str:
    last = max(job.at_s for job in workload.jobs)
    return (
        f"{len(workload.jobs)} jobs, of the Philly trace and some of real CPU work, arrive over {last:.0f} s "
        f"at a fleet of 12 workers; GPUs are emulated at the speeds Gavel measured; no schedule could end "
        f"before about {workload.planned_bound_s:.0f} s; strategy {options.strategy}"
    )


def _account(course: Course, options: Options, standing: Stage) -> Account:
    """What was seen, taken while the book's Redis still stands; the book is kept as a file."""
    entries = standing.watch.entries()
    folder = Path(standing.place.folder)
    (folder / "book.jsonl").write_text("".join(json.dumps(asdict(entry)) + "\n" for entry in entries))
    results = course.results
    return Account(
        strategy=options.strategy, seed=options.seed, tasks=len(results.published), lost=len(results.lost()),
        failed=len(results.failed()), completions_s=results.completions_s(), makespan_s=course.makespan_s(),
        bound_s=course.bound_s(), verdict=judge(entries, results.published),
        disturbances=tuple(course.happened), clipped=course.workload.clipped,
        workers=len(standing.watch.readiness()), warm=options.warm, ledger=folder / LEDGER,
        flower=standing.flower_url,
    )


def _with_report(account: Account, name: str, standing: Stage) -> Account:
    """The account with the report that `celery balancer report` makes of the ledger, where it can."""
    if find_spec("altair") is None or not account.ledger.exists():
        return account
    report, log = account.ledger.with_name("report.html"), account.ledger.with_name("report.log")
    with log.open("wb") as output:
        made = subprocess.run(
            [sys.executable, "-c", REPORT, "-A", name, "report", "-o", str(report),
             "--db-path", str(account.ledger)],
            stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            env=standing.children.environment, check=False,
        )
    return replace(account, report=report if made.returncode == 0 else None)


@contextmanager
def _terminated_like_interrupted() -> Iterator[None]:
    """SIGTERM ends a demo as Ctrl-C does: with every child ended first."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
