"""`balancer_ledger_days` on a real DuckDB file: which rows go and when, that the file ends growing, and that
nothing stops where rows cannot go."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest

from balancer.adapters.duckdb_ledger import DuckDBLedger, read
from balancer.adapters.ledger_columns import tables
from balancer.adapters.ledger_retention import AGED
from balancer.model.batch import Batch

DAY = 86_400.0
NOW = 1000 * DAY
KEYS = {"moves": ("move_id",), "runs": ("task_id",), "forecasts": ("subject",)}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.duckdb"


def tick(at: float, **more: Any) -> dict[str, Any]:
    return {"load_balancer_metrics": [{"timestamp": at, "system_load": 0.5}], **more}


def aged(*times: float) -> dict[str, list[dict[str, Any]]]:
    """A row of each of these times in each table whose rows go."""
    return {table: [{column: at, **{key: str(at) for key in KEYS.get(table, ())}} for at in times]
            for table, column in AGED.items()}


def kept(path: Path) -> dict[str, list[float]]:
    """Times of the rows of each table whose rows go."""
    return {table: [row["at"] for row in
                    read(str(path), f"SELECT epoch({column}) AS at FROM {table} ORDER BY 1")]
            for table, column in AGED.items()}


def every(*times: float) -> dict[str, list[float]]:
    """What `kept` finds where each table has rows of these times."""
    return {table: [*times] for table in AGED}


def ticks(path: Path) -> int:
    return int(read(str(path), "SELECT count(*) AS n FROM load_balancer_metrics")[0]["n"])


def samples(seed: int, at: float, count: int) -> Batch:
    """Rows that compress badly."""
    dice = np.random.default_rng(seed)
    names = ("load", "cpu", "memory", "gpu", "gpu_memory", "power_w")
    return Batch(count, lambda: {"timestamp": np.full(count, at), **{n: dice.random(count) for n in names}})


def test_each_table_that_grows_by_more_than_a_row_a_tick_has_a_time_by_which_its_rows_go() -> None:
    assert set(tables()) == {*AGED, "load_balancer_metrics"}
    assert [table for table, column in AGED.items() if tables()[table].columns[column] != "TIMESTAMP"] == []


def test_older_rows_go_and_younger_stay_and_all_ticks_do(path: Path) -> None:
    times = (NOW - 30.5 * DAY, NOW - 30 * DAY - 1, NOW - 30 * DAY, NOW)
    ledger = DuckDBLedger(str(path), days=30)
    assert ledger.record(tick(NOW - 30.5 * DAY, **aged(*times)))
    assert kept(path) == every(*times)
    assert ledger.record(tick(NOW))
    assert kept(path) == every(*times[2:])
    assert ticks(path) == 2


def test_nothing_goes_where_all_is_kept(path: Path) -> None:
    ledger = DuckDBLedger(str(path), days=0)
    for at in (1.0, NOW):
        assert ledger.record(tick(at, **aged(at)))
    assert kept(path) == every(1.0, NOW)


def test_rows_go_at_the_first_whole_tick_then_hourly_also_when_the_clock_was_set_back(path: Path) -> None:
    def oldest(at: float, ledger: DuckDBLedger, **rows: Any) -> float:
        assert ledger.record(tick(at, **rows) if at else rows)
        return kept(path)["runs"][0]

    old = [NOW - DAY + minute * 60.0 for minute in (-1, 20, 50, 70)]
    DuckDBLedger(str(path), days=0).record(aged(*old, NOW))
    ledger = DuckDBLedger(str(path), days=1)
    assert oldest(0.0, ledger, **aged(NOW + 1)) == old[0]  # no whole tick
    assert oldest(NOW, ledger) == old[1]
    assert oldest(NOW + 3599, ledger) == old[1]
    assert oldest(NOW + 3600, ledger) == old[3]
    assert oldest(NOW - 2 * DAY, ledger, **aged(NOW - 9 * DAY)) == old[3]


def test_what_is_much_too_old_goes_a_day_at_a_whole_tick(path: Path) -> None:
    days = [NOW - number * DAY for number in range(9, -1, -1)]
    DuckDBLedger(str(path), days=0).record(aged(*days))
    ledger, oldest = DuckDBLedger(str(path), days=4.5), []
    for turn in range(7):
        assert ledger.record(tick(NOW + 30 * turn))
        oldest.append({times[0] for times in kept(path).values()})
    assert oldest[:5] == [{at} for at in days[1:6]]
    assert oldest[5:] == [{days[5]}] * 2


def test_the_file_does_not_grow_beyond_its_days(path: Path) -> None:
    def sizes(ledger: DuckDBLedger) -> Iterator[int]:
        for turn in range(72):
            at = NOW + turn * DAY / 12
            assert ledger.record(tick(at, worker_samples=samples(turn, at, 3000)))
            yield path.stat().st_size

    grown = list(sizes(DuckDBLedger(str(path), days=1)))
    assert read(str(path), "SELECT count(*) AS n FROM worker_samples") == [{"n": 13 * 3000}]
    assert max(grown[36:]) <= 1.25 * max(grown[:36])


def test_a_deletion_that_fails_loses_no_row_and_is_said_once(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = DuckDBLedger(str(path), days=1)
    assert ledger.record(tick(NOW - 2 * DAY, **aged(NOW - 2 * DAY)))
    with duckdb.connect(str(path)) as connection:
        connection.execute("ALTER TABLE moves RENAME TO hidden; CREATE VIEW moves AS SELECT 1 AS nothing")
    for hour in range(3):
        assert ledger.record(tick(NOW + hour * 3600, runs=aged(NOW + hour)["runs"]))
    assert (ticks(path), len(read(str(path), "SELECT * FROM runs"))) == (4, 4)
    assert caplog.text.count("too old cannot be deleted") == 1
    with duckdb.connect(str(path)) as connection:
        connection.execute("DROP VIEW moves; ALTER TABLE hidden RENAME TO moves")
    assert ledger.record(tick(NOW + 3 * 3600))
    assert kept(path) == {**every(), "runs": [NOW, NOW + 1, NOW + 2]}
