"""`celery -A PROJ beat` with the balancer in it, and its options on beat's command line.

`install_beat(app)` adds one option for each of the seed's thirteen (`--check-interval 5`,
`--disable-predictive-balancing` …) and a `Beat` that reads them: Celery's own swallows what it
does not know. The balancer runs in a daemon thread; beat never stops because of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import click
from celery import Celery, signals
from celery.apps.beat import Beat
from celery.bin.base import CeleryOption

from balancer import wiring
from balancer.errors import SettingError
from balancer.service import SERVICES, BalancerService
from balancer.settings import OptionRow, describe, names

#: Prefix of the parameters in the keyword arguments that beat is called with.
PARAMETER: Final = "balancer_"

#: Options beside the seed's thirteen that have a place on the command line, with their flags.
MORE_FLAGS: Final[Mapping[str, str]] = {
    "strategy": "--balancer-strategy",
    "price_interval": "--price-interval",
    "dry_run": "--balancer-dry-run",
    "db_path": "--db-path",
}


class BalancedBeat(Beat):  # type: ignore[misc]
    """Celery's beat program that reads the balancer's options and ends the balancer with itself."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        given = {name.removeprefix(PARAMETER): kwargs.pop(name)
                 for name in list(kwargs) if name.startswith(PARAMETER)}
        super().__init__(*args, **kwargs)
        wanted = given.pop("wanted", None) is not False
        try:
            settings = wiring.settings_of(self.app, given)
            if wanted:
                wiring.strategy_of(settings)
        except SettingError as error:
            raise click.UsageError(str(error)) from error
        app = self.app
        if wanted:
            SERVICES[app] = BalancerService(lambda: wiring.build(app, given))
        else:
            SERVICES.pop(app, None)

    def start_scheduler(self) -> None:
        try:
            super().start_scheduler()
        finally:
            service = SERVICES.get(self.app)
            if service is not None:
                service.stop()


class InOrder(set[click.Option]):
    """A set of options as Celery keeps them, which `--help` shows as they come: ours in the order of the
    settings, after those of others."""

    def __iter__(self) -> Iterator[click.Option]:
        places = {PARAMETER + name: place for place, name in enumerate((*names(), "wanted"))}
        return iter(sorted(super().__iter__(), key=lambda option: places.get(option.name or "", -1)))


def install_beat(app: Celery) -> None:
    """Put the balancer into the beat of `app`, as a program and inside of a worker (`worker -B`)."""
    if getattr(app, "balancer_beat", False):
        return
    app.balancer_beat = True
    app.user_options["beat"] = InOrder(app.user_options["beat"])
    app.user_options["beat"].update(options())
    app.Beat = app.subclass_with_self(BalancedBeat, name="Beat", attribute="app")
    # By app, so that several apps of one process each have their own.
    signals.beat_init.connect(_on_beat_init, weak=False, dispatch_uid="balancer-beat")
    signals.beat_embedded_init.connect(_on_embedded, weak=False, dispatch_uid="balancer-beat-embedded")


def options() -> list[click.Option]:
    """The command-line options of beat."""
    made = [_option(row) for row in describe() if row.seed or row.name in MORE_FLAGS]
    return [*made, CeleryOption(
        ["--balancer/--no-balancer", PARAMETER + "wanted"], default=None, help_group="Balancer Options",
        help="Run the balancer in this beat (the default), or beat alone.")]


def flag_of(row: OptionRow) -> str:
    """The flag of an option: `--check-interval`; a switch has a pair, `--enable-…/--disable-…`."""
    if row.name in MORE_FLAGS:
        return MORE_FLAGS[row.name]
    dashed = row.name.replace("_", "-")
    if row.kind == "bool":
        return f"--{dashed}/--{dashed.replace('enable-', 'disable-', 1)}"
    return f"--{dashed}"


def _option(row: OptionRow) -> click.Option:
    limits = f" [{row.limits}{' ' + row.unit if row.unit else ''}]" if row.limits else ""
    # Text as it comes: settings read it, so that every way in gets the same checks and words.
    shape: dict[str, Any] = {"is_flag": True} if row.kind == "bool" else {"type": str}
    made: click.Option = CeleryOption(
        [flag_of(row), PARAMETER + row.name], default=None, help_group="Balancer Options",
        help=f"{row.help}{limits} (default: {row.default})", **shape)
    return made


def _on_beat_init(sender: Any = None, **_: Any) -> None:
    service = SERVICES.get(sender.app)
    if service is not None:
        service.start()


def _on_embedded(sender: Any = None, **_: Any) -> None:
    """Beat inside of a worker has no program and no options: environment and conf alone."""
    app = sender.app
    if getattr(app, "balancer_beat", False) and app not in SERVICES:
        SERVICES[app] = BalancerService(lambda: wiring.build(app))
        SERVICES[app].start()
