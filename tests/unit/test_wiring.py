"""What an app's configuration means: namespaces, misspelt keys, import paths, command lines."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
from celery import Celery
from click.testing import CliRunner

from balancer import beat_program, cli, tasks, wiring
from balancer.cli.options import table_of_docs
from balancer.errors import SettingError
from balancer.settings import describe
from tests.unit.rig import Scripted


class OnDjangosStyle:
    """A settings object whose keys bear a namespace, as Django's."""

    CELERY_BROKER_URL = "redis://127.0.0.1:1/0"
    CELERY_BALANCER_CHECK_INTERVAL = 7
    SECRET_KEY = "not ours"


def an_app(**conf: Any) -> Celery:
    app = Celery("wired", broker="redis://127.0.0.1:1/0", set_as_current=False)
    app.conf.update(conf)
    return app


def test_conf_means_settings() -> None:
    assert wiring.settings_of(an_app(balancer_check_interval=7)).check_interval == 7.0


def test_a_namespace_as_djangos() -> None:
    app = Celery("wired", set_as_current=False)
    app.config_from_object(OnDjangosStyle, namespace="CELERY")
    assert wiring.conf_of(app) == {"balancer_check_interval": 7}
    assert wiring.settings_of(app).check_interval == 7.0


def test_a_misspelt_key_is_refused_although_celery_takes_it() -> None:
    with pytest.raises(SettingError, match="did you mean 'balancer_check_interval'"):
        wiring.settings_of(an_app(balancer_chek_interval=7))


def test_environment_and_command_line_stand_above_conf(monkeypatch: pytest.MonkeyPatch) -> None:
    app = an_app(balancer_check_interval=7, balancer_price_interval=2)
    monkeypatch.setenv("BALANCER_CHECK_INTERVAL", "6")
    monkeypatch.setenv("BALANCER_PRICE_INTERVAL", "3")
    settings = wiring.settings_of(app, {"check_interval": "5"})
    assert (settings.check_interval, settings.price_interval) == (5.0, 3.0)


@pytest.mark.parametrize("name", ["static", "fixed", "adaptive", "priced"])
def test_strategies_by_name(name: str) -> None:
    assert wiring.strategy_of(wiring.settings_of(an_app(balancer_strategy=name))).name == name


def test_a_strategy_by_import_path() -> None:
    found = wiring.strategy_of(wiring.settings_of(an_app(balancer_strategy="tests.unit.rig:Scripted")))
    assert (found.name, getattr(found, "eager", True)) == ("scripted", False)


def test_a_strategy_in_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lazy_strategy.py").write_text("from balancer.decide.strategies.priced import Priced\n"
                                               "class Lazy(Priced):\n    name = 'lazy'\n")
    monkeypatch.chdir(tmp_path)
    found = wiring.strategy_of(wiring.settings_of(an_app(balancer_strategy="lazy_strategy:Lazy")))
    assert found.name == "lazy"


class Needy:
    """A strategy that cannot be made without arguments."""

    def __init__(self, share: float) -> None:
        self.share = share


class Stiff(Scripted):
    """A strategy whose rule for the thresholds is no rule."""

    adjust = 3


class Mute(Scripted):
    """A strategy that answers nothing."""

    def orders(self, situation: Any) -> Any:
        return None

    def suggest(self, situation: Any) -> Any:
        return []


@pytest.mark.parametrize(("asked", "says"), [("orders", "Mute': orders() returned None; it returns Orders"),
                                             ("suggest", "Mute': suggest() returned []; it returns Sugg")])
def test_a_strategy_that_answers_what_is_none_is_named(asked: str, says: str) -> None:
    found = wiring.strategy_of(wiring.settings_of(an_app(balancer_strategy=f"{__name__}:Mute")))
    with pytest.raises(SettingError) as refused:
        getattr(found, asked)(None)
    assert says in str(refused.value)


