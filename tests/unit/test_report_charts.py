"""The pictures: what they are made of, from a ledger of real records, and how large they get."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path

import duckdb
import pytest

from balancer.adapters.duckdb_ledger import DuckDBLedger, read
from balancer.errors import BalancerError, LedgerError
from balancer.report.charts import METRICS, build, metric
from balancer.report.questions import Rows, window
from balancer.report.render import image
from tests.unit.ledger_samples import START, Sample, asking, whole, write_sample

SEED = ["system_load", "thresholds", "migration_success_rate", "worker_utilization", "prediction_accuracy",
        "cost_benefit"]  # fmt: skip


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ledger") / "ledger.duckdb"
    write_sample(str(path))
    return path


def data(path: Path, name: str) -> dict[str, Rows]:
    ask = asking(path)
    picture = build(name, ask, whole(ask))
    assert picture is not None
    return picture.datasets


def test_the_seeds_six_pictures_come_first() -> None:
    assert list(METRICS)[:6] == SEED


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("interactive", [False, True])
def test_every_picture_is_drawn_by_vega_itself(ledger: Path, name: str, interactive: bool) -> None:
    ask = asking(ledger)
    picture = build(name, ask, whole(ask), interactive=interactive)
    assert picture is not None
    spec = picture.spec()
    svg = image(spec, ".svg").decode()
    assert METRICS[name].title in svg
    assert "NaN" not in svg
    assert "undefined" not in svg
    assert bool(spec.get("params")) == interactive
    assert image(spec, ".png").startswith(b"\x89PNG")


def test_the_heatmap_has_every_worker_labels_emulated_ones_and_shows_death_as_a_gap(ledger: Path) -> None:
    cells = data(ledger, "system_load")["load"]
    rows = {row["row"] for row in cells}
    assert len(rows) == 12
    assert {row for row in rows if "(emulated)" not in row} == {"cpu · cpu-0@node0", "cpu · cpu-1@node1"}
    ends = {
        name: max(row["stop"] for row in cells if row["row"].endswith(name))
        for name in ("p100-1@node1", "p100-0@node0")
    }
    assert ends["p100-1@node1"] < ends["p100-0@node0"] - 60_000
    steady = [row for row in cells if row["row"].endswith("k80-0@node0")]
    assert all(a["stop"] == b["start"] for a, b in pairwise(steady))


def test_colours_are_the_same_for_a_class_in_every_picture(ledger: Path) -> None:
    ask = asking(ledger)
    domains = []
    for name in ("worker_utilization", "throughput", "energy"):
        picture = build(name, ask, whole(ask))
        assert picture is not None
        text = picture.chart.to_json()
        domains.append([text.index(label) for label in ("cuda-K80 (emulated)", "cuda-P100 (emulated)")])
        assert '"cpu"' in text
    assert all(first < second for first, second in domains)


def test_a_legend_names_only_classes_with_a_bar_and_energy_has_its_unit(ledger: Path) -> None:
    ask = asking(ledger)
    picture = build("energy", ask, whole(ask))
    assert picture is not None
    svg = image(picture.spec(), ".svg").decode()
    assert "cuda-V100 (emulated)" in svg
    assert ">cpu<" not in svg
    assert re.search(r">\d+ k?J<", svg)
    assert ">0 J<" in svg


def test_the_success_rate_counts_only_moves_that_ended(tmp_path: Path) -> None:
    path = tmp_path / "ledger.duckdb"
    states = ["completed"] * 3 + ["refused", "stale", "requested", "handed_over"]
    moves = [
        {"move_id": str(i), "state": state, "decided_at": START, "kind": "running"}
        for i, state in enumerate(states)
    ]
    assert DuckDBLedger(str(path)).record({"moves": moves})
    datasets = data(path, "migration_success_rate")
    assert [(r["completed"], r["ended"], r["rate"]) for r in datasets["rates"]] == [(3, 5, 0.6)]
    assert {r["outcome"]: r["moves"] for r in datasets["moves"]} == {
        "completed": 3, "refused": 1, "stale": 1, "under way": 2,
    }  # fmt: skip
    assert [(r["from"], r["to"]) for r in datasets["moves"]] == [(0, 3), (3, 5), (5, 6), (6, 7)]


def test_a_ledger_with_nothing_but_the_seeds_table_still_has_pictures(tmp_path: Path) -> None:
    path = tmp_path / "old.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute(
            "CREATE TABLE load_balancer_metrics (id INTEGER PRIMARY KEY, timestamp TIMESTAMP, "
            "system_load FLOAT, threshold_high FLOAT, threshold_low FLOAT, imbalance_score FLOAT, "
            "migrations_initiated INTEGER, "
            "migrations_successful INTEGER, prediction_accuracy FLOAT, metrics JSON)"
        )
        connection.execute(
            "INSERT INTO load_balancer_metrics "
            "VALUES (1, make_timestamp(1767268800000000), .5, .8, .2, .3, 4, 3, .75, '{}')"
        )
    ask = asking(path)
    drawn = {name for name in METRICS if build(name, ask, whole(ask)) is not None}
    assert drawn == {"thresholds", "migration_success_rate", "prediction_accuracy"}
    assert data(path, "migration_success_rate")["rates"][0]["rate"] == 0.75
    assert data(path, "prediction_accuracy")["forecasts"][0]["accuracy"] == 0.75


def test_accuracy_is_of_forecasts_that_came_due_and_the_band_goes_on(ledger: Path) -> None:
    forecasts = data(ledger, "prediction_accuracy")["forecasts"]
    judged = read(
        str(ledger), "SELECT count(truth) AS n, avg(accuracy) AS a FROM forecasts WHERE subject = 'system'"
    )[0]
    assert sum(row["forecasts"] for row in forecasts) == judged["n"]
    mean = sum(row["accuracy"] * row["forecasts"] for row in forecasts if row["forecasts"]) / judged["n"]
    assert mean == pytest.approx(judged["a"])
    assert forecasts[-1]["truth"] is None
    assert forecasts[-1]["high"] is not None


def test_where_no_forecast_is_judged_the_picture_says_when_the_first_will_be(tmp_path: Path) -> None:
    path = tmp_path / "short.duckdb"
    made = [{"subject": "system", "made_at": START + n, "due_at": START + 30 + n, "value": 0.5, "low": 0.4,
             "high": 0.6} for n in range(5)]  # fmt: skip
    ticks = [{"timestamp": START + n, "system_load": 0.5} for n in range(5)]
    assert DuckDBLedger(str(path)).record({"load_balancer_metrics": ticks, "forecasts": made})
    ask = asking(path)
    picture = build("prediction_accuracy", ask, whole(ask))
    assert picture is not None
    svg = image(picture.spec(), ".svg").decode()
    for words in ("No forecast has been judged yet.", "is due at 12:00:30 UTC;", "goes to 12:00:04."):
        assert words in svg
    assert ">accuracy<" not in svg


@pytest.mark.parametrize(
    "name", ["thresholds", "migration_success_rate", "worker_utilization", "prediction_accuracy"]
)
def test_a_mark_at_the_end_of_a_ratio_is_drawn_whole(ledger: Path, name: str) -> None:
    ask = asking(ledger)
    picture = build(name, ask, whole(ask), interactive=True)
    assert picture is not None
    scales = re.findall(r'"scale": (\{[^{}]*"domain": \[0, 1\][^{}]*\})', json.dumps(picture.spec()))
    assert scales
    assert all(json.loads(scale).get("padding", 0) >= 5 for scale in scales)
    labels = re.findall(r">([−-]?\d+%)<", image(picture.spec(), ".svg").decode())
    assert labels
    assert {"-10%", "−10%", "110%"}.isdisjoint(labels)


def test_a_large_ledger_stays_a_small_picture(tmp_path: Path) -> None:
    path = tmp_path / "large.duckdb"
    write_sample(str(path), Sample(span_s=400_000, ticks=300, scale=8))
    ask = asking(path)
    span = whole(ask)
    sizes = {}
    for name in METRICS:
        picture = build(name, ask, span)
        assert picture is not None
        sizes[name] = max(len(rows) for rows in picture.datasets.values())
    assert read(str(path), "SELECT count(*) > 25_000 AS many FROM worker_samples") == [{"many": True}]
    assert max(sizes.values()) <= 2000, sizes
    rows = {row["row"] for row in data(path, "system_load")["load"]}
    assert rows == {"cpu", "cuda-K80 (emulated)", "cuda-P100 (emulated)", "cuda-V100 (emulated)"}


def test_days_count_back_from_now_and_an_old_ledger_says_how_old_it_is(ledger: Path) -> None:
    ask = asking(ledger)
    recent = window(ask, days=1 / 1440, now=START + 180)
    assert recent is not None
    assert (recent.since, recent.until, recent.tick_s) == (START + 120, START + 180, 5.0)
    with pytest.raises(LedgerError, match=r"nothing of the last 7 days; its last entry is 30\.0 days old"):
        window(ask, days=7, now=START + 180 + 30 * 86_400)


@pytest.mark.parametrize(
    ("name", "near"),
    [("treshold", "thresholds"), ("migration_sucess", "migration_success_rate"), ("zzz", None)],
)
def test_an_unknown_metric_names_the_nearest_and_all(name: str, near: str | None) -> None:
    with pytest.raises(BalancerError, match="There are: system_load, thresholds") as error:
        metric(name)
    assert (f"did you mean '{near}'?" in str(error.value)) == (near is not None)


def test_metrics_may_be_spelt_with_hyphens_and_capitals() -> None:
    assert metric(" Migration-Success-Rate ").name == "migration_success_rate"
