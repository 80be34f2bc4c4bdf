"""`celery balancer explain TASK_ID`: all that is known of one task, and plainly when that is nothing.

Asks the fence, the workers, the queues, the client's result, the present moves and the ledger;
`story` puts the answers into words.
"""

from __future__ import annotations

import json
from typing import Any, Final

import click

from balancer import cancelling, wiring
from balancer.adapters import redis_cancelled, redis_failed, redis_view
from balancer.adapters.duckdb_ledger import read
from balancer.adapters.redis_cancelled import Cancelled
from balancer.adapters.redis_failed import Failed
from balancer.cli.screen import console, labelled
from balancer.cli.story import facts, history
from balancer.decide.estimate import Estimates, seconds, speed_of
from balancer.errors import LedgerError
from balancer.model import Fleet, HeldTask, TaskProfile, Worker
from balancer.routing import unfit_reason
from balancer.settings import Settings
from balancer.standing import Standing
from balancer.state import migration_documents

Document = dict[str, Any]

#: Decisions of one task that are read, the newest.
SHOWN: Final = 100

DECISIONS: Final = f"""
    SELECT timestamp, kind, move_kind, profile, source, target, reason, detail, benefit, cost
    FROM decisions WHERE task_id = $task ORDER BY timestamp DESC LIMIT {SHOWN}"""
MOVES: Final = """
    SELECT decided_at, kind, profile, source, target, target_queue, state, detail, reason, proactive,
           requested_at, handed_over_at, started_at, ended_at, state_bytes, benefit, cost, benefit_s, cost_s
    FROM moves WHERE task_id = $task ORDER BY decided_at"""
RUNS: Final = """
    SELECT worker, hardware_class, profile, outcome, started_at, ended_at, duration_s, epoch FROM runs
    WHERE task_id = $task ORDER BY ended_at"""

@click.command()
@click.argument("task_id")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for programs.")
@click.option("--db-path", metavar="FILE", help="The ledger; else the app's balancer_db_path.")
@click.pass_context
def explain(ctx: click.Context, task_id: str, as_json: bool, db_path: str | None) -> None:
    """Tell where a task is, what it would take on each class, and what was decided about it.

    Exit status 1 when nothing is known of it.
    """
    document = explanation(ctx.obj.app, task_id, db_path)
    if as_json:
        click.echo(json.dumps(document, indent=2, default=str))
    else:
        out = console()
        for rows in (facts(document), history(document)):
            out.print(labelled(rows))
    if not document["known"]:
        ctx.exit(1)


def explanation(app: Any, task_id: str, db_path: str | None = None) -> Document:
    """All that is known of a task, as plain values; `db_path` names another ledger than the app's.

    Raises `StoreError` when Redis does not answer.
    """
    balancer = wiring.onlooker(app)
    standing, settings = balancer.standing, balancer.settings
    assert standing.fleet is not None, "a look has seen the fleet"
    connection = wiring.connection_of(app, settings)
    held = _held(standing.fleet, task_id)
    queues = [*(lane.queue for lane in standing.fleet.lanes), *standing.fleet.queues]
    search = None if held else redis_view.search(connection, queues, task_id)
    client_state, failed = _client_state(app, task_id), redis_failed.found(connection, task_id)
    cancelled = redis_cancelled.entry_of(connection, task_id)
    document: Document = {
        "task_id": task_id,
        "set_aside": _reason(failed),
        "cancelled": _reason(cancelled),
        "undo": cancelled and cancelling.outlook(cancelled, client_state),
        "fence": redis_view.fence(connection, task_id),
        "held": None if held is None else _held_document(*held, standing.fleet.at),
        "waiting": search and search.found and {"queue": search.found.queue, "ahead": search.found.ahead},
        "search": search and {"looked_at": search.looked_at, "there": search.there},
        "checkpoint": redis_view.checkpoint(connection, task_id),
        "wish": redis_view.wish(connection, task_id),
        "client_state": client_state,
        "migrations": migration_documents(
            [m for m in standing.state.migrations if m.move.task_id == task_id]),
        **_ledger(db_path or settings.db_path, task_id),
    }
    names = _names(document, standing.fleet, held, task_id, failed)
    lanes = (standing.fleet.lane_of(name) for name in names)
    profile = next((lane.profile for lane in lanes if lane is not None), None)
    document["profile"] = profile.name if profile else next(iter(names), None)
    document["checkpoints"] = profile and profile.checkpoints
    document["estimates"] = _estimates(profile, standing, settings) if profile else {}
    document["known"] = bool(
        document["fence"] or held or document["waiting"] or document["migrations"] or document["runs"]
        or document["decisions"] or document["moves"] or document["set_aside"] or document["cancelled"]
        or document["client_state"] not in ("PENDING", None))
    return document


