"""The command `simulate`: the same figures for the same seed, and what is wrong said in a sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import duckdb
import pytest
from click.testing import CliRunner

from balancer.adapters.duckdb_ledger import DuckDBLedger
from balancer.cli import standalone
from balancer.decide.strategies.priced import Priced
from balancer.simulate import scenarios
from balancer.simulate.recorded import load_nodes, load_pods
from tests.unit.ledger_samples import write_sample

KEYS = ["makespan_s", "bound_s", "bound_tasks_s", "mean_completion_s", "p99_completion_s",
        "load_stddev", "effective_utilisation", "busy_share", "energy_j", "bound_energy_j", "rebalance_s",
        "moves_queued", "moves_running", "unfinished"]


class Mine(Priced):
    """A strategy of one's own, by import path."""

    name = "mine"


def simulate(*arguments: str) -> str:
    done = CliRunner().invoke(standalone, ["simulate", *arguments])
    assert done.exit_code == 0, done.output
    return done.output


def figures(*arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(simulate(*arguments, "--json"))
    return found


def refusal(*arguments: str) -> str:
    done = CliRunner().invoke(standalone, ["simulate", *arguments])
    assert done.exit_code != 0
    assert "Traceback" not in done.output
    return done.output


def test_one_json_object_with_these_keys_and_the_same_each_time() -> None:
    first, second = (simulate("--scenario", "gradual", "--seed", "4", "--json") for _ in range(2))
    assert first == second
    assert list(json.loads(first)) == KEYS
    assert first != simulate("--scenario", "gradual", "--seed", "5", "--json")


def test_a_person_reads_what_was_simulated_and_against_what() -> None:
    text = simulate("--scenario", "gradual", "--cold")
    assert "load grows from 0.2 to 1.0" in text
    assert "4 cuda-V100; strategy priced, nothing known beforehand" in text
    assert "which nobody can beat" in text


def test_more_workers_and_other_options_change_the_outcome() -> None:
    plain = figures("--scenario", "mixed", "--strategy", "fixed")
    more = figures("--scenario", "mixed", "--strategy", "fixed", "--add", "cuda-V100=2")
    assert more["bound_s"] < plain["bound_s"]
    assert figures("--scenario", "mixed", "--strategy", "fixed", "--set", "check_interval=5") != plain
    assert figures("--scenario", "mixed", "--workers", "24")["bound_s"] != plain["bound_s"]


def test_a_strategy_by_import_path_is_driven() -> None:
    mine = figures("--scenario", "gradual", "--strategy", f"{__name__}:Mine")
    assert mine == figures("--scenario", "gradual", "--strategy", "priced")


def test_files_of_ones_own_are_played(tmp_path: Path) -> None:
    trace, speeds = tmp_path / "trace.csv", tmp_path / "speeds.csv"
    rows = [f"{10 * i},train,1,{100 + 10 * (i % 3)}" for i in range(30)]
    trace.write_text("arrival_s,job_type,scale_factor,total_steps\n" + "\n".join(rows))
    speeds.write_text("job_type,scale_factor,cpu,cuda-Mine\ntrain,1,1,10\n")
    found = figures("--trace", str(trace), "--speeds", str(speeds), "--workers", "4")
    assert found["unfinished"] == 0
    assert found["makespan_s"] >= found["bound_s"] > 0
    speeds.write_text("job_type,scale_factor,cpu\ntrain,1,fast\n")
    assert "speeds.csv:2: cpu is 'fast', not a number" in refusal(
        "--trace", str(trace), "--speeds", str(speeds))


def test_a_ledger_is_replayed_and_asked_for_more_workers(tmp_path: Path) -> None:
    path = tmp_path / "ledger.duckdb"
    runs = [
        {"task_id": f"t{i}", "profile": "train", "worker": "a", "hardware_class": "cuda-V100", "epoch": 0,
         "outcome": "success", "started_at": 1000.0 + 2 * (i // 2), "ended_at": 1010.0 + 2 * (i // 2),
         "duration_s": 10.0, "size": 1.0, "share": 1.0} for i in range(20)
    ]
    samples = [{"timestamp": 1000.0, "worker": name, "hardware_class": "cuda-V100", "slots": 1,
                "power_w": 50.0} for name in ("a", "b")]
    ledger = DuckDBLedger(str(path))
    assert ledger.record({"runs": runs, "worker_samples": samples})
    ledger.close()
    found = figures("--from-ledger", str(path))
    assert found["bound_s"] == pytest.approx(100.0)
    assert found["makespan_s"] >= 100.0
    assert found["mean_completion_s"] < 60
    # Twenty runs of ten seconds on four workers.
    assert figures("--from-ledger", str(path), "--add", "cuda-V100=2")["bound_s"] == pytest.approx(50.0)


@pytest.mark.parametrize(("arguments", "said"), [
    (("--scenario", "spkie"), "did you mean 'spike'?"),
    (("--strategy", "prized"), "did you mean 'priced'?"),
    (("--add", "cuda-V100"), "CLASS=N was expected"),
    (("--add", "cuda-V100=-9"), "cannot go: there are 4"),
    (("--add", "cuda-K80=-4", "--add", "cuda-P100=-4", "--add", "cuda-V100=-4"), "no worker is left"),
    (("--add", "cuda-V100=100000"), "100012 workers are too many; at most 10000"),
    (("--add", "V100=1"), "no job of 'mixed' runs on 'V100'; they run on cuda-K80, cuda-P100, cuda-V100"),
    (("--set", "check_interval"), "--set check_interval: OPTION=VALUE was expected"),
    (("--set", "balancer_strategy=fixed"), "chosen by --strategy"),
    (("--set", "check_intervall=5"), "did you mean 'balancer_check_interval'"),
    (("--trace", "pyproject.toml"), "--trace and --speeds go together"),
    (("--from-ledger", "pyproject.toml"), "the ledger pyproject.toml cannot be read"),
])
def test_what_is_wrong_is_said(arguments: tuple[str, ...], said: str) -> None:
    assert said in refusal(*arguments)


def test_a_replayed_task_arrives_when_it_was_published(tmp_path: Path) -> None:
    path = tmp_path / "ledger.duckdb"
    runs = [
        {"task_id": f"t{i}", "profile": "train", "worker": "a", "hardware_class": "cpu", "epoch": 0,
         "outcome": "success", "ready_at": 1000.0, "started_at": 1000.0 + 10 * i,
         "ended_at": 1010.0 + 10 * i, "duration_s": 10.0, "size": 1.0, "share": 1.0} for i in range(10)
    ]
    sample = {"timestamp": 1000.0, "worker": "a", "hardware_class": "cpu", "slots": 1, "power_w": 50.0}
    ledger = DuckDBLedger(str(path))
    assert ledger.record({"runs": runs, "worker_samples": [sample]})
    ledger.close()
    # Ten that wait from the beginning, one after the other, and by two.
    assert figures("--from-ledger", str(path))["mean_completion_s"] == pytest.approx(55.0, rel=0.01)
    two = figures("--from-ledger", str(path), "--add", "cpu=1")
    assert two["mean_completion_s"] == pytest.approx(30.0, rel=0.01)
    with duckdb.connect(str(path)) as connection:  # as an older balancer wrote it
        connection.execute("ALTER TABLE runs DROP COLUMN ready_at")
    assert figures("--from-ledger", str(path))["mean_completion_s"] == pytest.approx(10.0, rel=0.01)


#: A trace and a table of speeds that can be played.
TRACE = "arrival_s,job_type,scale_factor,total_steps\n0,train,1,100\n5,train,1,200\n9,other,1,50\n"
SPEEDS = "job_type,scale_factor,cpu,cuda-Mine\ntrain,1,1,10\n"


@pytest.mark.parametrize(("trace", "speeds", "said"), [
    ("", SPEEDS, "trace.csv has no column arrival_s, job_type, total_steps: its first line must name"),
    (TRACE.partition("\n")[0], SPEEDS, "trace.csv holds nothing below its first line"),
    (TRACE.replace("total_steps", "steps"), SPEEDS, "trace.csv has no column total_steps"),
    (TRACE.replace("5,train", "-5,train"), SPEEDS, "trace.csv:3: arrival_s is -5"),
    (TRACE.replace("200", "0"), SPEEDS, "trace.csv:3: total_steps is 0"),
    (TRACE, SPEEDS.replace("train", "sing"), "speeds.csv has no speed for any job of"),
    (TRACE, SPEEDS.replace("cuda-Mine", "Mine"), "'Mine' is no hardware class: it begins with no known kind"),
    (TRACE, SPEEDS.replace(",10", ",-1"), "speeds.csv:2: cuda-Mine is -1"),
])
def test_what_is_wrong_with_a_file_is_said(tmp_path: Path, trace: str, speeds: str, said: str) -> None:
    (tmp_path / "trace.csv").write_text(trace)
    (tmp_path / "speeds.csv").write_text(speeds)
    output = refusal("--trace", str(tmp_path / "trace.csv"), "--speeds", str(tmp_path / "speeds.csv"))
    assert said in output


def test_jobs_that_no_speed_is_known_of_are_left_out_and_told_of(tmp_path: Path) -> None:
    (tmp_path / "trace.csv").write_text(TRACE)
    (tmp_path / "speeds.csv").write_text(SPEEDS)
    text = simulate("--trace", str(tmp_path / "trace.csv"), "--speeds", str(tmp_path / "speeds.csv"))
    assert "2 jobs of the trace" in text
    assert "1 jobs of it are left out, as speeds.csv has no speed for them: other" in " ".join(text.split())


def test_a_database_that_is_no_ledger_has_nothing_to_replay(tmp_path: Path) -> None:
    path = tmp_path / "other.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute("CREATE TABLE elsewhere (a INTEGER)")
    assert "holds no finished run to replay" in refusal("--from-ledger", str(path))


def test_what_reads_a_file_needs_no_app_and_what_asks_the_fleet_does(tmp_path: Path) -> None:
    path = tmp_path / "ledger.duckdb"
    write_sample(str(path))
    page = tmp_path / "report.html"
    done = CliRunner().invoke(standalone, ["report", "--db-path", str(path), "--output", str(page)],
                              env={"APP": "", "CELERY_APP": ""})
    assert (done.exit_code, page.exists()) == (0, True), done.output
    done = CliRunner().invoke(standalone, ["status"], env={"APP": "", "CELERY_APP": ""})
    assert done.exit_code != 0
    assert "Missing option '-A'" in done.output


def test_the_tables_of_openb_are_whole() -> None:
    assert len(load_pods()) == 7064
    assert sum(node.gpus for node in load_nodes()) == 6212
    assert len(load_nodes()) == 1213


@pytest.mark.parametrize("name", scenarios.SCENARIOS)
def test_every_scenario_has_work_that_its_fleet_can_do(name: str) -> None:
    made = scenarios.by_name(name, 1)
    classes = {machine.hardware.hardware_class for machine in made.machines}
    assert len(made.jobs) > 100
    assert all(classes & set(made.seconds[job.profile]) for job in made.jobs)
    assert made.jobs == scenarios.by_name(name, 1).jobs
    assert made.jobs != scenarios.by_name(name, 2).jobs
