"""`celery balancer run`: the balancer in the foreground, for those who run no beat."""

from __future__ import annotations

import signal
from threading import Event
from typing import Any

import click
from celery.bin.base import LOG_LEVEL

from balancer import wiring
from balancer.beat_program import PARAMETER, options
from balancer.service import SERVICES, BalancerService


@click.command(params=[option for option in options() if option.name != PARAMETER + "wanted"])
@click.option("-l", "--loglevel", default="INFO", type=LOG_LEVEL, help="Logging level.")
@click.pass_context
def run(ctx: click.Context, /, loglevel: int, **given: Any) -> None:
    """Run the balancer until SIGTERM or Ctrl-C. A second one waits until the first is gone."""
    app = ctx.obj.app
    values = {name.removeprefix(PARAMETER): value for name, value in given.items()}
    wiring.strategy_of(wiring.settings_of(app, values))  # refuse what is wrong before anything starts
    app.log.setup(loglevel, redirect_stdouts=False)
    asked = Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: asked.set())
    service = SERVICES[app] = BalancerService(lambda: wiring.build(app, values))
    service.start()
    asked.wait()
    if not service.stop():
        raise click.ClickException("the balancer was in the middle of a turn that does not end")
