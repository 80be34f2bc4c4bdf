"""The ledger on a real DuckDB file: what it keeps, and that no fault of the file stops a tick."""

from __future__ import annotations

import logging
import math
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pytest

from balancer.adapters import ledger_columns
from balancer.adapters.duckdb_ledger import DuckDBLedger, read
from balancer.adapters.in_memory import InMemoryLedger
from balancer.errors import LedgerError
from balancer.model.batch import Batch
from balancer.ports import Ledger

ROOT = Path(__file__).parents[2]

SEED_COLUMNS = [
    ("id", "INTEGER"), ("timestamp", "TIMESTAMP"), ("system_load", "FLOAT"), ("threshold_high", "FLOAT"),
    ("threshold_low", "FLOAT"), ("imbalance_score", "FLOAT"), ("migrations_initiated", "INTEGER"),
    ("migrations_successful", "INTEGER"), ("prediction_accuracy", "FLOAT"), ("metrics", "JSON"),
]  # fmt: skip

HOLD = """
import sys, duckdb
connection = duckdb.connect(sys.argv[1])
print("held", flush=True)
sys.stdin.read()
connection.close()
"""

FILL = """
import resource, signal, sys, logging
from balancer.adapters.duckdb_ledger import DuckDBLedger
logging.basicConfig(level=logging.WARNING)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
ledger = DuckDBLedger(sys.argv[1], backlog=100_000)
note = lambda i: {"decisions": [{"timestamp": i, "kind": "note", "reason": f"{i} " + "x" * 200}]}
print(ledger.record(note(0)))
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, hard))
big = {"decisions": [note(i)["decisions"][0] for i in range(1, 30_000)]}
print(ledger.record(big), ledger.waiting)
resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
print(ledger.record(note(30_000)), ledger.waiting)
"""

def tick(at: float, **columns: Any) -> dict[str, list[dict[str, Any]]]:
    return {"load_balancer_metrics": [{"timestamp": at, "system_load": 0.5, **columns}]}


def notes(*reasons: str) -> dict[str, list[dict[str, Any]]]:
    return {"decisions": [{"timestamp": 1.0, "kind": "note", "reason": reason} for reason in reasons]}


def reasons(path: Path) -> list[str]:
    return [row["reason"] for row in read(str(path), "SELECT reason FROM decisions ORDER BY rowid")]


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Another process has the file open for writing."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        try:
            assert holder.stdout.readline() == "held\n"
            yield
        finally:
            holder.communicate("")


class Twin:
    """The ledger in memory, as the same world that a file and its holder are."""

    def __init__(self, folder: Path) -> None:
        self.ledger = InMemoryLedger()

    @contextmanager
    def locked(self) -> Iterator[None]:
        self.ledger.locked = True
        yield
        self.ledger.locked = False

    def reasons(self) -> list[str]:
        return [str(row["reason"]) for row in self.ledger.tables["decisions"]]


