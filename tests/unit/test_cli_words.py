"""What the commands say to a person: whole words, nothing empty, the reason and the way out."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import click
import pytest
from click.testing import CliRunner
from rich.console import Console

from balancer.adapters.redis_cancelled import Cancelled
from balancer.cancelling import outlook
from balancer.cli import Commands
from balancer.cli.options import options
from balancer.cli.screen import few, labelled, table
from balancer.cli.status import draw, nobody_can
from balancer.cli.story import facts, history
from balancer.errors import StoreError
from balancer.model import Hardware, Needs, Worker

T0 = datetime(2026, 1, 2, 3, 4, 5)


def text_of(thing: Any, width: int = 80) -> str:
    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    with console.file:
        console.print(thing)
    return console.export_text()


def worker(name: str, **values: Any) -> dict[str, Any]:
    return {"name": name, "class": "cuda-K80", "emulated": True, "telemetry": "emulated", "health": "ok",
            "slots": 1, "busy": 1, "reserved": 0, "load": {"gpu": 0.5}, "temperature_celsius": None,
            "power_w": 150.0, "running": [], **values}


def status(**values: Any) -> dict[str, Any]:
    return {"holder": "host:1", "strategy": "priced", "prediction_accuracy": None, "imbalance": None,
            "system_load": {"average": 0.5, "deviation": 0.1, "imbalance": 0.2}, "thresholds": {},
            "totals": {"initiated": 0, "successful": 0}, "workers": [], "lanes": [], "queues": {},
            "orders": {}, "moves": [], "silent": [], "set_aside": [], **values}


def drawn(document: dict[str, Any]) -> str:
    console = Console(width=80, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    with console.file:
        draw(document, console)
    return console.export_text()


def test_an_empty_fleet_says_how_to_begin() -> None:
    said = drawn(status(holder=None))
    assert "celery -A PROJ beat" in said
    assert "celery -A PROJ worker" in said
    assert "Orders" not in said


def test_the_power_of_a_class_is_told_with_where_it_comes_from() -> None:
    power = {"cuda-V100": {"slot_w": 260.4, "idle_w": 40.0, "source": "measured"},
             "cpu": {"slot_w": None, "idle_w": None, "source": "table"}}
    assert "a slot in use draws: cuda-V100 260 W (measured)\n" in drawn(status(power=power))
    assert "draws" not in drawn(status(power={"cpu": power["cpu"]}))


def test_groups_that_are_ahead_are_told() -> None:
    said = " ".join(drawn(status(groups={"gold": 0.0, "night": 12.4, "": 3.0})).split())
    assert "go after the others: night 12 s, without a group 3 s ahead" in said
    assert "groups" not in drawn(status(groups={"gold": 0.0}))


def test_nodes_that_may_sleep_are_named() -> None:
    assert "nodes that may sleep: n1, n2\n" in drawn(status(may_sleep=["n1", "n2"]))
    assert "sleep" not in drawn(status(may_sleep=[]))


def test_a_fleet_fits_eighty_columns_and_leaves_out_what_nobody_reports() -> None:
    said = drawn(status(workers=[worker(f"V100-{n}@emulated") for n in range(3)]))
    assert "V100-2@emulated  cuda-K80 (emulated)  1/1" in said
    assert "°C" not in said
    assert "cpu" not in said
    assert "all healthy" in said
    assert max(len(line) for line in said.splitlines()) <= 80


def test_work_that_nobody_can_run_is_said_with_the_reason() -> None:
    lane = {"queue": "bal.lane.train", "profile": "train", "waiting": 4, "oldest_s": 3.0, "mean_size": 1.0,
            "nobody_can": ["GPU memory: needs 8 GB; there is no reading"]}
    said = drawn(status(workers=[worker("a")], lanes=[lane]))
    assert "no worker can run train" in said
    assert "GPU memory: needs 8 GB" in said


@pytest.mark.parametrize(("memory", "reasons"), [(4, ["GPU memory: needs 8 GB; there is 4 GB"]), (16, None)])
def test_work_can_be_run_when_one_worker_can(memory: int, reasons: list[str] | None) -> None:
    small = Hardware(kind="cuda", gpu_memory_bytes=4 * 10**9)
    other = Hardware(kind="cuda", gpu_memory_bytes=memory * 10**9)
    workers = [Worker(name=name, instance=name, hardware=hardware, slots=1, at=0.0)
               for name, hardware in (("a", small), ("b", other))]
    assert nobody_can(workers, Needs(gpu_memory_bytes=8 * 10**9)) == reasons


def test_an_order_is_drawn_by_profiles_and_cut_where_it_gets_long() -> None:
    lanes = [{"queue": f"bal.lane.q{n}", "profile": f"profile {n}", "waiting": 0, "oldest_s": None,
              "mean_size": None, "nobody_can": None} for n in range(20)]
    groups = [[f"bal.lane.q{n}" for n in range(9)], *([f"bal.lane.q{n}"] for n in range(9, 14))]
    order = {"groups": groups, "age_s": 0.5, "price": 0.25, "strategy": "priced", "exclusive": False}
    said = drawn(status(workers=[worker("a")], lanes=lanes,
                        orders={"cuda-K80": order, "cpu": {**order, "groups": []}, "rocm": None}))
    assert "1. profile 0, profile 1, profile 2, profile 3, profile 4 and 4 more" in said
    assert "2. profile 9" in said
    assert "and 3 more profiles" in said
    assert "cuda-K80 (emulated): price" in said
    assert "serves nothing now" in said
    assert "rocm: no order; every lane it can serve" in said


def test_a_price_is_told_beside_the_dearest() -> None:
    order = {"groups": [], "age_s": 0.5, "strategy": "priced", "exclusive": False}
    prices = {"cuda-V100": 0.125, "cuda-K80": 0.05, "cpu": 4.2e-9, "mps": 0.0}
    said = drawn(status(workers=[worker("a")], orders={n: {**order, "price": p} for n, p in prices.items()}))
    told = ("cuda-V100: price 100% of", "cuda-K80 (emulated): price 40% of", "cpu: price under 1% of",
            "mps: price 0% of")
    assert [words for words in told if f"{words} the dearest, 0.5 s old" not in said] == []


def test_one_is_told_in_the_singular() -> None:
    assert "1 task is set aside, because it ended what ran it" in " ".join(drawn(status(failed=1)).split())
    assert "2 tasks are set aside, because they" in " ".join(drawn(status(failed=2)).split())
    order = {"groups": [[f"bal.lane.q{n}"] for n in range(4)], "age_s": 0.5, "price": 1.0}
    assert "and 1 more profile after these" in drawn(status(workers=[worker("a")], orders={"cpu": order}))


def explained(**values: Any) -> dict[str, Any]:
    return {"task_id": "t1", "known": True, "fence": {}, "held": None, "waiting": None,
            "search": {"looked_at": 3, "there": 5}, "checkpoint": {}, "wish": {}, "client_state": "PENDING",
            "migrations": [], "decisions": [], "moves": [], "runs": [], "ledger_error": "", "profile": None,
            "estimates": {}, **values}


def test_an_unknown_task_is_said_to_be_unknown_and_where_was_looked() -> None:
    said = text_of(labelled(facts(explained(known=False, ledger_error="there is no ledger"))))
    assert "nothing is known of it" in said
    assert "3 of 5 waiting messages" in said
    assert "not asked: there is no ledger" in said


def test_a_move_is_told_in_the_steps_it_took() -> None:
    def at(seconds: float) -> datetime:
        return T0 + timedelta(seconds=seconds)

    move = {"decided_at": T0, "kind": "running", "source": "slow", "target": "fast", "target_queue": "q.fast",
            "state": "completed", "detail": "", "reason": "2 s remain here", "proactive": False,
            "requested_at": T0, "handed_over_at": at(0.2), "started_at": at(0.3), "ended_at": at(0.3),
            "state_bytes": 120, "benefit": 4.0, "cost": 1.0, "benefit_s": 0.9, "cost_s": 0.1}
    runs = [{"ended_at": at(0.2), "worker": "slow", "profile": "p", "outcome": "moved", "duration_s": 2.0,
             "epoch": 0},
            {"ended_at": at(2), "worker": "fast", "profile": "p", "outcome": "success", "duration_s": 1.7,
             "epoch": 1}]
    refused = {"timestamp": at(-5), "kind": "refused", "source": "slow", "target": "fast",
               "reason": "gain too small", "detail": "gains 0.1 s"}
    told = [text for _, text in history(explained(moves=[move], runs=runs, decisions=[refused, refused]))][1:]
    expected = ["not moved, slow → fast: gain too small", "to be moved (running), slow → fast: 2 s remain",
                "slow is asked", "handed over, 120 bytes of state", "run 1 on slow ended after 2 s: left",
                "begins on fast", "the move is completed", "run 2 on fast ended after 1.7 s: success"]
    assert [bool(line.startswith(start)) for line, start in zip(told, expected, strict=True)] == [True] * 8
    assert "the last of 2 times" in told[0]
    assert "benefit 4.00 − cost 1.00; 0.90 s − 0.10 s" in told[1]


@pytest.mark.parametrize(("values", "says"), [
    ({"checkpoints": False}, "was interrupted"),
    ({"moves": [("slow", 2.1, None), ("fast", 2.0, 120), ("slow", 90, 120)]}, "was interrupted"),
    ({"moves": [("slow", 2.1, 120), ("slow", 90, None)]}, "left at a checkpoint"),
    ({"checkpoints": True}, "left at a checkpoint"),
])
def test_a_run_that_had_no_checkpoint_was_interrupted(values: dict[str, Any], says: str) -> None:
    steps = {"decided_at": T0, "kind": "running", "target": "fast", "target_queue": "q", "state": "completed",
             "detail": "", "reason": "r", "proactive": False, "requested_at": None, "started_at": None,
             "ended_at": None, "benefit": None, "cost": None}
    moves = [{**steps, "source": source, "handed_over_at": T0 + timedelta(seconds=at), "state_bytes": size}
             for source, at, size in values.get("moves", [])]
    run = {"ended_at": T0 + timedelta(seconds=2), "worker": "slow", "outcome": "moved", "duration_s": 2.0,
           "epoch": 0}
    told = [text for _, text in history(explained(**{**values, "moves": moves, "runs": [run]}))]
    assert f"run 1 on slow ended after 2 s: {says}" in told


def test_a_task_that_has_ended_is_not_said_to_wait_for_an_undo() -> None:
    late = dict(facts(explained(cancelled="wrong", client_state="SUCCESS", fence={"state": "done"},
                                undo=outlook(Cancelled(task_id="t1", at=0.0), "SUCCESS"))))
    assert late["cancelled"] == "wrong; too late: it had ended before (SUCCESS)"
    ended = dict(facts(explained(cancelled="wrong", client_state="REVOKED",
                                 undo=outlook(Cancelled(task_id="t1", at=0.0), "REVOKED"))))
    assert ended["now"] == "ended: it was cancelled, and no run of it is known"
    assert ended["cancelled"] == "wrong; it was ended, and an undo does not bring it back"
    assert "--undo" in outlook(Cancelled(task_id="t1", at=0.0, raw="{}"), "REVOKED")
    assert "--undo" in outlook(Cancelled(task_id="t1", at=0.0), "PENDING")


def test_a_profile_without_a_lane_is_told_without_estimates() -> None:
    assert dict(facts(explained(profile="train")))["profile"].startswith("train; no estimates")
    fenced = dict(facts(explained(fence={"state": "done"})))
    assert fenced["profile"] == "not told by a worker, a lane or the ledger", "it has a fence: it is balanced"
    assert "not balanced" in dict(facts(explained()))["profile"]


def test_a_fence_is_told_without_leading_zeros() -> None:
    fence = {"g": "000000.000001.000002", "state": "run", "n": "1", "worker": "w"}
    said = dict(facts(explained(fence=fence)))["fence"]
    assert said == "a run holds it; claimed 1 time, last by w; retries 1, handed over 2"


def test_columns_in_which_nothing_is_known_are_left_out() -> None:
    said = text_of(table("t", ("a", "b", "c"), [("1", "–", ""), ("2", "", "x")]))
    assert said.split() == ["t", "a", "c", "1", "2", "x"]


def test_few_says_how_many_more_there_are() -> None:
    assert (few(["a", "b"], 2), few(["a", "b", "c"], 2)) == ("a, b", "a, b and 1 more")


def test_a_redis_that_does_not_answer_is_said_with_the_way_out() -> None:
    @click.command()
    def broken() -> None:
        raise StoreError("no answer from the broker redis://x")

    class Broken(Commands):
        def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command:
            return broken

    done = CliRunner().invoke(Broken("balancer"), ["status"])
    assert done.exit_code == 1
    assert "no answer from the broker" in done.output
    assert "broker_url" in done.output


def test_options_name_what_was_changed_with_its_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BALANCER_CHECK_INTERVAL", "7")

    class Place:
        def __init__(self) -> None:
            from celery import Celery

            self.app = Celery("x")

    done = CliRunner().invoke(options, [], obj=Place())
    assert "balancer_check_interval = 7  (default 30; 0.1 – 86400 s)" in done.output
    assert "balancer_price_interval = 1  (the default; 0.05 – 3600 s)" in done.output
    assert "\n    Seconds between whole ticks\n" in done.output
