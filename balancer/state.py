"""What one turn of the balancer leaves for the next, also across processes: memory and open moves.

Pure conversion between records and the JSON document that the store keeps under the lease's
fence. The loop writes it before it sends requests, so that no answer finds its move unknown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from balancer.decide import memory as memories
from balancer.decide.document import decode, encode
from balancer.decide.memory import Memory
from balancer.errors import StoreError
from balancer.model import Migration
from balancer.settings import Settings

#: Version of the document around the memory, which has its own.
VERSION: Final = 1



@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """The memory of the tick, and the migrations that have not ended."""

    memory: Memory
    migrations: tuple[Migration, ...] = ()


def fresh(settings: Settings) -> State:
    """The state of a balancer that has seen nothing."""
    return State(memory=memories.fresh(settings))


def to_document(state: State) -> dict[str, Any]:
    return {
        "version": VERSION,
        "memory": memories.to_document(state.memory),
        "migrations": migration_documents(state.migrations),
    }


def from_document(document: Mapping[str, Any]) -> State:
    """The state a document holds. Raises `StoreError` with the reason, also for a newer version."""
    version = document.get("version")
    if version != VERSION:
        raise StoreError(f"the balancer's state has version {version!r}; this balancer reads {VERSION}")
    memory = document.get("memory")
    if not isinstance(memory, Mapping):
        raise StoreError("the balancer's state lacks its memory")
    migrations: tuple[Migration, ...] = decode(
        tuple[Migration, ...], document.get("migrations", []), "migrations")
    return State(memory=memories.from_document(memory), migrations=migrations)


def migration_documents(migrations: Sequence[Migration]) -> list[dict[str, Any]]:
    """Migrations as JSON objects, the move and its score inside."""
    documents: list[dict[str, Any]] = encode(migrations)
    return documents
