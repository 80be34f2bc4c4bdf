"""What the fleet did, in plain words and small tables: the top of the page."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from balancer.report.questions import Ask, Rows, Window, answer
from balancer.report.reasons import MEANINGS, because, refusal
from balancer.report.words import count, in_number, joules, percent, seconds

#: Reasons in a table of the summary, the most frequent; sentences count all of them.
REASONS: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A small table: head and body, all text; `numeric` names the columns that are set to the right."""

    title: str
    head: tuple[str, ...]
    body: tuple[tuple[str, ...], ...]
    numeric: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """Sentences, then tables."""

    sentences: tuple[str, ...]
    tables: tuple[Table, ...]


def summarise(ask: Ask, span: Window) -> Summary:
    """What the ledger says of the span. Raises `LedgerError` when it cannot be read."""
    (ticks,) = answer(ask, "summary_ticks", span)
    classes = answer(ask, "summary_classes", span)
    moves = answer(ask, "summary_moves", span)
    refused = answer(ask, "summary_refused", span)
    forecasts = answer(ask, "summary_forecasts", span)
    sentences = [
        _covers(span, ticks),
        *_cut(span),
        *_load(ticks),
        *_emulation(classes),
        _runs(classes),
        _moves(moves, ticks),
        _refused(refused),
        _forecasts(forecasts, ticks),
        _energy(classes),
    ]
    tables = [_class_table(classes), _move_table(moves), _refused_table(refused)]
    return Summary(sentences=tuple(sentences), tables=tuple(table for table in tables if table.body))