@pytest.mark.parametrize(("path", "says"), [
    (f"{__name__}:Needy", "TypeError: Needy.__init__() missing 1 required positional argument: 'share'"),
    (f"{__name__}:Stiff", "adjust cannot be called"),
    ("nowhere.at_all:Mine", "No module named 'nowhere'"),
    ("tests.unit.rig:Missing", "has no attribute 'Missing'"),
    ("tests.unit.rig:Rig.x", "must be one of static"),
    ("collections:OrderedDict", "a strategy has name, moves_thresholds, foresees, orders, suggest too"),
])
def test_a_strategy_that_is_none_is_refused(path: str, says: str) -> None:
    with pytest.raises(SettingError) as refused:
        wiring.strategy_of(wiring.settings_of(an_app(balancer_strategy=path)))
    assert says in str(refused.value)


def test_beat_has_an_option_for_each_of_the_seeds_thirteen() -> None:
    app = an_app()
    beat_program.install_beat(app)
    beat_program.install_beat(app)
    assert [option.name for option in app.user_options["beat"]] == [
        option.name for option in beat_program.options()], "help shows them in the order of the settings"
    flags = [flag for option in app.user_options["beat"] for flag in (*option.opts, *option.secondary_opts)]
    assert len(flags) == len(set(flags))
    for name in ("dynamic-thresholds", "predictive-balancing", "cost-benefit-analysis",
                 "hardware-specific-strategies", "resource-efficiency", "task-migration"):
        assert f"--disable-{name}" in flags
    seeds = [row for row in describe() if row.seed]
    assert len(seeds) == 13
    assert {beat_program.flag_of(row).split("/")[0] for row in seeds} <= set(flags)


@pytest.mark.parametrize(("given", "says"), [
    ({"balancer_check_interval": "0"}, "balancer_check_interval = '0': must be a number from 0.1 to 86400 s"),
    ({"balancer_strategy": "pricd"}, "did you mean 'priced'"),
])
def test_beat_refuses_an_impossible_option_before_it_starts(given: dict[str, Any], says: str) -> None:
    app = an_app()
    beat_program.install_beat(app)
    with pytest.raises(click.UsageError) as refused:
        app.Beat(**given)
    assert says in str(refused.value)


def test_the_tasks_are_registered_once() -> None:
    app = an_app()
    tasks.register(app)
    tasks.register(app)
    assert {tasks.TICK, tasks.PRICE} <= set(app.tasks)


def test_help_lists_every_command_and_loads_none() -> None:
    code = ("import sys; from click.testing import CliRunner; from balancer.cli import balancer\n"
            "said = CliRunner().invoke(balancer, ['--help']).output\n"
            "print('altair' in sys.modules, 'duckdb' in sys.modules); print(said)")
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.startswith("False False")
    assert [name for name in cli.COMMANDS if f"  {name} " not in said] == []


@pytest.mark.parametrize("name", sorted(cli.COMMANDS))
def test_every_command_is_there(name: str) -> None:
    said = CliRunner().invoke(cli.balancer, [name, "--help"])
    assert said.exit_code == 0, said.output
    assert "Usage:" in said.output
    loaded = cli.balancer.get_command(click.Context(cli.balancer), name)
    assert loaded is not None
    assert loaded.help, "a command that cannot be loaded has none"


def test_an_unknown_command_and_a_missing_extra_are_said_plainly(monkeypatch: pytest.MonkeyPatch) -> None:
    said = CliRunner().invoke(cli.balancer, ["explan"])
    assert (said.exit_code, "did you mean 'explain'" in said.output) == (2, True)
    monkeypatch.setitem(cli.COMMANDS, "report", ("balancer.not_there:report", "", "report"))
    said = CliRunner().invoke(cli.balancer, ["report", "-o", "x.html"])
    assert said.exit_code == 1
    assert "pip install 'celery-balancer[report]'" in said.output


def test_the_page_of_options_is_what_the_command_prints() -> None:
    from pathlib import Path

    page = (Path(__file__).parents[2] / "docs/options.md").read_text(encoding="utf-8")
    assert table_of_docs() in page