class File:
    """The ledger in a file, which another process may hold."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "ledger.duckdb"
        self.ledger = DuckDBLedger(str(self.path))

    def locked(self) -> AbstractContextManager[None]:
        return held(self.path)

    def reasons(self) -> list[str]:
        return reasons(self.path)


@pytest.mark.parametrize("world", [Twin, File])
def test_twin_and_file_keep_rows_in_order_and_lose_none_while_locked(
    tmp_path: Path, world: type[Twin] | type[File]
) -> None:
    here = world(tmp_path)
    ledger: Ledger = here.ledger
    assert ledger.record(notes("a", "b"))
    with here.locked():
        assert not ledger.record(notes("c"))
        assert not ledger.record(notes("d"))
    assert ledger.record({})
    assert here.reasons() == ["a", "b", "c", "d"]
    with here.locked():
        assert not ledger.record(notes("e"))
    ledger.close()
    assert here.reasons()[-1] == "e"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.duckdb"


def test_the_seeds_table_has_its_columns_and_numbers_its_rows(path: Path) -> None:
    ledger = DuckDBLedger(str(path))
    assert ledger.record(tick(10.5, metrics={"worker_count": 5}))
    assert ledger.record(tick(11.5))
    with duckdb.connect(str(path), read_only=True) as connection:
        described = connection.execute("DESCRIBE load_balancer_metrics").fetchall()
    assert [(row[0], row[1]) for row in described] == SEED_COLUMNS
    rows = read(str(path), "SELECT id, epoch(timestamp) AS at, metrics->>'worker_count' AS workers "
                           "FROM load_balancer_metrics ORDER BY id")  # fmt: skip
    assert rows == [{"id": 1, "at": 10.5, "workers": "5"}, {"id": 2, "at": 11.5, "workers": None}]


def test_a_table_made_by_the_seeds_own_text_is_taken_over(path: Path) -> None:
    with duckdb.connect(str(path)) as connection:
        columns = ", ".join(f"{name} {kind}" for name, kind in SEED_COLUMNS[1:])
        connection.execute(f"CREATE TABLE load_balancer_metrics (id INTEGER PRIMARY KEY, {columns})")
        connection.execute("INSERT INTO load_balancer_metrics (id, system_load) VALUES (41, 0.25)")
    assert DuckDBLedger(str(path)).record(tick(1))
    rows = read(str(path), "SELECT id, system_load AS load FROM load_balancer_metrics ORDER BY id")
    assert rows == [{"id": 41, "load": 0.25}, {"id": 42, "load": 0.5}]


def test_the_three_queries_of_the_seed_run_unchanged(path: Path) -> None:
    ledger = DuckDBLedger(str(path))
    day = 86_400.0
    assert ledger.record(tick(day, threshold_high=0.8, migrations_initiated=3, migrations_successful=2))
    assert ledger.record(tick(day + 30, threshold_high=0.75, migrations_initiated=1, migrations_successful=1,
                              prediction_accuracy=0.875, imbalance_score=0.5))  # fmt: skip
    assert ledger.record(tick(2 * day, migrations_initiated=0, migrations_successful=0))
    thresholds = read(str(path), ledger_columns.sql("seed_thresholds"))
    assert [row["threshold_high"] for row in thresholds] == [None, 0.75, pytest.approx(0.8)]
    success = read(str(path), ledger_columns.sql("seed_migration_success"))
    assert [(str(r["date"]), r["total_migrations"], r["successful_migrations"]) for r in success] == [
        ("1970-01-03", 0, 0), ("1970-01-02", 4, 3),
    ]  # fmt: skip
    assert success[1]["success_rate"] == 75.0
    accuracy = read(str(path), ledger_columns.sql("seed_prediction_accuracy"))
    assert [(r["prediction_accuracy"], r["imbalance_score"]) for r in accuracy] == [(0.875, 0.5)]


def test_files_are_readable_by_duckdb_1_4(path: Path) -> None:
    assert DuckDBLedger(str(path)).record(tick(1))
    tags = read(
        str(path), "SELECT tags['storage_version'] AS version FROM duckdb_databases() WHERE NOT internal"
    )
    assert str(tags[0]["version"]).startswith("v1.4.0")


def test_a_move_and_a_forecast_have_one_row_that_follows_them(path: Path) -> None:
    ledger = DuckDBLedger(str(path))
    foreseen = {"subject": "system", "made_at": 10.0, "due_at": 190.0, "value": 0.7}
    other = {"subject": "gpu0@a", "made_at": 10.0, "due_at": 190.0, "value": 0.6}
    asked = {"move_id": "m1", "state": "requested", "decided_at": 10.0}
    assert ledger.record({"moves": [asked, {**asked, "move_id": "m2"}], "forecasts": [foreseen, other]})
    done = {**asked, "state": "completed", "ended_at": 12.0}
    run = {"task_id": "t", "epoch": 0, "ended_at": 11.0, "duration_s": 2.0}
    judged = {**foreseen, "truth": 0.75, "inside": True}
    for _ in range(2):
        assert ledger.record(
            {"moves": [{**asked, "state": "handed_over"}, done], "forecasts": [judged], "runs": [run]}
        )
    assert read(str(path), "SELECT move_id, state FROM moves ORDER BY move_id") == [
        {"move_id": "m1", "state": "completed"}, {"move_id": "m2", "state": "requested"},
    ]  # fmt: skip
    assert read(str(path), "SELECT subject, truth FROM forecasts ORDER BY subject") == [
        {"subject": "gpu0@a", "truth": None}, {"subject": "system", "truth": 0.75},
    ]  # fmt: skip
    assert len(read(str(path), "FROM runs")) == 1


def test_many_rows_of_all_kinds_of_values_come_back_as_they_went_in(path: Path) -> None:
    ledger = DuckDBLedger(str(path))
    samples = [
        {
            "timestamp": 1.7e9 + i,
            "worker": f"wörker{i} 'x'",
            "slots": i,
            "load": i / 7,
            "emulated": i % 2 == 0,
        }
        for i in range(60_001)
    ]
    assert ledger.record({"worker_samples": samples})
    rows = read(str(path), "SELECT epoch(timestamp) AS timestamp, worker, slots, load, emulated "
                           "FROM worker_samples ORDER BY slots")  # fmt: skip
    assert rows == samples


@pytest.mark.parametrize(
    "bad",
    [
        {"decisions": [{"no_such_column": 1}]},
        {"no_such_table": [{"a": 1}]},
        {"decisions": [{"timestamp": "yesterday"}]},
        {"decisions": [{"timestamp": 1e300}]},
        {"decisions": [{"tasks": 2**40}]},
        {"decisions": [{"tasks": 1.5}]},
        {"decisions": [{"proactive": "yes"}]},
        {"decisions": [{"reason": b"\xff"}]},
        {"decisions": [{"parts": {"x": object()}}]},
    ],
)
def test_a_row_that_cannot_be_kept_is_left_out_and_named_and_its_neighbours_stay(
    path: Path, caplog: pytest.LogCaptureFixture, bad: dict[str, Any]
) -> None:
    ledger = DuckDBLedger(str(path))
    for _ in range(3):
        assert ledger.record({**bad, "load_balancer_metrics": tick(1)["load_balancer_metrics"]})
    assert len(read(str(path), "FROM load_balancer_metrics")) == 3
    assert [record.message for record in caplog.records if "left out" in record.message]
    assert len(caplog.records) == 1


@pytest.mark.parametrize("bad", ["not a number", 1.0])
def test_of_a_batch_only_the_rows_that_do_not_fit_are_left_out(path: Path, bad: Any) -> None:
    columns = {"timestamp": [1.0, 2.0, 3.0], "system_load": [0.5, bad, math.nan]}
    assert DuckDBLedger(str(path)).record({"load_balancer_metrics": Batch(3, lambda: columns)})
    kept = [row["system_load"] for row in read(str(path), "FROM load_balancer_metrics ORDER BY timestamp")]
    assert kept == ([0.5, 1.0, None] if bad == 1.0 else [0.5, None])


def test_what_is_not_a_number_becomes_null_and_lone_surrogates_are_replaced(path: Path) -> None:
    row = {"timestamp": 1.0, "cost": math.nan, "benefit": math.inf, "reason": "a\ud800b",
           "parts": {"x": math.nan, "y": [1, -math.inf], "z\udfff": "\ud800"}}  # fmt: skip
    assert DuckDBLedger(str(path)).record({"decisions": [row]})
    assert read(str(path), "SELECT cost, benefit, reason, parts FROM decisions") == [
        {"cost": None, "benefit": None, "reason": "a?b", "parts": '{"x": null, "y": [1, null], "z?": "?"}'}
    ]


def test_an_empty_path_means_no_ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ledger = DuckDBLedger("")
    assert ledger.record(tick(1))
    ledger.close()
    assert ledger.waiting == 0
    assert list(tmp_path.iterdir()) == []


def test_rows_wait_while_another_process_holds_the_file(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    ledger = DuckDBLedger(str(path))
    assert ledger.record(notes("before"))
    with held(path):
        assert not ledger.record(notes("first"))
        assert not ledger.record(notes("second"))
        assert ledger.waiting == 2
    assert ledger.record(notes("after"))
    assert reasons(path) == ["before", "first", "second", "after"]
    assert [record.message.split(":")[0] for record in caplog.records] == [
        f"the ledger {path} cannot be written, rows wait in memory (at most 100000)",
        f"the ledger {path} can be written again",
    ]


def test_close_writes_what_waits(tmp_path: Path) -> None:
    path = tmp_path / "later" / "ledger.duckdb"
    ledger = DuckDBLedger(str(path))
    assert not ledger.record(notes("a"))
    path.parent.mkdir()
    ledger.close()
    assert reasons(path) == ["a"]


def test_a_missing_directory_is_not_made_and_rows_wait_for_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "mount" / "ledger.duckdb"
    ledger = DuckDBLedger(str(path), backlog=3)
    for number in range(6):
        assert not ledger.record(notes(str(number)))
    assert (ledger.waiting, ledger.dropped) == (3, 3)
    assert len(caplog.records) == 2
    assert "No such file or directory" in caplog.records[0].message
    assert "the oldest are given up" in caplog.records[1].message
    assert not path.parent.exists()
    path.parent.mkdir()
    assert ledger.record(notes("6"))
    assert reasons(path) == ["3", "4", "5", "6"]
    assert ledger.dropped == 0
    assert caplog.records[-1].message.endswith("4 rows are in it, 3 were lost")


def test_rows_lost_at_the_end_are_counted_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = DuckDBLedger(str(tmp_path / "none" / "ledger.duckdb"))
    assert not ledger.record(notes("a", "b"))
    ledger.close()
    assert "2 rows never reached the ledger" in caplog.records[-1].message


def test_a_full_disk_loses_nothing_and_doubles_nothing(path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FILL, str(path)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stdout.split("\n")[:3] == ["True", "False 29999", "True 0"], done.stderr
    assert "cannot be written" in done.stderr
    count = read(str(path), "SELECT count(*) AS rows, count(DISTINCT timestamp) AS kinds FROM decisions")
    assert count == [{"rows": 30_001, "kinds": 30_001}]


@pytest.mark.parametrize("kind", ["garbage", "empty", "truncated", "overwritten"])
def test_a_corrupt_ledger_is_kept_under_another_name_and_a_new_one_begins(
    path: Path, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    ledger = DuckDBLedger(str(path))
    assert ledger.record(notes("old"))
    whole = path.read_bytes()
    broken = {
        "garbage": bytes(range(256)) * 40,
        "empty": b"",
        "truncated": whole[:14_000],
        "overwritten": whole[:4096] + bytes(len(whole) - 4096),
    }[kind]
    path.write_bytes(broken)
    assert ledger.record(notes("new"))
    assert reasons(path) == ["new"]
    aside = [place for place in path.parent.iterdir() if ".corrupt-" in place.name]
    assert [place.read_bytes() for place in aside] == [broken]
    assert f"it is kept as {aside[0]}" in caplog.text


def test_a_file_that_never_was_a_ledger_is_left_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "thesis.txt"
    path.write_text("years of work " * 100)
    assert not DuckDBLedger(str(path)).record(notes("a"))
    assert path.read_text() == "years of work " * 100
    assert list(tmp_path.iterdir()) == [path]
    assert "not a valid DuckDB database file" in caplog.text


def test_a_ledger_of_a_newer_version_is_left_alone(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert DuckDBLedger(str(path)).record(notes("a"))
    with duckdb.connect(str(path)) as connection:
        connection.execute("UPDATE schema_version SET version = 99")
    assert not DuckDBLedger(str(path)).record(notes("b"))
    assert reasons(path) == ["a"]
    assert "a newer celery-balancer wrote it" in caplog.text


def test_a_ledger_of_the_version_before_keeps_its_rows_and_gets_the_new_column(path: Path) -> None:
    sample = {"timestamp": 1.0, "worker": "w", "cpu": 0.5}
    assert DuckDBLedger(str(path)).record({"worker_samples": [sample]})
    with duckdb.connect(str(path)) as connection:
        connection.execute("ALTER TABLE worker_samples DROP COLUMN io")
        connection.execute("UPDATE schema_version SET version = 1")
    assert read(str(path), "SELECT cpu, io FROM worker_samples") == [{"cpu": 0.5, "io": None}]
    assert DuckDBLedger(str(path)).record({"worker_samples": [{**sample, "cpu": 0.25, "io": 0.75}]})
    assert read(str(path), "SELECT cpu, io FROM worker_samples ORDER BY cpu DESC") == [
        {"cpu": 0.5, "io": None}, {"cpu": 0.25, "io": 0.75}]
    assert read(str(path), "SELECT version FROM schema_version") == [{"version": 3}]


def test_readers_in_other_threads_and_the_writer_get_along(path: Path) -> None:
    ledger = DuckDBLedger(str(path))
    assert ledger.record(notes("0"))
    counts: list[int] = []
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            try:
                counts.append(len(reasons(path)))
            except LedgerError:
                counts.append(-1)

    reader = threading.Thread(target=look)
    reader.start()
    try:
        for number in range(1, 20):
            ledger.record(notes(str(number)))
    finally:
        stop.set()
        reader.join()
    assert ledger.record(notes("20"))
    assert reasons(path) == [str(number) for number in range(21)]
    assert any(count > 0 for count in counts)


@pytest.mark.parametrize(
    ("content", "statement", "says"),
    [
        (None, "SELECT 1", "there is no ledger at"),
        (b"not a database " * 10, "SELECT 1", "not a valid DuckDB database file"),
    ],
)
def test_reading_says_what_is_wrong(path: Path, content: bytes | None, statement: str, says: str) -> None:
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(LedgerError, match=says):
        read(str(path), statement)
    assert path.exists() == (content is not None)


def test_reading_without_a_ledger_and_a_wrong_query_are_named(path: Path) -> None:
    with pytest.raises(LedgerError, match="balancer_db_path is empty"):
        read("", "SELECT 1")
    assert DuckDBLedger(str(path)).record(notes("a"))
    with pytest.raises(LedgerError, match="no_such_table"):
        read(str(path), "FROM no_such_table")
    assert read(str(path), "SELECT $days AS days", {"days": 7}) == [{"days": 7}]
