"""`celery balancer plan [--json]`: what a tick would move at this moment, what not, and why.

A dry run of the same decision that the balancer takes, over the state it has left; changes nothing.
"""

from __future__ import annotations

import json
from typing import Any

import click
from rich.console import Console
from rich.markup import escape

from balancer import wiring
from balancer.cli.screen import console, number, table
from balancer.cli.status import settings_from
from balancer.model import Move, Rejected

Document = dict[str, Any]


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for programs.")
@click.pass_context
def plan(ctx: click.Context, as_json: bool) -> None:
    """Show what a tick would move now, what it would not, and why; nothing is changed."""
    balancer = wiring.onlooker(ctx.obj.app)
    decision = balancer.preview()
    stats = balancer.get_load_balancer_stats()
    document = {
        "strategy": decision.strategy,
        **{name: stats[name] for name in ("holder", "dry_run", "settings_from", "settings_age_s")},
        "notes": list(decision.notes),
        "moves": [_choice(move) for move in decision.moves],
        "refused": [_choice(refusal) for refusal in decision.rejected],
    }
    if as_json:
        click.echo(json.dumps(document, indent=2))
    else:
        draw(document, console())


def draw(document: Document, out: Console) -> None:
    """The moves, each with its score and its reason; then what was refused, and why."""
    out.print(escape(f"strategy {document['strategy']} ({settings_from(document)})"))
    if document.get("dry_run"):
        out.print("dry run: nothing is moved")
    for note in document["notes"]:
        out.print(escape(note))
    if not document["moves"] and not document["refused"]:
        out.print("Nothing would be moved; no task was weighed for a move.")
        return
    for title, choices in (("Would be moved", document["moves"]), ("Would stay", document["refused"])):
        if not choices:
            out.print(f"{title}: nothing")
            continue
        out.print(table(
            f"{title} ({len(choices)})", ("profile", "task", "kind", "from", "to", "benefit", "cost", "why"),
            [(escape(c["profile"]), escape(c["task"]), c["kind"], escape(c["source"]), escape(c["target"]),
              number(c["benefit"]), number(c["cost"]), escape(c["why"])) for c in choices]))


def _choice(choice: Move | Rejected) -> Document:
    score = choice.score
    detail = getattr(choice, "detail", "")
    return {
        "task": choice.task_id, "profile": choice.profile, "kind": choice.kind, "source": choice.source,
        "target": choice.target, "why": f"{choice.reason}: {detail}" if detail else choice.reason,
        "benefit": score.benefit if score else None, "cost": score.cost if score else None,
        "benefit_s": score.benefit_s if score else None, "cost_s": score.cost_s if score else None,
        "parts": dict(score.parts) if score else {},
    }
