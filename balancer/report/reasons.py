"""Reasons in a reader's words: what a refusal means, and why moves of one kind were made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from balancer.report.words import figure

#: What a refusal's reason means; a strategy of one's own may give others.
MEANINGS: Final = {
    "migration off": "balancer_enable_task_migration is off",
    "in flight": "it is being moved already",
    "same place": "it is there already",
    "source gone": "the worker that held it no longer reports",
    "not there": "the worker no longer holds it",
    "not migratable": "it runs, and can neither leave at a checkpoint nor be interrupted",
    "unknown profile": "nothing tells what such a task needs",
    "target gone": "the worker it would go to no longer reports",
    "target not healthy": "the worker it would go to is not well",
    "target unfit": "the worker it would go to can never run it",
    "target struck out": "the worker it would go to is too hot or has too little memory free now",
    "cooldown": "it was moved a short while ago, and rests before it may move again",
    "begun anew": "its run would be lost, once more",
    "moved back": "it came from there, and nothing has changed since",
    "no net benefit": "it would cost as much as it gains, or more",
    "gain too small": "it would end only a little sooner there, or later",
    "too many at once": "as many moves as are allowed are under way",
    "worker limit": "one of the two workers has enough moves under way",
    "no idle slot": "every slot of the worker it would go to is taken or promised",
    "no idle slot fits": "no worker with an idle slot can run it",
    "nowhere to go": "no worker with a low load can run it and has an idle slot",
    "slot taken": "a task that gains more goes there",
    "only swaps": "the other worker would be as busy as this one is now, and no time is saved",
    "young": "it has only just begun, and is left alone at first",
}


#: Reasons of moves that are short for who looks at one task, said in full; "…" is a number.
PHRASES: Final = {
    "a worker is over …, another under …":
        "a worker's load is over …, the high threshold, and another's under …, the low one",
    "a worker will be over …, another under …":
        "a worker's load will be over …, the high threshold, and another's under …, the low one",
    "… s remain here, … s on an idle slot": "… s of work remain where it runs, … s on an idle slot",
}  # fmt: skip


def refusal(reason: str) -> str:
    """The reason of a refusal with what it means."""
    meaning = MEANINGS.get(reason)
    return f"{reason} ({meaning})" if meaning else reason


def because(row: Mapping[str, Any]) -> str:
    """The reason of a row of `sql/summary_moves.sql`: with medians where its moves differ in numbers."""
    first, *rest = PHRASES.get(row["pattern"], row["pattern"]).split("…")
    medians = [number for number in row["medians"] if number is not None]
    if len(medians) != len(rest):
        return str(row["example"])
    text = first + "".join(figure(number) + after for number, after in zip(medians, rest, strict=True))
    return f"{text} (medians)" if row["differ"] else text
