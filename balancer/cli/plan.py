"""`celery balancer plan [--json]`: what a tick would move at this moment, what not, and why.

A dry run of the same decision that the balancer takes, over the state it has left; changes nothing.
"""

from __future__ import annotations

import json
from typing import Any

import click
from rich.console import Console
from rich.markup import escape

from balancer.cli.status import number, onlooker, table_of
from balancer.model import Move, Rejected

Document = dict[str, Any]


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for programs.")
@click.pass_context
def plan(ctx: click.Context, as_json: bool) -> None:
    """Show what a tick would move now, what it would not, and why; nothing is changed."""
    balancer = onlooker(ctx.obj.app)
    decision = balancer.preview()
    document = {
        "strategy": decision.strategy,
        "notes": list(decision.notes),
        "moves": [_choice(move) for move in decision.moves],
        "refused": [_choice(refusal) for refusal in decision.rejected],
    }
    if as_json:
        click.echo(json.dumps(document, indent=2))
    else:
        draw(document, Console())


def draw(document: Document, console: Console) -> None:
    for note in document["notes"]:
        console.print(escape(note))
    if not document["moves"] and not document["refused"]:
        console.print("Nothing would be moved, and nothing was looked at.")
        return
    table = table_of("", "task", "profile", "kind", "from", "to", "benefit", "cost", "why", title="Plan")
    for verdict, choices in (("move", document["moves"]), ("no", document["refused"])):
        for c in choices:
            table.add_row(verdict, c["task"], c["profile"], c["kind"], c["source"], c["target"],
                          number(c["benefit"]), number(c["cost"]), escape(c["why"]),
                          style="bold" if verdict == "move" else "dim")
    console.print(table)


def _choice(choice: Move | Rejected) -> Document:
    score = choice.score
    detail = getattr(choice, "detail", "")
    return {
        "task": choice.task_id, "profile": choice.profile, "kind": choice.kind, "source": choice.source,
        "target": choice.target, "why": f"{choice.reason}: {detail}" if detail else choice.reason,
        "benefit": score.benefit if score else None, "cost": score.cost if score else None,
        "benefit_s": score.benefit_s if score else None, "cost_s": score.cost_s if score else None,
    }
