"""`celery -A workers.demo_app balancer demo`: a disturbed fleet on this machine, and what came of it.

The last line of its output is one JSON object. Exit status: 0 when every task finished once and
right, 1 when not, 2 when the demo could not be set up, 130 when it was interrupted.
"""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Console

from balancer.errors import BalancerError
from balancer.settings import STRATEGIES

#: The demo brings its own Celery app, found by name: this package imports nothing of `workers`.
APP: Final = "workers.demo_app"


@click.command("demo", short_help="Start a whole fleet here, disturb it, and judge it.")
@click.option("--seconds", default=120.0, show_default=True, type=click.FloatRange(10, 3600),
              help="About how long it takes; the work is scaled so that its lower bound is half of this.")
@click.option("--jobs", default=320, show_default=True, type=click.IntRange(10, 1900),
              help="Jobs, from the Philly trace and a few of real CPU work.")
@click.option("--strategy", default="priced", show_default=True,
              help=f"How to decide: {', '.join(STRATEGIES)} or module:Class.")
@click.option("--seed", default=0, show_default=True, help="Which slice of the trace.")
@click.option("--json", "json_file", type=click.Path(dir_okay=False, path_type=Path),
              help="Write the JSON object to this file too.")
@click.option("--keep", "folder", default="demo-out", show_default=True,
              type=click.Path(file_okay=False, path_type=Path), help="Folder of ledger, report and logs.")
@click.option("--warm/--cold", default=True, show_default=True,
              help="Give the balancer the measured speeds as hints, or let it learn them.")
@click.option("--kill-beat", is_flag=True, help="Kill -9 beat half-way: the fleet must finish without it.")
@click.option("--second-balancer", is_flag=True, help="Start a second beat beside the first.")
@click.option("--flower/--no-flower", default=True, show_default=True, help="Start Flower beside the fleet.")
@click.option("--redis", "redis_url", help="Use this (empty) Redis instead of a private one that is started.")
def demo(json_file: Path | None, **given: Any) -> None:
    """Start Redis, beat, Flower and twelve workers of four classes, send them real jobs, slow one
    worker, kill another, let two join, and say what came of it. GPUs are emulated at measured speeds."""
    from balancer.demo.stage import Options
    from balancer.demo.whole import whole

    _writable(given["folder"], json_file)
    try:
        options = Options(**given)
        found = whole(import_module(APP).make_app, APP, options, Console())
    except BalancerError as error:
        click.echo(f"demo: {error}", err=True)
        sys.exit(2)
    except KeyboardInterrupt:
        click.echo("demo: interrupted; every process it started was ended", err=True)
        sys.exit(130)
    text = json.dumps(found)
    if json_file is not None:
        json_file.write_text(text + "\n")
    click.echo(text)
    sys.exit(0 if not (found["lost"] or found["finished_twice"] or found["failed"]) else 1)


def _writable(folder: Path, json_file: Path | None) -> None:
    """Refuse places that cannot be written before anything starts."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if json_file is not None:
            json_file.touch()
    except OSError as error:
        raise click.UsageError(f"cannot write there: {error}") from error