def _held(fleet: Fleet, task_id: str) -> tuple[Worker, HeldTask] | None:
    return next(((w, task) for w in fleet.workers for task in (*w.running, *w.reserved)
                 if task.task_id == task_id), None)


def _held_document(worker: Worker, task: HeldTask, now: float) -> Document:
    return {
        "worker": worker.name, "class": worker.hardware.hardware_class,
        "emulated": worker.hardware.emulated, "how": "runs" if task in worker.running else "is reserved",
        "for_s": None if task.started_at is None else max(0.0, now - task.started_at),
        "size": task.size, "epoch": task.epoch, "lane": task.lane, "home": task.home,
    }


def _names(document: Document, fleet: Fleet, held: tuple[Worker, HeldTask] | None, task_id: str,
           failed: Failed | None) -> list[str]:
    """Its profile by what holds it, the lane or the heads it waits in, its moves, what was set aside, and
    what the ledger says of its runs, moves and decisions."""
    queue = document["waiting"] and document["waiting"]["queue"]
    names = [held[1].profile] if held else []
    names += [lane.profile.name for lane in fleet.lanes if lane.queue == queue]
    names += [task.profile for task in fleet.queued if task.task_id == task_id]
    names += [one["move"]["profile"] for one in document["migrations"]]
    names += [failed.profile] if failed else []
    names += [row["profile"] for kind in ("runs", "moves", "decisions") for row in document[kind]]
    return [name for name in names if name]


def _estimates(profile: TaskProfile, standing: Standing, settings: Settings) -> dict[str, Document]:
    memory, fleet = standing.state.memory, standing.fleet
    found: dict[str, Document] = {}
    for worker in fleet.workers if fleet else ():
        hardware = worker.hardware
        known = memory.estimates.pairs.get((profile.learned_as, hardware.hardware_class))
        found.setdefault(hardware.hardware_class, {
            "seconds": seconds(memory.estimates, profile, hardware, settings, memory.profiles),
            "runs": known.count if known else 0,
            "unfit": unfit_reason(hardware, profile.needs, worker=worker.name),
            "emulated": hardware.emulated, "special": [],
        })
        if profile.learned_as in memory.estimates.special.get(worker.name, {}):
            found[hardware.hardware_class]["special"].append(_special(worker, profile, memory.estimates))
    return dict(sorted(found.items()))


def _special(worker: Worker, profile: TaskProfile, estimates: Estimates) -> Document:
    """How many times as fast as its class a worker is that is better or worse at a profile."""
    return {"worker": worker.name, "times": speed_of(estimates, worker, profile),
            "runs": estimates.aptitudes[worker.name][profile.learned_as].count}


def _reason(entry: Failed | Cancelled | None) -> str | None:
    """Why a task was set aside or cancelled; `None` when it was not."""
    return None if entry is None else entry.reason or "no reason was given"


def _client_state(app: Any, task_id: str) -> str | None:
    """What a client sees; `None` without a result backend."""
    try:
        return str(app.AsyncResult(task_id).state)
    except (AttributeError, NotImplementedError):
        return None


def _ledger(path: str, task_id: str) -> Document:
    found: Document = {"decisions": [], "moves": [], "runs": [], "ledger_error": ""}
    try:
        for name, statement in (("decisions", DECISIONS), ("moves", MOVES), ("runs", RUNS)):
            found[name] = read(path, statement, {"task": task_id})
    except LedgerError as error:
        found["ledger_error"] = str(error)
    return found
