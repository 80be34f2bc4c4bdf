"""`celery balancer run`: the balancer in the foreground, for those who run no beat."""

from __future__ import annotations

import signal
from queue import SimpleQueue
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
    asked: SimpleQueue[int] = SimpleQueue()  # unlike an event's, its lock may be held where a handler comes
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda signum, _: asked.put(signum))
    service = SERVICES[app] = BalancerService(lambda: wiring.build(app, values))
    service.start()
    asked.get()
    if not service.stop():
        raise click.ClickException("the balancer was in the middle of a turn that does not end")
