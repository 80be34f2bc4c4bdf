"""`celery balancer options`: every option with its value, default and range; and the docs' table."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import click
from rich.markup import escape

from balancer import wiring
from balancer.beat_program import MORE_FLAGS, flag_of
from balancer.cli.screen import console
from balancer.settings import OptionRow, describe


@click.command()
@click.option("--markdown", is_flag=True, help="The table of docs/options.md.")
@click.pass_context
def options(ctx: click.Context, markdown: bool) -> None:
    """Show every option: what it is now for this app, its default, its range and what it does."""
    if markdown:
        click.echo(table_of_docs(), nl=False)
        return
    settings, out = wiring.settings_of(ctx.obj.app), console()
    for row in describe():
        now, default = _value(_plain(getattr(settings, row.name))), _value(_plain(row.default))
        changed = now != default
        about = f"default {default}; {_range(row)}" if changed else f"the default; {_range(row)}"
        out.print(f"{'[bold]' if changed else ''}{row.conf} = {escape(now)}{'[/]' if changed else ''}"
                  f"  ({escape(about)})", soft_wrap=True)
        out.print(f"    {escape(row.help)}", soft_wrap=True)


def table_of_docs() -> str:
    """The options as Markdown, the seed's thirteen first."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    for title, seed in (("## The thirteen of the seed", True), ("## The others", False)):
        yield from (title, "", "| option | default | range | what it does | on beat's command line |",
                    "| --- | --- | --- | --- | --- |")
        for row in describe():
            if row.seed == seed:
                flag = f"`{flag_of(row)}`" if seed or row.name in MORE_FLAGS else ""
                yield f"| `{row.conf}` | `{_value(row.default)}` | {_range(row)} | {row.help} | {flag} |"
        yield ""


def _range(row: OptionRow) -> str:
    if row.kind == "bool":
        return "true, false"
    return f"{row.limits} {row.unit}".strip() or {"str": "text", "Mapping": "mapping"}.get(row.kind, "")


def _plain(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else value


def _value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, Mapping):
        return json.dumps(dict(value), default=str)
    return str(value) if value != "" else "''"
