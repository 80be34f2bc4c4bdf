"""The page: what it says, that it opens offline, and that nothing in a ledger can break out of it."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from balancer.adapters.duckdb_ledger import DuckDBLedger
from balancer.ledger_rows import move_rows
from balancer.model import Migration, Move, Score
from balancer.report.charts import METRICS, build
from balancer.report.page import DECISIONS, picture_page, report_page
from balancer.report.questions import window
from balancer.report.render import javascript
from balancer.report.summary import Summary, summarise
from tests.unit.ledger_samples import START, asking, whole, write_sample

HOSTILE = "</script><img src=x onerror=alert(1)>"


class Elements(HTMLParser):
    """Which elements a page has, and what it would fetch."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.fetched: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.fetched += [value or "" for name, value in attrs if name in ("src", "href")]


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ledger") / "ledger.duckdb"
    write_sample(str(path))
    return path


@pytest.fixture(scope="module")
def page(ledger: Path) -> str:
    ask = asking(ledger)
    return report_page(ask, whole(ask), ledger="demo/ledger.duckdb", now=START + 200)


def test_the_page_has_all_pictures_and_the_javascript_once_and_fetches_nothing(page: str) -> None:
    elements = Elements(page)
    assert elements.fetched == []
    assert elements.names.count("script") == 2
    assert page.count(javascript()) == 1
    assert [name for name in METRICS if f'class=picture id="{name}"' not in page] == []
    assert "@import" not in page.split("<script>")[0]


def test_the_summary_says_what_the_ledger_holds(ledger: Path) -> None:
    ask = asking(ledger)
    summary = summarise(ask, whole(ask))
    text = "\n".join(summary.sentences)
    counted = {
        table: ask(f"SELECT count(*) AS n FROM {table}", {})[0]["n"]
        for table in ("load_balancer_metrics", "runs", "moves")
    }
    assert f"{counted['load_balancer_metrics']} whole ticks with the strategy priced" in text
    assert f"{counted['runs']} runs of tasks ended" in text
    assert f"{counted['moves']} moves (" in text
    assert "Emulated, not real hardware: cuda-K80, cuda-P100, cuda-V100." in text
    assert re.search(r"Forecasts of the load of the system: accuracy \d+\.\d %, \d+ % inside", text)
    assert re.search(r"Energy, estimated .* all of it emulated", text)
    classes, moves, refused = summary.tables
    assert [row[0] for row in classes.body] == [
        "cpu",
        "cuda-K80 (emulated)",
        "cuda-P100 (emulated)",
        "cuda-V100 (emulated)",
    ]
    assert classes.body[0][-1] == "unknown"
    assert sum(int(row[3]) for row in classes.body) == counted["runs"]
    assert sum(int(row[2]) for row in moves.body) == counted["moves"]
    meanings = {row[1]: row[2] for row in refused.body}
    assert "rests before it may move again" in meanings["cooldown"]
    assert meanings["hardware"] == ""
    assert "…" not in page_text(summary)


def page_text(summary: Summary) -> str:
    cells = [cell for table in summary.tables for row in table.body for cell in row]
    return "\n".join((*summary.sentences, *cells))


def test_a_ledger_with_a_single_tick_is_said_without_numbers_it_does_not_have(tmp_path: Path) -> None:
    path = tmp_path / "ledger.duckdb"
    assert DuckDBLedger(str(path)).record(
        {"load_balancer_metrics": [{"timestamp": START, "system_load": 0.5}]}
    )
    ask = asking(path)
    text = "\n".join(summarise(ask, whole(ask)).sentences)
    assert "1 whole tick." in text
    assert "The fleet was 50 % loaded on average, 50 % at most.\n" in text
    for sentence in (
        "No run of a task has ended.",
        "Nothing was moved.",
        "No forecast was made.",
        "Energy: no run",
    ):
        assert sentence in text
    page = report_page(ask, whole(ask), ledger=str(path), now=START)
    assert METRICS["cost_benefit"].absent in page
    assert "Nothing has been decided yet." in page


def test_the_summary_says_from_when_on_there_is_more_than_ticks(tmp_path: Path) -> None:
    path, hour = tmp_path / "ledger.duckdb", 3600.0
    ticks = [{"timestamp": START + number * hour, "system_load": 0.5} for number in range(10)]
    rows = {"load_balancer_metrics": ticks, "runs": [{"task_id": "t", "ended_at": START + 4.5 * hour}]}
    assert DuckDBLedger(str(path)).record(rows)
    ask = asking(path)
    says = "Before 2026-01-01 16:30:00 UTC there are ticks alone"
    assert says in "\n".join(summarise(ask, whole(ask)).sentences)
    recent = window(ask, days=5 / 24, now=START + 9 * hour)
    assert recent is not None
    assert "ticks alone" not in "\n".join(summarise(ask, recent).sentences)


