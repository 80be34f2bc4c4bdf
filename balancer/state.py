"""What one turn of the balancer leaves for the next, also across processes: memory, open moves, settings.

Pure conversion between records and the JSON document that the store keeps under the lease's
fence. The loop writes it before it sends requests, so that no answer finds its move unknown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from balancer import in_effect
from balancer.decide import memory as memories
from balancer.decide.document import decode, encode
from balancer.decide.fairness import Account
from balancer.decide.history import MoveHistory
from balancer.decide.memory import Memory
from balancer.errors import StoreError
from balancer.in_effect import InEffect
from balancer.model import Migration
from balancer.settings import Settings

#: Version of the document around the memory, which has its own.
VERSION: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """The memory of the tick, and the migrations that have not ended.

    `cursor` is the last event the migrations and the history of moves have heard of, where that is further
    than what the memory has learned from: then the events between are still to be learned. `in_effect` is
    what the balancer that wrote it was started with.
    """

    memory: Memory
    migrations: tuple[Migration, ...] = ()
    cursor: str = ""
    in_effect: InEffect | None = None


def fresh(settings: Settings) -> State:
    """The state of a balancer that has seen nothing."""
    return State(memory=memories.fresh(settings))


def to_document(state: State) -> dict[str, Any]:
    """All of it."""
    return {
        "version": VERSION,
        "memory": memories.to_document(state.memory),
        "migrations": migration_documents(state.migrations),
        **in_effect.to_document(state.in_effect),
    }


def since_document(state: State) -> dict[str, Any]:
    """What must not be lost between two whole documents: moves, what groups of tasks had, and how far events
    were heard. What was learned from these events can be learned again."""
    account = state.memory.account
    return {
        "version": VERSION,
        "cursor": state.memory.cursor,
        "history": encode(state.memory.history),
        "migrations": migration_documents(state.migrations),
        **({} if account is None else {"account": encode(account)}),
        **in_effect.to_document(state.in_effect),
    }


def from_document(document: Mapping[str, Any], settings: Settings) -> State:
    """The state a document holds, with what came after it under "since" (also alone: then nothing else is
    known). Raises `StoreError` with the reason, also for a newer version."""
    since = document.get("since")
    if set(document) == {"since"}:
        state = fresh(settings)
    else:
        state = _whole(document)
    return state if since is None else _after(state, since)


def _whole(document: Mapping[str, Any]) -> State:
    _check_version(document)
    memory = document.get("memory")
    if not isinstance(memory, Mapping):
        raise StoreError("the balancer's state lacks its memory")
    return State(memory=memories.from_document(memory), migrations=_migrations(document),
                 in_effect=in_effect.from_document(document))


def _after(state: State, since: Any) -> State:
    if not isinstance(since, Mapping):
        raise StoreError("since: an object was expected")
    _check_version(since)
    history: MoveHistory = decode(MoveHistory, since.get("history"), "since.history")
    cursor: str = decode(str, since.get("cursor"), "since.cursor")
    account: Account | None = decode(Account | None, since.get("account"), "since.account")
    memory = replace(state.memory, history=history, account=account)
    return State(memory=memory, migrations=_migrations(since), cursor=cursor,
                 in_effect=in_effect.from_document(since) or state.in_effect)


def _check_version(document: Mapping[str, Any]) -> None:
    version = document.get("version")
    if version != VERSION:
        raise StoreError(f"the balancer's state has version {version!r}; this balancer reads {VERSION}")


def _migrations(document: Mapping[str, Any]) -> tuple[Migration, ...]:
    migrations: tuple[Migration, ...] = decode(
        tuple[Migration, ...], document.get("migrations", []), "migrations")
    return migrations


def migration_documents(migrations: Sequence[Migration]) -> list[dict[str, Any]]:
    """Migrations as JSON objects, the move and its score inside."""
    documents: list[dict[str, Any]] = encode(migrations)
    return documents
