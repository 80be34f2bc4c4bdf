"""What a running balancer was started with, as it tells those who look on from other processes.

A fleet does what its balancer was started with, on beat's command line say, and not what the app of
whoever asks would start one with. Pure; kept with the state (`balancer.state`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Final

from balancer.settings import Settings, names, parse

#: What each process has of its own: how it reaches Redis (with a password, maybe) and its files, and what
#: only publishers and workers read.
OWN: Final = ("namespace", "redis_url", "db_path", "ledger_backlog", "ledger_days", "hardware", "tasks",
              "hints")


@dataclass(frozen=True, slots=True, kw_only=True)
class InEffect:
    """The options that differ from their defaults, as told at `at` (server clock, s)."""

    at: float
    options: Mapping[str, Any]

    @classmethod
    def of(cls, settings: Settings, at: float) -> InEffect:
        default = Settings()
        given = {f.name: getattr(settings, f.name) for f in fields(Settings) if f.name not in OWN}
        return cls(at=at, options={
            name: dict(value) if isinstance(value, Mapping) else value
            for name, value in given.items() if value != getattr(default, name)})

    def over(self, own: Settings) -> Settings:
        """These settings in a process whose own are `own`; options of a newer balancer are passed over.

        Raises `SettingError` for what cannot be.
        """
        told = parse({name: value for name, value in self.options.items() if name in names()})
        return replace(told, **{name: getattr(own, name) for name in OWN})


def to_document(told: InEffect | None) -> dict[str, Any]:
    """Under its key in a document of the state."""
    return {} if told is None else {"in_effect": {"at": told.at, "options": dict(told.options)}}


def from_document(document: Mapping[str, Any]) -> InEffect | None:
    """What such a document holds; `None` where it is missing or no such thing: it is only shown."""
    match document.get("in_effect"):
        case {"at": int() | float() as at, "options": dict() as options}:
            return InEffect(at=float(at), options=options)
    return None
