"""What `explain` found of a task, in words: its state now, and its history in order of time.

A move is told in the steps it really takes: decided, asked for, left at a checkpoint, put into the
target's queue, begun there, ended. Pure text; plain values in.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from math import log
from typing import Any, Final

from celery import states

from balancer.cli.screen import few

#: Workers of a class that are told to be better or worse at a profile, at most.
SPECIAL: Final = 5

Document = Mapping[str, Any]
Line = tuple[str, str]

#: The states of a fence (docs/wire.md) in words.
STATES: Final = {"run": "a run holds it", "fin": "committed, not acknowledged yet",
                 "free": "given up by its last worker", "done": "done"}


def facts(document: Document) -> Iterator[Line]:
    """What is so now, as labelled lines."""
    yield "task", document["task_id"]
    if not document["known"]:
        yield "now", ("nothing is known of it: no worker holds it, it has no fence, no result, no move, "
                      "and no row in the ledger")
        if search := document["search"]:
            yield "", f"it is not {_among(search)}"
        yield "", "a mistyped id, another Redis than the fleet's, or a result that has expired?"
    else:
        yield "now", _place(document)
        if document.get("set_aside"):
            yield "set aside", f"{document['set_aside']}; `balancer resend` sends it again"
        if document.get("cancelled"):
            yield "cancelled", f"{document['cancelled']}; {document['undo']}"
        yield "client", f"sees {document['client_state'] or 'nothing: the app has no result backend'}"
        yield from _fence(document)
        yield from _checkpoint(document)
        yield from _estimates(document)
        for one in document["migrations"]:
            move = one["move"]
            yield "moving", (f"{move['kind']}, {move['source']} → {move['target']}, {_words(one['state'])}: "
                             f"{move['reason']}")
    if document["ledger_error"]:
        yield "ledger", f"not asked: {document['ledger_error']}"


def history(document: Document) -> Iterator[Line]:
    """What has happened, oldest first; times are those of this machine's zone."""
    told = [*_runs(document), *_moves(document["moves"]), *_refusals(document["decisions"])]
    if told:
        yield "history", ""
    for at, _, text in sorted(told, key=lambda one: one[:2]):
        yield "  " + clock(at), text


def clock(at: datetime) -> str:
    """A time of the ledger (UTC without a zone) as a person's watch shows it."""
    return at.replace(tzinfo=UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]


def _place(document: Document) -> str:
    held, waiting, search = document["held"], document["waiting"], document["search"]
    if held:
        emulated = ", emulated" if held["emulated"] else ""
        since = "" if held["for_s"] is None else f" for {held['for_s']:.1f} s"
        home = f"; only workers that serve {held['home']} may have it" if held["home"] else ""
        return f"{held['how']} on {held['worker']} ({held['class']}{emulated}){since}{home}"
    if waiting:
        return f"waits in {waiting['queue']}, {waiting['ahead']} before it in its list"
    if document["client_state"] == "REVOKED" and not document["fence"].get("worker"):
        return "ended: it was cancelled, and no run of it is known"
    if document["fence"].get("state") == "done" or document["client_state"] in states.READY_STATES:
        return f"ended; last run by {document['fence'].get('worker') or 'a worker that is forgotten'}"
    return f"not held by a live worker, and not {_among(search)}"


def _among(search: Document) -> str:
    return f"among the {search['looked_at']} of {search['there']} waiting messages looked at"


def _fence(document: Document) -> Iterator[Line]:
    fence = document["fence"]
    if not fence:
        return
    _, retries, epoch = (*fence.get("g", "").split("."), "", "", "")[:3]
    state, claims = fence.get("state", "unknown"), fence.get("n", "?")
    claimed = f"claimed {claims} {'time' if claims == '1' else 'times'}"
    yield "fence", (f"{STATES.get(state, state)}; {claimed}, last by {fence.get('worker', '?')}; "
                    f"retries {_count(retries)}, handed over {_count(epoch)}")


def _count(digits: str) -> str:
    """A number of the generation, which is written with leading zeros."""
    return str(int(digits)) if digits.isdigit() else "?"


def _checkpoint(document: Document) -> Iterator[Line]:
    point = document["checkpoint"]
    if point:
        done = point.get("share")
        said = f", {float(done):.0%} done" if done else ", the task does not say how much is done"
        yield "saved", f"a checkpoint of {point.get('size', '?')} bytes{said}"
    if document["wish"]:
        yield "wanted", f"asked to leave at its next checkpoint, for {document['wish'].get('queue', '?')}"


