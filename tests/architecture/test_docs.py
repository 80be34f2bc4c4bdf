"""The documents cover what there is, and what they point to exists."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from dataclasses import fields
from importlib import import_module
from pathlib import Path

import click
import pytest

from balancer.beat_program import options as beat_options
from balancer.cli import COMMANDS
from balancer.decide.situation import Suggestions
from balancer.loop import AdaptiveLoadBalancer
from balancer.model import Fleet
from balancer.report.charts import METRICS
from balancer.settings import Settings, parse
from balancer.wiring import strategy_of
from tests.architecture.sources import ROOT
from tests.unit.fleets import situation

LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)\s]*)?\)")
TARGET = re.compile(r"^([a-z][a-z-]*):", re.MULTILINE)


def documents() -> list[Path]:
    return [
        *sorted(ROOT.glob("*.md")),
        *sorted((ROOT / "docs").rglob("*.md")),
        *sorted((ROOT / "deploy").rglob("*.md")),
    ]


def test_every_option_is_documented() -> None:
    page = (ROOT / "docs/options.md").read_text(encoding="utf-8")
    assert [f.name for f in fields(Settings) if f"balancer_{f.name}" not in page] == []


def test_no_option_is_documented_that_does_not_exist() -> None:
    page = (ROOT / "docs/options.md").read_text(encoding="utf-8")
    known = {f"balancer_{field.name}" for field in fields(Settings)}
    assert set(re.findall(r"`(balancer_[a-z_]+)`", page)) - known == set()


@pytest.mark.parametrize("document", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    targets = LINK.findall(document.read_text(encoding="utf-8"))
    local = [target for target in targets if "://" not in target and not target.startswith("mailto:")]
    assert [target for target in local if not (document.parent / target).exists()] == []


@pytest.mark.parametrize("document", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_make_targets_that_are_named_exist(document: Path) -> None:
    known = set(TARGET.findall((ROOT / "Makefile").read_text(encoding="utf-8")))
    named = set(re.findall(r"`make ([a-z][a-z-]*)", document.read_text(encoding="utf-8")))
    assert named - known == set()


def test_make_help_lists_every_target() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    done = subprocess.run(["make", "-s", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert [t for t in TARGET.findall(makefile) if f"make {t}" not in done.stdout] == []


def text_of_documents() -> str:
    return "\n".join(path.read_text(encoding="utf-8") for path in documents())


def shell_lines(document: Path) -> list[list[str]]:
    """The commands that a document shows after a prompt, without their comments."""
    lines = re.findall(r"^\$ (.*)$", document.read_text(encoding="utf-8"), re.MULTILINE)
    return [shlex.split(line, comments=True) for line in lines]


def test_every_command_and_metric_is_documented() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [name for name in COMMANDS if f"balancer {name}" not in text_of_documents()] == []
    assert [name for name in METRICS if f"`{name}`" not in readme] == []


@pytest.mark.parametrize("document", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_files_that_are_named_exist(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    named = re.findall(r"`((?:balancer|workers|probes|tests|docs|deploy)/[^`\s]+)`", text)
    assert [name for name in named for one in expanded(name) if not list(ROOT.glob(one))] == []


def expanded(name: str) -> list[str]:
    """A path with one pair of braces, as a shell expands it."""
    before, brace, rest = name.partition("{")
    if not brace:
        return [name.rstrip("/")]
    choices, _, after = rest.partition("}")
    return [before + choice + after for choice in choices.split(",")]


def test_the_methods_and_columns_of_the_first_design_are_there() -> None:
    page = (ROOT / "docs/adaptive.md").read_text(encoding="utf-8")
    methods = {"start_balancing", "update_performance_metrics", "detect_load_imbalance", "balance_load",
               "_update_dynamic_thresholds", "_predict_future_load", "_find_migratable_tasks",
               "_analyze_migration_costs", "_analyze_migration_benefit", "_migrate_task", "_record_metrics",
               "handle_task_cancelled_for_migration", "get_load_balancer_stats", "update_worker_performance"}
    assert [name for name in sorted(methods) if not hasattr(AdaptiveLoadBalancer, name)] == []
    assert [name for name in sorted(methods) if name not in page] == []
    schema = (ROOT / "balancer/adapters/sql/schema.sql").read_text(encoding="utf-8")
    moves = schema.partition("TABLE IF NOT EXISTS moves")[2].partition(");")[0]
    steps = page.partition("## The eight steps of a move")[2].partition("## Features")[0]
    columns = {name for row in steps.splitlines() if row.startswith("| ")
               for name in re.findall(r"`([a-z_]+)`", row.split("|")[3])} - {"handed_over", "moves"}
    assert len(columns) >= 8
    assert [name for name in sorted(columns) if f" {name} " not in moves] == []


def test_the_commands_of_the_readme_are_commands_with_these_options() -> None:
    shown = [line for line in shell_lines(ROOT / "README.md") if line[:2] == ["celery", "-A"]]
    ours = [line[4:] for line in shown if line[3] == "balancer"]
    assert len(ours) >= 8
    assert [line for line in ours if not parses(*line)] == []
    flags = {flag for option in beat_options() for flag in (*option.opts, *option.secondary_opts)}
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for beat in re.findall(r"`celery -A proj beat ([^`]+)`", text):
        assert {word for word in beat.split() if word.startswith("--")} <= flags


def parses(name: str, *arguments: str) -> bool:
    """Whether a command of ours takes these arguments."""
    module, _, attribute = COMMANDS[name][0].partition(":")
    try:
        getattr(import_module(module), attribute).make_context(name, list(arguments))
    except click.UsageError:
        return False
    return True


def test_the_example_of_the_readme_runs() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    example = readme.partition("```python\n")[2].partition("```")[0]
    code = example.replace('backend="redis://localhost:6379/0"', "backend=None")
    done = subprocess.run([sys.executable, "-c", f"{code}\nprint(train(5))"], capture_output=True, text=True,
                          cwd=ROOT, timeout=60, check=False)
    assert done.stdout == "5\n", done.stderr


def test_the_strategy_of_the_docs_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (ROOT / "docs/adaptive.md").read_text(encoding="utf-8")
    (tmp_path / "documented_strategy.py").write_text(page.partition("```python\n")[2].partition("```")[0])
    monkeypatch.chdir(tmp_path)
    found = strategy_of(parse({"strategy": "documented_strategy:Lazy"}))
    assert (found.name, found.suggest(situation(Fleet(at=0.0)))) == ("lazy", Suggestions())
