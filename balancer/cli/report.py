"""`celery balancer report`, `analyze` and `visualize`: the ledger as a page or a picture.

Here the reader of the ledger and the report meet; neither knows the other.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from balancer import wiring
from balancer.adapters.duckdb_ledger import read
from balancer.errors import BalancerError
from balancer.report.charts import METRICS, Picture, build, metric
from balancer.report.page import picture_page, report_page
from balancer.report.questions import Ask, window
from balancer.report.render import SUFFIXES, image

#: Where the ledger is when neither option nor setting says so.
DEFAULT_PATH = "./benchmark_db.duckdb"

_METRIC_HELP = f"What to draw: {', '.join(METRICS)}."

_db_path = click.option("--db-path", metavar="FILE", help="The ledger; else the app's balancer_db_path.")
_days = click.option(
    "--days", type=click.FloatRange(min=0, min_open=True), help="Only the last N days; else all there is."
)


def _plain_errors(command: Callable[..., None]) -> Callable[..., None]:
    """What is wrong as one sentence, without a traceback."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except BalancerError as error:
            raise click.ClickException(str(error)) from error
        except OSError as error:
            raise click.ClickException(f"cannot write: {error}") from error

    return run


@click.command()
@click.option("-o", "--output", default="report.html", show_default=True, help="The page, .html.")
@_db_path
@_days
@click.pass_context
@_plain_errors
def report(ctx: click.Context, output: str, db_path: str | None, days: float | None) -> None:
    """Write a page about all that is in the ledger; it opens offline."""
    _suffix(output, (".html",))
    path, now = _ledger(ctx, db_path), time.time()
    ask = _reader(path)
    page = report_page(ask, window(ask, days=days, now=now), ledger=path, now=now)
    _write(output, page.encode())


@click.command()
@click.option("--metric", "name", required=True, help=_METRIC_HELP)
@click.option("-o", "--output", help="The picture, .png, .svg or .html; else METRIC.png.")
@_db_path
@_days
@click.pass_context
@_plain_errors
def analyze(
    ctx: click.Context, name: str, output: str | None, db_path: str | None, days: float | None
) -> None:
    """Draw one metric of the ledger. The suffix of the output says what it becomes."""
    _draw(ctx, name, output, ".png", db_path, days, interactive=False)


@click.command()
@click.option("--metric", "name", required=True, help=_METRIC_HELP)
@click.option("--interactive", is_flag=True, help="Zoom and pan in the picture; needs .html.")
@click.option("-o", "--output", help="The picture, .html, .png or .svg; else METRIC.html.")
@_db_path
@_days
@click.pass_context
@_plain_errors
def visualize(
    ctx: click.Context,
    name: str,
    interactive: bool,
    output: str | None,
    db_path: str | None,
    days: float | None,
) -> None:
    """Draw one metric of the ledger as a page to look around in."""
    _draw(ctx, name, output, ".html", db_path, days, interactive=interactive)


def _draw(
    ctx: click.Context,
    name: str,
    output: str | None,
    suffix: str,
    db_path: str | None,
    days: float | None,
    *,
    interactive: bool,
) -> None:
    wanted = metric(name)
    output = output or f"{wanted.name}{suffix}"
    suffix = _suffix(output, SUFFIXES)
    if interactive and suffix != ".html":
        raise BalancerError(
            f"only a page can be interactive: give --output a name that ends in .html, not '{output}'"
        )
    path, now = _ledger(ctx, db_path), time.time()
    ask = _reader(path)
    span = window(ask, days=days, now=now)
    picture: Picture | None = build(wanted.name, ask, span, interactive=interactive) if span else None
    if picture is None:
        raise BalancerError(f"there is nothing to draw in the ledger {path}. {wanted.absent}")
    if suffix == ".html":
        content = picture_page(wanted.name, picture.spec(), ledger=path, now=now).encode()
    else:
        content = image(picture.spec(), suffix)
    _write(output, content)


def _ledger(ctx: click.Context, given: str | None) -> str:
    """The ledger's path: the option, else the app's setting, else the default."""
    if given:
        return given
    app = getattr(ctx.obj, "app", None)
    return DEFAULT_PATH if app is None else wiring.settings_of(app).db_path


def _reader(path: str) -> Ask:
    return lambda statement, params: read(path, statement, params)


def _suffix(output: str, allowed: tuple[str, ...]) -> str:
    suffix = Path(output).suffix.lower()
    if suffix not in allowed:
        raise BalancerError(f"cannot write '{output}': a name must end in {' or '.join(allowed)}")
    return suffix


def _write(output: str, content: bytes) -> None:
    Path(output).write_bytes(content)
    click.echo(f"{output} written ({len(content) / 1024:,.0f} KiB)")
