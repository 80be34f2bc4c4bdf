"""`celery balancer explain TASK_ID`: all that is known of one task, and plainly when that is nothing.

Asks the fence, the workers, the queues, the client's result, the present moves and the ledger.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

import click

from balancer import wiring
from balancer.adapters import redis_view
from balancer.adapters.duckdb_ledger import read
from balancer.decide.estimate import seconds
from balancer.errors import LedgerError
from balancer.model import Fleet, HeldTask, TaskProfile, Worker
from balancer.routing import unfit_reason
from balancer.settings import Settings
from balancer.standing import Standing
from balancer.state import migration_documents

Document = dict[str, Any]

#: Decisions of one task that are shown, newest first.
SHOWN: Final = 20

DECISIONS: Final = f"""
    SELECT timestamp, kind, move_kind, source, target, reason, detail, benefit, cost
    FROM decisions WHERE task_id = $task ORDER BY timestamp DESC LIMIT {SHOWN}"""
MOVES: Final = """
    SELECT decided_at, kind, source, target, state, detail, reason FROM moves
    WHERE task_id = $task ORDER BY decided_at"""
RUNS: Final = """
    SELECT worker, hardware_class, profile, outcome, started_at, ended_at, duration_s, epoch FROM runs
    WHERE task_id = $task ORDER BY ended_at"""

#: The states of a fence (docs/wire.md) in words.
STATES: Final = {"run": "a run holds it", "fin": "committed, not acknowledged yet",
                 "free": "given up by its last worker", "done": "done"}


@click.command()
@click.argument("task_id")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for programs.")
@click.pass_context
def explain(ctx: click.Context, task_id: str, as_json: bool) -> None:
    """Tell where a task is, what it would take on each class, and what was decided about it.

    Exit status 1 when nothing is known of it.
    """
    document = explanation(ctx.obj.app, task_id)
    if as_json:
        click.echo(json.dumps(document, indent=2, default=str))
    else:
        click.echo("\n".join(sentences(document)))
    if not document["known"]:
        ctx.exit(1)


def explanation(app: Any, task_id: str) -> Document:
    """All that is known of a task, as plain values. Raises `StoreError` when Redis does not answer."""
    balancer = wiring.build(app)
    balancer.look()
    standing, settings = balancer.standing, balancer.settings
    assert standing.fleet is not None, "a look has seen the fleet"
    connection = wiring.connection_of(app, settings)
    held = _held(standing.fleet, task_id)
    queues = [*(lane.queue for lane in standing.fleet.lanes), *standing.fleet.queues]
    search = None if held else redis_view.search(connection, queues, task_id)
    document: Document = {
        "task_id": task_id,
        "fence": redis_view.fence(connection, task_id),
        "held": None if held is None else _held_document(*held, standing.fleet.at),
        "waiting": search and search.found and {"queue": search.found.queue, "ahead": search.found.ahead},
        "search": search and {"looked_at": search.looked_at, "there": search.there},
        "checkpoint": redis_view.checkpoint(connection, task_id),
        "wish": redis_view.wish(connection, task_id),
        "client_state": _client_state(app, task_id),
        "migrations": migration_documents(
            [m for m in standing.state.migrations if m.move.task_id == task_id]),
        **_ledger(settings, task_id),
    }
    profile = _profile(document, standing.fleet, held, task_id)
    document["profile"] = profile and profile.name
    document["estimates"] = _estimates(profile, standing, settings) if profile else {}
    document["known"] = bool(
        document["fence"] or held or document["waiting"] or document["migrations"] or document["runs"]
        or document["decisions"] or document["moves"] or document["client_state"] not in ("PENDING", None))
    return document


def sentences(document: Document) -> Iterator[str]:
    """The explanation for a person."""
    yield f"Task {document['task_id']}"
    search = document["search"]
    if not document["known"]:
        yield ("  Nothing is known of it: no worker holds it, it has no fence, no result, no move, and no "
               "row in the ledger.")
        if search:
            yield (f"  It is not among the {search['looked_at']} of {search['there']} waiting messages "
                   "looked at.")
        yield from _ledger_sentence(document)
        return
    yield from _place(document)
    yield f"  state for its client: {document['client_state'] or 'no result backend'}"
    yield from _estimate_sentences(document)
    for one in document["migrations"]:
        move = one["move"]
        yield (f"  moving now: {move['kind']}, {move['source']} → {move['target']}, {one['state']}: "
               f"{move['reason']}")
    yield from _past(document)
    yield from _ledger_sentence(document)


def _place(document: Document) -> Iterator[str]:
    held, waiting, fence = document["held"], document["waiting"], document["fence"]
    if held:
        emulated = " (emulated)" if held["emulated"] else ""
        since = "" if held["for_s"] is None else f" for {held['for_s']:.1f} s"
        yield f"  now: {held['how']} on {held['worker']}, {held['class']}{emulated}{since}"
    elif waiting:
        yield f"  now: waits in {waiting['queue']}, {waiting['ahead']} before it in its list"
    elif fence.get("state") == "done":
        yield f"  now: done; last run by {fence.get('worker', 'an unknown worker')}"
    else:
        search = document["search"]
        yield (f"  now: not held by a live worker, and not among the {search['looked_at']} of "
               f"{search['there']} waiting messages looked at")
    if fence:
        yield (f"  fence: {STATES.get(fence.get('state', ''), 'unknown')}, claimed {fence.get('n', '?')} "
               f"times, last by {fence.get('worker', '?')}; nesting.retries.epoch {fence.get('g', '?')}")
    if document["checkpoint"]:
        point = document["checkpoint"]
        yield f"  checkpoint: {point.get('size', '?')} bytes, share done {point.get('share') or 'not said'}"
    if document["wish"]:
        yield f"  asked to leave at its next checkpoint for {document['wish'].get('queue', '?')}"


def _estimate_sentences(document: Document) -> Iterator[str]:
    if not document["profile"]:
        yield "  profile: not known (its lane is not in the table)"
        return
    yield f"  profile: {document['profile']}"
    for name, one in document["estimates"].items():
        label = name + (" (emulated)" if one["emulated"] else "")
        if one["unfit"]:
            yield f"    {label}: cannot run it: {one['unfit']}"
        else:
            source = f"from {one['runs']} runs" if one["runs"] else "not run there yet"
            yield f"    {label}: {one['seconds']:.3g} s for size 1, {source}"


def _past(document: Document) -> Iterator[str]:
    for row in document["runs"]:
        yield (f"  {row['ended_at']}: run {row['epoch']} on {row['worker']} ended, {row['outcome']}, after "
               f"{row['duration_s']:.3g} s")
    for row in document["moves"]:
        why = f" ({row['detail']})" if row["detail"] else ""
        yield (f"  {row['decided_at']}: move of {row['kind']} work, {row['source']} → {row['target']}, "
               f"{row['state']}{why}: {row['reason']}")
    for row in document["decisions"]:
        if row["kind"] == "refused":
            detail = f", {row['detail']}" if row["detail"] else ""
            yield (f"  {row['timestamp']}: not moved {row['source']} → {row['target']}: "
                   f"{row['reason']}{detail}")


def _ledger_sentence(document: Document) -> Iterator[str]:
    if document["ledger_error"]:
        yield f"  the ledger was not asked: {document['ledger_error']}"


def _held(fleet: Fleet, task_id: str) -> tuple[Worker, HeldTask] | None:
    return next(((w, task) for w in fleet.workers for task in (*w.running, *w.reserved)
                 if task.task_id == task_id), None)


def _held_document(worker: Worker, task: HeldTask, now: float) -> Document:
    return {
        "worker": worker.name, "class": worker.hardware.hardware_class,
        "emulated": worker.hardware.emulated, "how": "runs" if task in worker.running else "is reserved",
        "for_s": None if task.started_at is None else max(0.0, now - task.started_at),
        "size": task.size, "epoch": task.epoch, "lane": task.lane,
    }


def _profile(document: Document, fleet: Fleet, held: tuple[Worker, HeldTask] | None,
             task_id: str) -> TaskProfile | None:
    """By what holds it, the lane or the heads it waits in, or what the ledger says of its runs."""
    queue = document["waiting"] and document["waiting"]["queue"]
    names = [held[1].profile] if held else []
    names += [lane.profile.name for lane in fleet.lanes if lane.queue == queue]
    names += [task.profile for task in fleet.queued if task.task_id == task_id]
    names += [row["profile"] for row in document["runs"]]
    lanes = (fleet.lane_of(name) for name in names)
    return next((lane.profile for lane in lanes if lane is not None), None)


def _estimates(profile: TaskProfile, standing: Standing, settings: Settings) -> dict[str, Document]:
    memory, fleet = standing.state.memory, standing.fleet
    found: dict[str, Document] = {}
    for worker in fleet.workers if fleet else ():
        hardware = worker.hardware
        known = memory.estimates.pairs.get((profile.name, hardware.hardware_class))
        found.setdefault(hardware.hardware_class, {
            "seconds": seconds(memory.estimates, profile, hardware, settings, memory.profiles),
            "runs": known.count if known else 0,
            "unfit": unfit_reason(hardware, profile.needs, worker=worker.name),
            "emulated": hardware.emulated,
        })
    return dict(sorted(found.items()))


def _client_state(app: Any, task_id: str) -> str | None:
    """What a client sees; `None` without a result backend."""
    try:
        return str(app.AsyncResult(task_id).state)
    except (AttributeError, NotImplementedError):
        return None


def _ledger(settings: Settings, task_id: str) -> Document:
    found: Document = {"decisions": [], "moves": [], "runs": [], "ledger_error": ""}
    try:
        for name, statement in (("decisions", DECISIONS), ("moves", MOVES), ("runs", RUNS)):
            found[name] = read(settings.db_path, statement, {"task": task_id})
    except LedgerError as error:
        found["ledger_error"] = str(error)
    return found
