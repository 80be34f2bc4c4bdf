"""`celery balancer stats`: the seed's metrics JSON of this moment, and more."""

from __future__ import annotations

import json

import click

from balancer.api import get_load_balancer_stats


@click.command()
@click.pass_context
def stats(ctx: click.Context) -> None:
    """Print the balancer's statistics as one JSON object; reads, and changes nothing."""
    click.echo(json.dumps(get_load_balancer_stats(ctx.obj.app), indent=2, sort_keys=True))
