"""The ledger's file under batches of rows: waiting, replaced by key, killed while they are written."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest

from balancer.adapters.duckdb_ledger import DuckDBLedger, read
from balancer.model.batch import Batch

ROOT = Path(__file__).parents[2]

WRITE = """
import itertools, sys
from balancer.adapters.duckdb_ledger import DuckDBLedger
from balancer.model.batch import Batch
ledger = DuckDBLedger(sys.argv[1])
for at in itertools.count():
    columns = {"timestamp": [float(at)] * 3000, "worker": [f"w{i}" for i in range(3000)]}
    assert ledger.record({"worker_samples": Batch(3000, lambda: columns)})
    print(at, flush=True)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.duckdb"


def batch(subjects: list[str], truth: float) -> Batch:
    count = len(subjects)
    return Batch(count, lambda: {
        "subject": np.array(subjects, dtype=object), "made_at": np.full(count, 1.0),
        "due_at": np.full(count, 2.0), "truth": np.full(count, truth)})


def truths(path: Path) -> list[tuple[str, Any]]:
    found = read(str(path), "SELECT subject, truth FROM forecasts ORDER BY subject, truth")
    return [(row["subject"], row["truth"]) for row in found]


def test_batches_and_rows_wait_in_order_the_oldest_go_and_the_last_of_a_key_stays(tmp_path: Path) -> None:
    path = tmp_path / "later" / "ledger.duckdb"
    ledger = DuckDBLedger(str(path), backlog=5)
    row = {"subject": "c", "made_at": 1.0, "due_at": 2.0, "truth": 0.25}
    assert not ledger.record({"forecasts": batch(["a", "b", "c"], float("nan"))})
    other = {**row, "subject": "d"}
    assert not ledger.record({"forecasts": [row, other, {**other, "truth": 0.5}]})
    assert (ledger.waiting, ledger.dropped) == (5, 1)
    path.parent.mkdir()
    assert ledger.record({"forecasts": batch(["e"], 0.75)})
    assert truths(path) == [("b", None), ("c", 0.25), ("d", 0.5), ("e", 0.75)]
    assert ledger.record({"forecasts": batch(["b"], 1.0)})
    assert truths(path)[:2] == [("b", 1.0), ("c", 0.25)]


def test_arrays_are_kept_as_the_plain_values_of_their_rows_are(path: Path) -> None:
    columns: dict[str, Any] = {
        "timestamp": np.array([1.5, np.nan, 3.0]), "worker": np.array(["ä", None, "\ud800"], dtype=object),
        "slots": np.array([1, 2, 3]), "load": np.array([0.5, np.inf, np.nan]),
        "emulated": np.array([1.0, np.nan, 0.0]), "cpu": [None, 1, 0.25],
    }
    rows = Batch(3, lambda: columns)
    assert DuckDBLedger(str(path)).record({"worker_samples": rows})
    kept = read(str(path), "SELECT epoch(timestamp) AS timestamp, worker, slots, load, emulated, cpu "
                           "FROM worker_samples ORDER BY slots")
    assert kept == [{**rows[0]}, {**rows[1]}, {**rows[2], "worker": "?"}]
    assert [kept[1][name] for name in columns] == [None, None, 2, None, None, 1.0]


@pytest.mark.parametrize("column", [
    {"slots": np.array([1.5])}, {"slots": np.array([2.0**31])}, {"timestamp": np.array([1e300])},
    {"emulated": np.array([0.5])}, {"worker": np.array([1.0])}, {"load": np.array(["x"], dtype=object)},
])
def test_what_does_not_fit_of_an_array_is_left_out(path: Path, column: dict[str, Any]) -> None:
    ledger = DuckDBLedger(str(path))
    assert ledger.record({"worker_samples": Batch(1, lambda: column)})
    assert ledger.record({"worker_samples": [{"worker": "w"}]})
    assert read(str(path), "SELECT worker FROM worker_samples") == [{"worker": "w"}]


def test_a_ledger_of_larger_row_groups_goes_on_and_its_rows_are_replaced(path: Path) -> None:
    assert DuckDBLedger(str(path)).record({"decisions": [{"timestamp": 1.0}]})
    old = [{"subject": f"w{i}", "made_at": 1.0, "due_at": 2.0, "value": 0.5} for i in (0, 29_999)]
    with duckdb.connect(str(path)) as connection:
        connection.execute("INSERT INTO forecasts (subject, made_at, due_at, value) SELECT 'w' || i, "
                           "make_timestamp(1000000), make_timestamp(2000000), 0.5 FROM range(30000) r(i)")
    assert DuckDBLedger(str(path)).record(
        {"forecasts": [{**old[0], "truth": 0.25}, {**old[1], "truth": 0.25}, {**old[0], "subject": "v"}]})
    found = read(str(path), "SELECT count(*) AS rows, count(truth) AS judged, "
                            "count(DISTINCT subject) AS subjects FROM forecasts")
    assert found == [{"rows": 30_001, "judged": 2, "subjects": 30_001}]


def test_the_file_is_a_whole_ledger_whenever_its_writer_is_killed(path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", WRITE, str(path)], cwd=ROOT, stdout=subprocess.PIPE,
                          text=True) as writer:
        assert writer.stdout is not None
        told = [writer.stdout.readline() for _ in range(20)]
        writer.kill()
        told += writer.stdout.readlines()
    ticks = read(str(path), "SELECT timestamp, count(*) AS rows FROM worker_samples GROUP BY 1 ORDER BY 1")
    assert {tick["rows"] for tick in ticks} == {3000}
    assert len(told) <= len(ticks) <= len(told) + 1
    assert DuckDBLedger(str(path)).record({"worker_samples": [{"worker": "after"}]})
