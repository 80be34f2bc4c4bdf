"""`celery -A PROJ balancer …` and the console script `celery-balancer -A PROJ …`: one group.

Each command is a file, loaded when it is used, so that a missing extra or a broken command takes
nothing else with it. Whatever is wrong on purpose (`BalancerError`) is said in one sentence.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any, Final

import click
from celery.app.utils import find_app
from celery.bin.base import CLIContext

from balancer import __version__
from balancer.errors import BalancerError, StoreError
from balancer.option_values import near

#: Each command: where it is, what it is for, and the extra it may need.
COMMANDS: Final[dict[str, tuple[str, str, str]]] = {
    "status": ("balancer.cli.status:status", "The fleet now: workers, lanes, orders, moves, the lease.", ""),
    "explain": ("balancer.cli.explain:explain", "One task: where it is, its estimates, its moves, why.", ""),
    "plan": ("balancer.cli.plan:plan", "What would be moved now, what not, and why; changes nothing.", ""),
    "run": ("balancer.cli.run:run", "Run the balancer in the foreground, without beat.", ""),
    "stats": ("balancer.cli.stats:stats", "The balancer's statistics as JSON.", ""),
    "cancel": ("balancer.cli.cancel:cancel", "Cancel tasks for good, by id, wherever they are; undo it.", ""),
    "failed": ("balancer.cli.failed:failed", "Tasks that were set aside: they ended what ran them.", ""),
    "resend": ("balancer.cli.failed:resend", "Send tasks that were set aside again.", ""),
    "options": ("balancer.cli.options:options", "Every option: its value now, default and range.", ""),
    "drain": ("balancer.cli.drain:drain", "Empty a worker: hand on what it holds, then stop it.", ""),
    "report": ("balancer.cli.report:report", "Write a page about all that is in the ledger.", "report"),
    "analyze": ("balancer.cli.report:analyze", "Draw one metric of the ledger.", "report"),
    "visualize": ("balancer.cli.report:visualize", "Draw one metric to zoom and pan.", "report"),
    "simulate": ("balancer.cli.simulate:simulate", "What a strategy would make of a workload.", "demo"),
    "demo": ("balancer.cli.demo:demo", "Start a whole fleet here, disturb it, and judge it.", "demo"),
}

#: Commands that need no fleet, and so no app: what they read can be named.
WITHOUT_APP: Final = ("simulate", "report", "analyze", "visualize")

#: The way out when the fleet's Redis does not answer.
NO_REDIS: Final = ("Is it running, and is it the fleet's? It is the app's broker_url, or balancer_redis_url "
                   "where that is set.")


class Commands(click.Group):
    """The group's commands by name, loaded late."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        where, _, extra = COMMANDS[cmd_name]
        module, _, attribute = where.partition(":")
        try:
            found: click.Command = getattr(import_module(module), attribute)
        except ImportError as error:
            return _unavailable(cmd_name, error, extra)
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """From the table, so that help loads none of them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, help) for name, (_, help, _) in COMMANDS.items()])

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            raise click.UsageError(f"there is no command {args[0]!r}{near(args[0], COMMANDS)}", ctx=ctx)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BalancerError as error:
            said = str(error)
            silent = isinstance(error, StoreError) and "answer" in said
            raise click.ClickException(f"{said.rstrip('.')}.\n{NO_REDIS}" if silent else said) from error


def _unavailable(name: str, error: ImportError, extra: str) -> click.Command:
    """A command that says what it lacks."""
    lacks = f"the command {name!r} cannot be loaded: {error}"
    if extra:
        lacks += f". It may need an extra: pip install 'celery-balancer[{extra}]'"

    def refuse() -> None:
        raise click.ClickException(lacks)

    return click.Command(name, callback=refuse, context_settings={"ignore_unknown_options": True},
                         params=[click.Argument(["args"], nargs=-1, expose_value=False)])


@click.group("balancer", cls=Commands)
def balancer() -> None:
    """The adaptive load balancer of a Celery fleet."""


@click.group("celery-balancer", cls=Commands)
@click.version_option(__version__, prog_name="celery-balancer")
@click.option("-A", "--app", envvar=("APP", "CELERY_APP"),
              help=f"The Celery app, as for `celery -A`; needed by all but {', '.join(WITHOUT_APP)}.")
@click.option("--workdir", type=click.Path(exists=True, file_okay=False, path_type=Path),
              help="Change to this folder first.")
@click.pass_context
def standalone(ctx: click.Context, app: str | None, workdir: Path | None) -> None:
    """The adaptive load balancer of a Celery fleet."""
    if workdir is not None:
        import os

        os.chdir(workdir)
    if app is None:
        if ctx.invoked_subcommand in WITHOUT_APP:
            return
        raise click.UsageError("Missing option '-A' / '--app'.", ctx=ctx)
    try:
        found = find_app(app)
    except (ImportError, AttributeError) as error:
        raise click.UsageError(f"the Celery app {app!r} cannot be loaded: {error}", ctx=ctx) from error
    ctx.obj = CLIContext(app=found, no_color=False, workdir=workdir)


def main() -> Any:
    """The console script."""
    return standalone()
