"""`celery balancer cancel ID… [--reason …] | --undo ID… | --list`: cancel tasks for good."""

from __future__ import annotations

import json
from datetime import datetime

import click
from rich.markup import escape

from balancer import cancelling
from balancer.cli.screen import console, table


@click.command()
@click.argument("task_ids", nargs=-1, metavar="[ID]…")
@click.option("--reason", default="", help="Why; the client's TaskRevokedError and --list say it.")
@click.option("--undo", is_flag=True, help="Let these tasks run again.")
@click.option("--list", "show", is_flag=True, help="Show what is cancelled.")
@click.option("--json", "as_json", is_flag=True, help="JSON, for programs.")
@click.pass_context
def cancel(ctx: click.Context, task_ids: tuple[str, ...], reason: str, undo: bool, show: bool,
           as_json: bool) -> None:
    """Cancel tasks by id, wherever they are, also on workers that are offline now.

    A task that waits in a queue is taken out and its client sees REVOKED at once; a worker that holds
    or runs it ends it within a heartbeat; one that is found nowhere does not start where it turns up.
    Entries are kept for 90 days.
    """
    if show:
        _show(ctx.obj.app, as_json)
        return
    if not task_ids:
        raise click.UsageError("name the tasks to cancel by their ids, or give --list")
    app = ctx.obj.app
    outcomes = (cancelling.undo(app, task_ids) if undo
                else cancelling.cancel(app, task_ids, reason=reason))
    if as_json:
        click.echo(json.dumps({one.task_id: one.word for one in outcomes}, indent=2))
    else:
        for one in outcomes:
            console().print(f"{escape(one.task_id)}: {escape(one.text)}", soft_wrap=True)
    if undo and not all(one.word == "undone" for one in outcomes):
        ctx.exit(1)


def _show(app: object, as_json: bool) -> None:
    entries = cancelling.listed(app)
    if as_json:
        click.echo(json.dumps([{"task_id": one.task_id, "at": one.at, "by": one.by, "reason": one.reason,
                                "taken_out": bool(one.raw)} for one in entries], indent=2))
        return
    rows = [(escape(one.task_id), datetime.fromtimestamp(one.at).strftime("%Y-%m-%d %H:%M:%S"),
             escape(one.by), "yes" if one.raw else "", escape(one.reason)) for one in entries]
    if rows:
        console().print(table(f"Cancelled ({len(rows)})",
                              ("task", "at", "by", "taken out of its queue", "reason"), rows, keep=2))
    else:
        console().print("nothing is cancelled")