def utc(at: float) -> str:
    """A time of the ledger as text."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _covers(span: Window, ticks: dict[str, Any]) -> str:
    strategy = f" with the strategy {ticks['strategies']}" if ticks["strategies"] else ""
    dry = (
        " At least part of it was a dry run: decided and recorded, but not done." if ticks["dry_run"] else ""
    )
    return (
        f"From {utc(span.since)} to {utc(span.until)} ({seconds(span.span_s)}): "
        f"{count(ticks['ticks'], 'whole tick')}{strategy}.{dry}"
    )


def _cut(span: Window) -> list[str]:
    """From when on there is more than ticks, where that is not the whole span."""
    if span.detailed is None or span.detailed <= span.since + 2 * span.tick_s:
        return []
    return [f"Before {utc(span.detailed)} there are ticks alone: what is told of workers, runs, moves and "
            "decisions is kept for balancer_ledger_days."]


def _load(ticks: dict[str, Any]) -> list[str]:
    if ticks["load"] is None:
        return []
    workers = f" over at most {count(ticks['workers'], 'worker')}" if ticks["workers"] else ""
    parts = [
        f"The fleet was {percent(ticks['load'])} loaded on average{workers}, {percent(ticks['peak'])} at most"
    ]
    if ticks["deviation"] is not None:
        parts.append(f"the standard deviation over the workers was {percent(ticks['deviation'])}")
    if ticks["imbalance"] is not None:
        parts.append(f"the most and least loaded workers were {percent(ticks['imbalance'])} apart on average")
    return ["; ".join(parts) + "."]


def _emulation(classes: Rows) -> list[str]:
    names = [row["class"].removesuffix(" (emulated)") for row in classes if row["emulated"]]
    if not names:
        return []
    return [
        f"Emulated, not real hardware: {', '.join(names)}. "
        "What is said of their load, speed and power is emulated too."
    ]


def _runs(classes: Rows) -> str:
    runs = sum(row["runs"] for row in classes)
    if not runs:
        return "No run of a task has ended."
    done, failed, moved = (sum(row[c] for row in classes) for c in ("succeeded", "failed", "moved"))
    rest = runs - done - failed - moved
    parts = [
        f"{done:,} succeeded",
        f"{failed:,} failed",
        f"{moved:,} left at a checkpoint to go on elsewhere",
    ]
    if rest:
        parts.append(f"{rest:,} ended otherwise")
    return f"{count(runs, 'run')} of tasks ended: {', '.join(parts)}."


def _moves(moves: Rows, ticks: dict[str, Any]) -> str:
    if not moves:
        if ticks["initiated"]:
            return f"{count(ticks['initiated'], 'move')} begun, {ticks['successful'] or 0} completed."
        return "Nothing was moved."
    total, completed, failed, proactive = (
        sum(row[c] for row in moves) for c in ("moves", "completed", "failed", "proactive")
    )
    kinds = {
        kind: sum(row["moves"] for row in moves if row["kind"] == kind)
        for kind in ("queued", "reserved", "running")
    }
    by_kind = ", ".join(f"{number:,} of {kind} tasks" for kind, number in kinds.items() if number)
    foreseen = f"; {proactive:,} ahead of a foreseen imbalance" if proactive else ""
    return (
        f"{count(total, 'move')} ({by_kind}): {completed:,} completed, {failed:,} not{foreseen}. "
        f"Most often because: {because(moves[0])}."
    )


def _refused(refused: Rows) -> str:
    reasons = [row for row in refused if row["kind"] == "refused"]
    asides = sum(row["times"] for row in refused if row["kind"] == "set_aside")
    text = "No candidate for a move was refused."
    if reasons:
        total = sum(row["times"] for row in reasons)
        first = refusal(reasons[0]["reason"])
        text = f"Candidates for a move were refused {count(total, 'time')}, most often because: {first}."
    if asides:
        text += (
            f" {count(asides, 'thing')} {in_number(asides, 'was', 'were')} set aside: not readable, or the "
            "end of what ran it."
        )
    return text


def _forecasts(forecasts: Rows, ticks: dict[str, Any]) -> str:
    judged = [row for row in forecasts if row["judged"]]
    if not judged:
        if ticks["accuracy"] is not None:
            return f"Forecasts of the load: tracked accuracy {percent(ticks['accuracy'], 1)}."
        made = sum(row["made"] for row in forecasts)
        return f"{count(made, 'forecast')} made; none has come due." if made else "No forecast was made."
    parts = [
        f"of the {'system' if row['subject'] == 'system' else 'single workers'}: "
        f"accuracy {percent(row['accuracy'], 1)}, "
        f"{percent(row['inside'])} inside the interval ({row['judged']:,} judged)"
        for row in judged
    ]
    return f"Forecasts of the load {'; '.join(parts)}."


def _energy(classes: Rows) -> str:
    measured = sum(row["measured"] for row in classes)
    if not measured:
        return "Energy: no run ended on a worker that reports its power."
    runs = sum(row["runs"] for row in classes)
    total = sum(row["joules"] or 0.0 for row in classes)
    emulated = sum(row["joules"] or 0.0 for row in classes if row["emulated"])
    share = "all of it" if emulated == total else f"{joules(emulated)} of it"
    note = f", {share} emulated" if emulated else ""
    return (
        f"Energy, estimated from the power that workers report: {joules(total)}{note}, over {measured:,} of "
        f"{count(runs, 'run')}; {joules(total / measured)} a run."
    )


def _class_table(classes: Rows) -> Table:
    return Table(
        title="Tasks by hardware class",
        head=(
            "class",
            "workers",
            "mean load",
            "runs",
            "succeeded",
            "failed",
            "moved on",
            "median run",
            "slot time",
            "energy (est.)",
        ),
        body=tuple(
            (
                row["class"],
                _number(row["workers"]),
                percent(row["load"]),
                _number(row["runs"]),
                _number(row["succeeded"]),
                _number(row["failed"]),
                _number(row["moved"]),
                seconds(row["median_s"]),
                seconds(row["busy_s"]),
                joules(row["joules"]),
            )
            for row in classes
        ),
        numeric=tuple(range(1, 10)),
    )


def _move_table(moves: Rows) -> Table:
    return Table(
        title="Moves and why",
        head=("what moved", "because", "moves", "tasks", "completed", "not completed", "median time"),
        body=tuple(
            (
                f"{row['kind']} tasks",
                because(row),
                _number(row["moves"]),
                _number(row["tasks"]),
                _number(row["completed"]),
                _number(row["failed"]),
                seconds(row["median_s"]),
            )
            for row in moves[:REASONS]
        ),
        numeric=(2, 3, 4, 5, 6),
    )


def _refused_table(refused: Rows) -> Table:
    return Table(
        title="What was refused or set aside, and why",
        head=("what", "because", "that is", "times", "tasks", "for example"),
        body=tuple(
            (
                "refused move" if row["kind"] == "refused" else "set aside",
                row["reason"],
                MEANINGS.get(row["reason"], ""),
                _number(row["times"]),
                _number(row["tasks"]) if row["kind"] == "refused" else "",
                row["example"] or "",
            )
            for row in refused[:REASONS]
        ),
        numeric=(3, 4),
    )


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{int(value):,}"
