"""`celery balancer failed` and `celery balancer resend`: tasks that were set aside, and their way back."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import click
from celery import states
from rich.console import Console
from rich.markup import escape

from balancer import wiring
from balancer.adapters import redis_failed
from balancer.adapters.redis_connection import Connection
from balancer.adapters.redis_failed import Failed
from balancer.cli.screen import console
from balancer.client_word import open_result
from balancer.errors import BalancerError, StoreError


@click.command()
@click.option("--forget", metavar="ID", multiple=True, help="Drop an entry and its message for good.")
@click.option("--json", "as_json", is_flag=True, help="JSON with the whole messages, for programs.")
@click.pass_context
def failed(ctx: click.Context, forget: tuple[str, ...], as_json: bool) -> None:
    """Show the tasks that were set aside, because they ended the workers or processes that ran them."""
    connection = _connection(ctx.obj.app)
    if forget:
        unknown = [task_id for task_id in forget if not redis_failed.forget(connection, task_id)]
        if unknown:
            raise BalancerError(f"not set aside: {', '.join(unknown)}")
        return
    entries = redis_failed.listed(connection)
    if as_json:
        click.echo(json.dumps([redis_failed.as_plain(one) for one in entries], indent=2))
    else:
        _draw(entries, console())


@click.command()
@click.argument("task_ids", nargs=-1, metavar="[ID]…")
@click.option("--all", "everything", is_flag=True, help="All that can be sent again.")
@click.pass_context
def resend(ctx: click.Context, task_ids: tuple[str, ...], everything: bool) -> None:
    """Send tasks that were set aside again: from their last checkpoint, with their losses forgotten.

    Their results are open again; a chord or chain that failed with them is not mended.
    """
    app = ctx.obj.app
    connection = _connection(app)
    if bool(task_ids) == everything:
        raise click.UsageError("name the tasks by their ids, or give --all")
    entries = {one.task_id: one for one in redis_failed.listed(connection)}
    unknown = [task_id for task_id in task_ids if task_id not in entries]
    if unknown:
        raise BalancerError(f"not set aside: {', '.join(unknown)}; `celery -A PROJ balancer failed` lists "
                            "what is")
    chosen = [one for one in entries.values() if one.task_id in task_ids or (everything and one.held)]
    for one in chosen:
        click.echo(f"{one.task_id}: {_send(app, connection, one)}")


def _send(app: Any, connection: Connection, one: Failed) -> str:
    try:
        if one.held is not None:
            open_result(app, one.task_id, states.FAILURE)
        if not redis_failed.resend(connection, one):
            return "somebody else has sent it, or forgotten it"
    except StoreError as error:
        return str(error)
    return f"back in {one.queue}"


def _draw(entries: list[Failed], out: Console) -> None:
    if not entries:
        out.print("nothing is set aside")
    for one in entries:
        at = datetime.fromtimestamp(one.at).strftime("%Y-%m-%d %H:%M:%S")
        out.print(f"[bold]{escape(one.task_id)}[/] {escape(one.task or 'no message')}, set aside {at}",
                  soft_wrap=True)
        out.print(f"    {escape(one.reason)}", soft_wrap=True)
        if one.queue:
            out.print(f"    profile {escape(one.profile)}; `balancer resend {escape(one.task_id)}` puts it "
                      f"into {escape(one.queue)}", soft_wrap=True)
        for line in one.history:
            out.print(f"    {escape(_readable(line))}", soft_wrap=True)


def _readable(line: str) -> str:
    at, _, what = line.partition(" ")
    return f"{datetime.fromtimestamp(int(at)):%Y-%m-%d %H:%M:%S} {what}" if at.isdigit() else line


def _connection(app: Any) -> Connection:
    return wiring.connection_of(app, wiring.settings_of(app))