def test_an_empty_ledger_is_a_page_that_says_so(tmp_path: Path) -> None:
    path = tmp_path / "ledger.duckdb"
    assert DuckDBLedger(str(path)).record({"forecasts": [{"subject": "system", "value": 0.5}]})
    ask = asking(path)
    assert window(ask, now=START) is None
    page = report_page(ask, None, ledger=str(path), now=START)
    assert "The ledger is empty" in page
    assert "vegaEmbed=" not in page


def test_nothing_that_a_task_or_worker_is_called_breaks_out_of_the_page(tmp_path: Path) -> None:
    path = tmp_path / "ledger.duckdb"
    rows = {
        "worker_samples": [{"timestamp": START, "worker": HOSTILE, "hardware_class": HOSTILE, "load": 0.5}],
        "runs": [
            {
                "task_id": HOSTILE,
                "hardware_class": HOSTILE,
                "ended_at": START,
                "joules": 1.0,
                "duration_s": 1.0,
            }
        ],
        "moves": [
            {"move_id": "m", "state": HOSTILE, "decided_at": START, "reason": HOSTILE, "kind": HOSTILE}
        ],
        "decisions": [
            {
                "timestamp": START,
                "kind": kind,
                "reason": HOSTILE,
                "detail": HOSTILE,
                "profile": HOSTILE,
                "cost": 1.0,
                "benefit": 2.0,
            }
            for kind in ("move", "refused", HOSTILE)
        ],
    }
    assert DuckDBLedger(str(path)).record(rows)
    ask = asking(path)
    page = report_page(ask, whole(ask), ledger=HOSTILE, now=START)
    elements = Elements(page)
    assert "img" not in elements.names
    assert elements.names.count("script") == 2
    assert "&lt;/script&gt;&lt;img" in page


def test_the_decisions_are_the_latest_and_the_rest_is_named(tmp_path: Path) -> None:
    path = tmp_path / "ledger.duckdb"
    notes = [{"timestamp": START + i, "kind": "note", "reason": f"note {i}."} for i in range(DECISIONS + 5)]
    assert DuckDBLedger(str(path)).record({"decisions": notes})
    ask = asking(path)
    page = report_page(ask, whole(ask), ledger="l", now=START)
    assert page.index(f"note {DECISIONS + 4}.") < page.index(f"note {DECISIONS + 3}.")
    assert "note 4." not in page
    assert f"These are the latest {DECISIONS}" in page


def test_a_picture_is_a_page_of_its_own_whose_data_is_json(ledger: Path) -> None:
    ask = asking(ledger)
    picture = build("thresholds", ask, whole(ask), interactive=True)
    assert picture is not None
    page = picture_page("thresholds", picture.spec(), ledger="l", now=START)
    text = page.split("const specs = ", 1)[1].split(";\nconst looks", 1)[0]
    assert json.loads(text)["thresholds"]["datasets"]["ticks"] == picture.datasets["ticks"]
    assert page.count(f">{METRICS['thresholds'].title}<") == 2  # the title element and the heading
    assert METRICS["thresholds"].title not in text
    assert page.count(METRICS["thresholds"].about) == 1
    assert Elements(page).fetched == []


def test_moves_whose_reasons_differ_only_in_numbers_are_one_reason_and_all_are_counted(
    tmp_path: Path,
) -> None:
    path = tmp_path / "ledger.duckdb"
    moves = [
        Migration(state="completed", requested_at=START + n, ended_at=START + n + 1, moved=1, move=Move(
            move_id=f"m{n}", task_id=f"t{n}", profile="p", kind="running", source="a", target="V100-1",
            target_queue="q", at=START + n, score=Score(cost=1, benefit=2),
            reason=f"{n}.5 s remain here, 0.2 s on V100-1" if n < 30 else f"other {chr(65 + n)}",
        ))
        for n in range(60)
    ]
    rows = {**move_rows(moves), "load_balancer_metrics": [{"timestamp": START + 99, "system_load": 0.5}]}
    assert DuckDBLedger(str(path)).record(rows)
    ask = asking(path)
    summary = summarise(ask, whole(ask))
    text = "\n".join(summary.sentences)
    assert "60 moves (60 of running tasks): 60 completed" in text
    assert "Most often because: 15 s remain here, 0.2 s on V100-1 (medians)." in text
    table = next(table for table in summary.tables if table.title == "Moves and why")
    assert len(table.body) == 20
    assert table.body[0][:3] == ("running tasks", "15 s remain here, 0.2 s on V100-1 (medians)", "30")


def test_moves_between_other_workers_for_one_reason_are_one_reason(tmp_path: Path) -> None:
    path = tmp_path / "ledger.duckdb"
    moves = [
        {"move_id": str(n), "state": "completed", "decided_at": START, "kind": "running",
         "reason": f"gpu{n}@vm is over 0.95, cpu{n}@vm under 0.10"}
        for n in range(3)
    ]  # fmt: skip
    assert DuckDBLedger(str(path)).record({"moves": moves})
    ask = asking(path)
    (table,) = summarise(ask, whole(ask)).tables
    assert [row[1:3] for row in table.body] == [
        ("a worker's load is over 0.95, the high threshold, and another's under 0.1, the low one", "3")
    ]