def _estimates(document: Document) -> Iterator[Line]:
    if not document["profile"]:
        yield "profile", ("not told by a worker, a lane or the ledger" if document["fence"] else
                          "not known (a task that is not balanced has none)")
        return
    yield "profile", document["profile"] + ("" if document["estimates"] else "; no estimates: no worker is "
                                            "there, or its lane is not in the table any more")
    label = "takes"
    for name, one in document["estimates"].items():
        where = name + (" (emulated)" if one["emulated"] else "")
        if one["unfit"]:
            text = f"cannot run there: {one['unfit']}"
        else:
            runs = one["runs"]
            source = f"from {runs} {'run' if runs == 1 else 'runs'}" if runs else "a guess; not run there yet"
            text = f"{one['seconds']:.3g} s for size 1, {source}"
        yield label, f"on {where}: {text}"
        label = ""
        by_far = sorted(one["special"], key=lambda each: -abs(log(each["times"])))
        for each in by_far[:SPECIAL]:
            runs = f"{each['runs']} {'run' if each['runs'] == 1 else 'runs'}"
            yield "", f"  {each['worker']} is {each['times']:.2g} times as fast at it as its class ({runs})"
        if len(by_far) > SPECIAL:
            yield "", f"  and {len(by_far) - SPECIAL} more differ from their class"


def _runs(document: Document) -> Iterator[tuple[datetime, int, str]]:
    for row in document["runs"]:
        outcome = row["outcome"] if row["outcome"] != "moved" else (
            "left at a checkpoint" if _saved(row, document) else "was interrupted")
        yield row["ended_at"], 6, f"run {row['epoch'] + 1} on {row['worker']} ended after " \
                                  f"{row['duration_s']:.3g} s: {outcome}"


def _saved(run: Document, document: Document) -> bool:
    """Whether a run that left had a checkpoint to leave at."""
    if document.get("checkpoints") is False:
        return False
    left = [move for move in document["moves"] if move["source"] == run["worker"] and move["handed_over_at"]]
    move = min(left, key=lambda one: abs(one["handed_over_at"] - run["ended_at"]), default=None)
    return move is None or bool(move["state_bytes"])


def _moves(rows: list[Document]) -> Iterator[tuple[datetime, int, str]]:
    """Each move as the steps that happened of it."""
    for row in rows:
        foreseen = ", foreseen" if row["proactive"] else ""
        yield row["decided_at"], 0, (
            f"to be moved{foreseen} ({row['kind']}), {row['source']} → {row['target']}: {row['reason']}"
            f"{_score(row)}")
        if row["requested_at"]:
            yield row["requested_at"], 1, f"{row['source']} is asked to let it go"
        if row["handed_over_at"]:
            size = f", {row['state_bytes']} bytes of state saved" if row["state_bytes"] else ""
            yield row["handed_over_at"], 2, f"handed over{size}; its message lies in {row['target_queue']}"
        if row["started_at"]:
            where = row["detail"].removeprefix("runs on ").removeprefix("ran on ") if row["detail"] else ""
            yield row["started_at"], 4, f"begins on {where or row['target']}"
        if row["ended_at"]:
            why = f": {row['detail']}" if row["detail"] else ""
            yield row["ended_at"], 5, f"the move is {_words(row['state'])}{why}"


def _score(row: Document) -> str:
    if row["benefit"] is None or row["cost"] is None:
        return ""
    seconds = ""
    if row["benefit_s"] is not None and row["cost_s"] is not None:
        seconds = f"; {row['benefit_s']:.2f} s − {row['cost_s']:.2f} s"
    return f" (benefit {row['benefit']:.2f} − cost {row['cost']:.2f}{seconds})"


def _refusals(rows: list[Document]) -> Iterator[tuple[datetime, int, str]]:
    """What was refused, the same reason once: with how often, at the time it was last given."""
    seen: dict[tuple[str, str], list[Document]] = {}
    for row in rows:
        if row["kind"] == "refused":
            seen.setdefault((row["source"] or "?", row["reason"]), []).append(row)
    for (source, reason), same in seen.items():
        last = max(same, key=lambda row: row["timestamp"])
        targets = sorted({row["target"] for row in same if row["target"]})
        where = f" → {few(targets, 3)}" if targets else ""
        detail = f" ({last['detail']})" if last["detail"] else ""
        times = f"; the last of {len(same)} times" if len(same) > 1 else ""
        yield last["timestamp"], 3, f"not moved, {source}{where}: {reason}{detail}{times}"


def _words(state: str) -> str:
    return state.replace("_", " ")
