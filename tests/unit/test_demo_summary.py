"""What a demo says at its end and shows on the way."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from balancer.adapters.duckdb_ledger import DuckDBLedger
from balancer.demo.crew import crew
from balancer.demo.display import Display, Scene, line, picture
from balancer.demo.disturb import Disturbance, planned
from balancer.demo.summary import Account, figures, lines, show, sound
from balancer.demo.watch import Now, Verdict
from balancer.demo.workload import Clipped
from balancer.ledger_rows import move_rows
from balancer.model import Migration, Move, MoveKind, Score


def account(ledger: Path) -> Account:
    return Account(
        strategy="priced", seed=3, tasks=4, lost=0, failed=0, completions_s=[1.0, 2.0, 3.0, 10.0],
        makespan_s=12.0, bound_s=10.0,
        verdict=Verdict(finished_twice=(), never_finished=(), runs=5, resumed=1, left=0, cut_off=1),
        disturbances=(Disturbance(kind="kill", target="P100-1@emulated", at_s=4.5),),
        clipped=Clipped(percentile=95, jobs=2, longest_s=1.5, raised=0, seconds_for_one=1000), workers=12,
        warm=True, ledger=ledger,
    )


def migration(kind: MoveKind, number: int, moved: int = 0, **state: object) -> Migration:
    move = Move(
        move_id=f"m{number}", task_id=f"t{number}", profile="p", kind=kind, source="a", target="b",
        target_queue="q", reason="r", score=Score(cost=1, benefit=2), at=1.0,
    )
    done = Migration(move=move, state="completed", requested_at=1.0, ended_at=2.0, moved=moved)
    return replace(done, **state)  # type: ignore[arg-type]


def test_the_figures_of_a_run() -> None:
    found = figures(account(Path("no-such-ledger")))
    assert found["makespan_over_bound"] == 1.2
    assert found["mean_completion_s"] == 4.0
    assert found["p99_completion_s"] == pytest.approx(9.79)
    assert found["disturbances"] == [[4.5, "kill", "P100-1@emulated"]]
    assert sound(found)


def test_without_a_ledger_moves_are_unknown_not_none_made() -> None:
    found = figures(account(Path("no-such-ledger")))
    assert found["moves_running"] is None
    assert found["forecast_accuracy"] is None
    assert found["ledger"] is None
    assert "the ledger could not be read" in dict(lines(found))["moves"]


def test_moves_are_counted_by_kind_in_tasks_and_only_when_they_came_about(tmp_path: Path) -> None:
    path = tmp_path / "ledger.duckdb"
    ledger = DuckDBLedger(str(path))
    assert ledger.record(move_rows([
        migration("queued", 1, moved=7), migration("running", 2), migration("running", 3),
        migration("running", 4, state="refused"),
    ]))
    ledger.close()
    found = figures(account(path))
    assert (found["moves_queued"], found["moves_reserved"], found["moves_running"]) == (7, 0, 2)


@pytest.mark.parametrize("fault", ["lost", "failed"])
def test_a_task_that_is_lost_or_wrong_is_not_sound(fault: str) -> None:
    found = figures(replace(account(Path("none")), **{fault: 1}))
    assert not sound(found)
    assert f"1 {fault}" in dict(lines(found))["tasks"]


def test_a_task_that_finished_twice_is_not_sound() -> None:
    seen = account(Path("none"))
    doubled = replace(seen, verdict=replace(seen.verdict, finished_twice=("t1",)))
    assert not sound(figures(doubled))


def test_what_is_emulated_is_called_so_on_the_screen_and_at_the_end() -> None:
    console = Console(width=140, record=True, quiet=False, file=open("/dev/null", "w"))  # noqa: SIM115
    with console.file:
        console.print(picture(scene(), crew()))
    shown = console.export_text()
    assert shown.count("(emulated)") == 10
    assert "P100-1  cuda-P100 (emulated)  killed" in shown
    assert "emulated" in dict(lines(figures(account(Path("none")))))["hardware"]


def test_the_live_table_fits_eighty_columns_with_all_its_columns() -> None:
    console = Console(width=80, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    with console.file:
        console.print(picture(scene(), crew()))
    header, *rows = console.export_text().splitlines()[1:14]
    assert header.split() == ["worker", "hardware", "state", "done", "progress", "runs"]
    slowed = next(row for row in rows if row.startswith("V100-1"))
    assert slowed.split()[:9] == [
        "V100-1", "cuda-V100", "(emulated)", "slowed,", "busy", "0", "━━━━", "Transformer", "(batch"
    ]


def test_the_summary_is_one_line_a_figure_where_there_is_no_terminal(
    capsys: pytest.CaptureFixture[str]
) -> None:
    found = figures(account(Path("none")))
    show(found, Console(width=40))
    printed = capsys.readouterr().out.splitlines()
    assert printed == [f"{label}: {text}" for label, text in lines(found)]
    show(found, Console(width=60, force_terminal=True))
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 60 + len("\x1b[1m\x1b[0m") * 2


def scene() -> Scene:
    now = {
        name: Now(worker=name, task_id="t", profile="Transformer (batch size 128)", share=0.5)
        for name in ("V100-1@emulated", "P100-1@emulated")
    }
    return Scene(elapsed_s=12.3, total=40, published=20, done=7, now=now, left=2,
                 states={"P100-1@emulated": "killed", "V100-1@emulated": "slowed"})


def test_a_killed_worker_runs_nothing_whatever_it_said_last() -> None:
    assert (scene().running, scene().waiting) == (1, 12)
    assert line(scene()) == " 12.3 s  7 of 40 done, 1 running, 12 waiting, 2 moved while running"


def test_without_a_terminal_it_prints_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    said = "a [bold] sentence that is longer than the forty columns there are"
    display = Display(Console(width=40), crew())
    with display:
        display.say(said, 3.0)
        display.show(scene(), at_once=True)
    printed = capsys.readouterr().out.splitlines()
    assert printed == [f"  3.0 s  {said}", line(scene())]


def test_on_a_terminal_announcements_stay_above_the_live_table(capsys: pytest.CaptureFixture[str]) -> None:
    display = Display(Console(width=80, force_terminal=True), crew())
    display.say("before the table")
    with display:
        display.show(scene(), at_once=True)
        display.say("something happens", 3.0)
    printed = capsys.readouterr().out
    assert printed.index("before the table") < printed.index("K80-1")
    assert "something happens" in printed


def test_every_disturbance_is_said_in_plain_words() -> None:
    plan = planned(crew(), 60.0, kill_beat=True, second_balancer=True)
    assert [d.kind for d in plan] == ["second_beat", "join", "join", "slow", "kill", "kill_beat"]
    assert all(d.target.partition("-2")[0] in d.sentence() for d in plan)
    assert [d.at_s for d in plan] == sorted(d.at_s for d in plan)
    assert "while it is idle" in replace(plan[4], idle=True).sentence()
