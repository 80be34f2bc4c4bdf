"""`celery balancer drain WORKER [--wait S] [--stop/--no-stop] [--to QUEUE] [--undo]`: empty a worker."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final

import click
from rich.markup import escape

from balancer import draining
from balancer.adapters.redis_drain import DrainReport
from balancer.cli.screen import console
from balancer.report.words import count

#: Seconds between looks, and how long after its limit a worker that was told to stop is followed.
LOOK_S: Final = 0.2
AFTER_S: Final = 30.0


@click.command()
@click.argument("worker")
@click.option("--wait", "wait_s", type=click.FloatRange(min=0), default=600.0, show_default=True, metavar="S",
              help="Seconds for what may not be interrupted; then its process is ended, and it runs again.")
@click.option("--stop/--no-stop", default=True, show_default=True, help="End the worker once it is empty.")
@click.option("--to", "queue", default="", metavar="QUEUE", help="Hand everything to this queue, not to the "
              "lanes.")
@click.option("--undo", is_flag=True, help="Let a worker that drains take work again.")
@click.pass_context
def drain(ctx: click.Context, worker: str, wait_s: float, stop: bool, queue: str, undo: bool) -> None:
    """Empty a worker: it takes nothing new, hands on what waits, lets go what can leave, and stops.

    Running tasks that checkpoint leave at their next checkpoint, restartable ones are interrupted; the
    others have the seconds of --wait to end. What has not ended then loses its process and runs again from
    its last checkpoint, on pools that have processes; elsewhere the worker ends when they do.
    """
    app = ctx.obj.app
    if undo:
        draining.undo(app, worker)
        click.echo(f"{worker} takes work again")
        return
    draining.drain(app, worker, wait_s=wait_s, stop=stop, queue=queue)
    click.echo(f"{worker} takes nothing new")
    out, shown = console(), Shown()
    until = time.monotonic() + wait_s + AFTER_S
    while time.monotonic() < until:
        report = draining.progress(app, worker)
        if report is not None:
            for line in shown.news(report):
                out.print(line, soft_wrap=True)
            if report.state in ("stopped", "undone") or (report.state == "drained" and not stop):
                return
        time.sleep(LOOK_S)
    out.print(f"[yellow]{escape(worker)} has not stopped yet[/]; it ends when what runs has ended")
    ctx.exit(1)


class Shown:
    """What has been printed, so that only news are."""

    def __init__(self) -> None:
        self._moved: set[str] = set()
        self._running: dict[str, str] = {}
        self._state = "draining"

    def news(self, report: DrainReport) -> Iterator[str]:
        """Lines about what changed since the last report."""
        for task_id, queue in report.moved.items():
            if task_id not in self._moved:
                yield f"  {escape(task_id)} → {escape(queue)}"
        self._moved.update(report.moved)
        for task_id, why in report.running.items():
            if self._running.get(task_id) != why:
                yield f"  {escape(task_id)} still runs; waits for {escape(why)}"
        self._running = dict(report.running)
        if report.state != self._state:
            self._state = report.state
            yield from self._summary(report)

    def _summary(self, report: DrainReport) -> Iterator[str]:
        told = f"{count(report.moved_count, 'task')} handed on"
        if report.returned:
            told += f", {report.returned} returned from its own queue to their lanes"
        words = {"drained": "holds nothing any more", "stopping": "stops", "stopped": "has stopped",
                 "undone": "takes work again"}
        word = words.get(report.state, report.state)
        yield f"[bold]{escape(report.worker)}[/] {word}; {told}"
