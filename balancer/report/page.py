"""One page in one file that opens offline: summary, pictures, decisions.

The JavaScript of Vega is in it once; colours follow the reader's light or dark setting.
"""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from importlib import resources
from string import Template
from typing import Any, Final

from balancer.report.charts import METRICS, build
from balancer.report.palette import config
from balancer.report.questions import Ask, Window, answer
from balancer.report.render import javascript
from balancer.report.summary import Summary, Table, summarise, utc

#: Rows of the decisions table; the ledger has the rest.
DECISIONS: Final = 300

_DECISION_HEAD: Final = ("time (UTC)", "what", "because", "task", "from → to", "cost", "benefit")


def report_page(ask: Ask, span: Window | None, *, ledger: str, now: float) -> str:
    """The whole report as HTML; a ledger without entries (`span` None) gives a page that says so.

    Raises `LedgerError` when the ledger cannot be read, `MissingExtraError` without the extra `report`.
    """
    made = f"Ledger {html.escape(ledger)}, report made {utc(now)}."
    if span is None:
        body = [
            "<p class=lead>The ledger is empty: no tick has been recorded yet. Start the balancer "
            "(<code>celery -A PROJ beat</code>) and try again after its first "
            "<code>balancer_check_interval</code>.</p>"
        ]
        return _document("Load balancer report", made, body, {})
    pictures = {name: build(name, ask, span) for name in METRICS}
    sections, specs = [_summary(summarise(ask, span))], {}
    for name, picture in pictures.items():
        inner = f"<h2>{html.escape(METRICS[name].title)}</h2>"
        if picture is None:
            inner += f"<p>{html.escape(METRICS[name].absent)}</p>"
        else:
            about, specs[name] = _untitled(picture.spec())
            inner += f'<p class=about>{html.escape(about)}</p><div class=picture id="{name}"></div>'
        sections.append(f"<section>{inner}</section>")
    sections.append(_decisions(ask, span))
    return _document("Load balancer report", made, sections, specs)


def picture_page(name: str, spec: Mapping[str, Any], *, ledger: str, now: float) -> str:
    """One picture as a page of its own."""
    about, drawn = _untitled(spec)
    said = " ".join(dict.fromkeys((METRICS[name].about, about)))
    made = f"{html.escape(said)} Ledger {html.escape(ledger)}, made {utc(now)}."
    body = [f'<section><div class=picture id="{name}"></div></section>']
    return _document(METRICS[name].title, made, body, {name: drawn})


def _untitled(spec: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The sentence about a picture, and the picture without its title: on a page these are text."""
    return spec["title"]["subtitle"], {key: value for key, value in spec.items() if key != "title"}


def _document(title: str, lead: str, body: Sequence[str], specs: Mapping[str, Mapping[str, Any]]) -> str:
    looks = {"light": config(dark=False), "dark": config(dark=True)}
    own = f"{{\nconst specs = {_json(specs)};\nconst looks = {_json(looks)};\n{_asset('page.js')}}}"
    drawing = f"<script>{javascript()}</script>\n" if specs else ""
    scripts = f"{drawing}<script>{own}</script>"
    return Template(_asset("page.html")).substitute(
        title=html.escape(title), style=_asset("page.css"), lead=lead, body="\n".join(body), scripts=scripts
    )


def _summary(summary: Summary) -> str:
    sentences = "".join(f"<li>{html.escape(sentence)}</li>" for sentence in summary.sentences)
    return f"<section><h2>In short</h2><ul>{sentences}</ul></section>" + "".join(map(_table, summary.tables))


def _table(table: Table) -> str:
    head = "".join(
        f"<th{' class=number' if place in table.numeric else ''}>{html.escape(name)}</th>"
        for place, name in enumerate(table.head)
    )
    body = "".join(
        "<tr>"
        + "".join(
            f"<td{' class=number' if place in table.numeric else ''}>{html.escape(cell)}</td>"
            for place, cell in enumerate(row)
        )
        + "</tr>"
        for row in table.body
    )
    return (
        f"<section><h2>{html.escape(table.title)}</h2><div class=scroll><table><thead><tr>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table></div></section>"
    )


def _decisions(ask: Ask, span: Window) -> str:
    rows = answer(ask, "decisions", span, limit=DECISIONS + 1)
    more = ""
    if len(rows) > DECISIONS:
        more = f" These are the latest {DECISIONS}; the ledger's table <code>decisions</code> has all."
    if not rows:
        return "<section><h2>Decisions</h2><p>Nothing has been decided yet.</p></section>"
    head = "".join(f"<th>{name}</th>" for name in _DECISION_HEAD)
    body = "".join(
        "<tr>" + "".join(f"<td>{cell}</td>" for cell in _cells(row)) + "</tr>" for row in rows[:DECISIONS]
    )
    return (
        f"<section><h2>Decisions</h2><p>Newest first.{more} "
        '<label>Show only <input id=sift type=search placeholder="a task, a worker, a reason"></label></p>'
        f"<div class='scroll tall'><table id=decisions><thead><tr>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table></div></section>"
    )


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    """The cells of a decision, as HTML."""
    safe = {name: html.escape(value) if isinstance(value, str) else value for name, value in row.items()}
    what = {"set_aside": "set aside"}.get(safe["kind"], safe["kind"] or "")
    if safe["move_kind"]:
        what += f" ({safe['move_kind']}{', foreseen' if row['proactive'] and row['kind'] == 'move' else ''})"
    detail = f"<small>{safe['detail']}</small>" if safe["detail"] else ""
    task = f"{safe['task_id'] or ''}<small>{safe['profile'] or ''}</small>"
    path = " → ".join(part for part in (safe["source"], safe["target"]) if part)
    cost, benefit = ("" if value is None else f"{value:.2f}" for value in (row["cost"], row["benefit"]))
    return (safe["when"], what, f"{safe['reason'] or ''}{detail}", task, path, cost, benefit)


def _json(value: Any) -> str:
    """JSON that may stand inside a script element whatever its strings hold."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _asset(name: str) -> str:
    return resources.files("balancer.report").joinpath(name).read_text(encoding="utf-8")
