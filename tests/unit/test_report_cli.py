"""`celery balancer report`, `analyze` and `visualize` as a user calls them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from celery import Celery
from celery.bin.base import CLIContext
from click.testing import CliRunner, Result

from balancer.adapters.duckdb_ledger import DuckDBLedger
from balancer.cli.report import analyze, report, visualize
from tests.unit.ledger_samples import write_sample

ROOT = Path(__file__).parents[2]
COMMANDS = {"report": report, "analyze": analyze, "visualize": visualize}

WITHOUT = """
import sys
sys.modules[sys.argv[1]] = None
from balancer.cli.report import analyze
analyze(sys.argv[2:])
"""


def call(folder: Path, command: str, *args: str, app: Celery | None = None) -> Result:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        context = CLIContext(app=app, no_color=True, workdir=None) if app is not None else None
        return CliRunner().invoke(COMMANDS[command], args, obj=context)


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ledger") / "ledger.duckdb"
    write_sample(str(path))
    return path


@pytest.mark.parametrize(
    ("command", "args", "output", "begins"),
    [
        ("report", [], "report.html", b"<!doctype html>"),
        ("report", ["-o", "a.html"], "a.html", b"<!doctype html>"),
        ("analyze", ["--metric", "migration_success_rate"], "migration_success_rate.png", b"\x89PNG"),
        ("analyze", ["--metric", "thresholds", "--output", "b.svg"], "b.svg", b"<svg"),
        ("analyze", ["--metric", "system-load", "-o", "b.HTML"], "b.HTML", b"<!doctype html>"),
        ("visualize", ["--metric", "thresholds", "--interactive"], "thresholds.html", b"<!doctype html>"),
        ("visualize", ["--metric", "energy", "-o", "c.png"], "c.png", b"\x89PNG"),
    ],
)
def test_the_suffix_says_what_is_written(
    tmp_path: Path, sample: Path, command: str, args: list[str], output: str, begins: bytes
) -> None:
    result = call(tmp_path, command, *args, "--db-path", str(sample))
    assert result.exit_code == 0, result.output
    assert (tmp_path / output).read_bytes().startswith(begins)
    assert result.output.startswith(f"{output} written")


def test_only_an_interactive_picture_can_be_zoomed(tmp_path: Path, sample: Path) -> None:
    for flag in ([], ["--interactive"]):
        result = call(tmp_path, "visualize", "--metric", "thresholds", *flag, "--db-path", str(sample))
        assert result.exit_code == 0, result.output
        zooms = '"bind":"scales"' in (tmp_path / "thresholds.html").read_text()
        assert zooms == bool(flag)


@pytest.mark.parametrize(
    ("command", "args", "says"),
    [
        ("analyze", ["--metric", "treshold"], "unknown metric 'treshold', did you mean 'thresholds'?"),
        ("analyze", ["--metric", "thresholds", "-o", "x.jpg"], "must end in .png or .svg or .html"),
        ("report", ["-o", "x.png"], "must end in .html"),
        (
            "visualize",
            ["--metric", "thresholds", "--interactive", "-o", "x.png"],
            "only a page can be interactive",
        ),
        ("analyze", ["--metric", "thresholds", "--days", "1"], "nothing of the last 1 day;"),
        ("report", ["--days", "-3"], "--days"),
        ("report", ["-o", "no/such/folder/x.html"], "cannot write"),
        ("report", ["--db-path", "nowhere.duckdb"], "there is no ledger at nowhere.duckdb"),
        ("analyze", [], "--metric"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_sentence(
    tmp_path: Path, sample: Path, command: str, args: list[str], says: str
) -> None:
    result = call(tmp_path, command, "--db-path", str(sample), *args)
    assert result.exit_code != 0
    assert says in result.output
    assert "Traceback" not in result.output
    assert list(tmp_path.iterdir()) == []


def test_a_report_of_an_empty_ledger_succeeds_and_a_picture_of_it_says_what_is_missing(
    tmp_path: Path,
) -> None:
    path = tmp_path / "ledger.duckdb"
    assert DuckDBLedger(str(path)).record({"forecasts": [{"subject": "system"}]})
    assert call(tmp_path, "report", "--db-path", str(path)).exit_code == 0
    assert "The ledger is empty" in (tmp_path / "report.html").read_text()
    result = call(tmp_path, "analyze", "--metric", "cost_benefit", "--db-path", str(path))
    assert result.exit_code == 1
    assert "No candidate for a move has been weighed yet." in result.output


def test_the_apps_setting_says_where_the_ledger_is(tmp_path: Path, sample: Path) -> None:
    app = Celery("proj", set_as_current=False)
    app.conf.update(balancer_db_path=str(sample))
    result = call(tmp_path, "report", app=app)
    assert result.exit_code == 0, result.output
    assert str(sample) in (tmp_path / "report.html").read_text()
    result = call(tmp_path, "report", app=Celery("plain", set_as_current=False))
    assert "there is no ledger at ./benchmark_db.duckdb" in result.output


@pytest.mark.parametrize("module", ["altair", "vl_convert"])
def test_a_missing_extra_is_named(tmp_path: Path, sample: Path, module: str) -> None:
    args = ["--metric", "thresholds", "--db-path", str(sample), "-o", str(tmp_path / "x.png")]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, module, *args], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "pip install 'celery-balancer[report]'" in done.stderr
    assert "Traceback" not in done.stderr
