"""What becomes of one delivery of a dead worker, judged by its fence. Pure.

Read by `redis_recovery`, whose script acts only while the fence is still as it was judged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from balancer.adapters.redis_fence import Delivery

Action = Literal["push", "answer", "plain", "drop", "leave", "aside", "unread"]

#: Fields of a fence that are judged, in the order in which `recover.lua` compares them.
FIELDS: Final = ("g", "state", "owner", "tag", "claim", "deaths", "begun")

#: Fields that are read beside them.
TOLD: Final = ("started", "died", "checkpointed", "worker")


@dataclass(frozen=True, slots=True, kw_only=True)
class FenceRecord:
    """A fence as it was read; "" for a field that is not there."""

    g: str = ""
    state: str = ""
    owner: str = ""
    tag: str = ""
    claim: str = ""
    deaths: str = ""
    begun: str = ""
    started: str = ""
    died: str = ""
    checkpointed: str = ""
    worker: str = ""

    @classmethod
    def read(cls, raw: Sequence[bytes | None]) -> FenceRecord:
        """From the values of `FIELDS` and `TOLD`."""
        texts = ((value or b"").decode("utf-8", "replace") for value in raw)
        return cls(**dict(zip((*FIELDS, *TOLD), texts, strict=True)))

    @property
    def compared(self) -> str:
        """The fence as `recover.lua` reads it again."""
        return "\n".join((self.g, self.state, self.owner, self.tag, self.claim, self.deaths, self.begun))

    @property
    def body_began(self) -> bool:
        """Whether the run of this record is known to have reached its body."""
        return bool(self.begun or self.started)

    def name_of(self, instance: str) -> str:
        """The worker's name, where this instance was the last to claim the task; else the instance."""
        return self.worker if self.worker and self.owner == instance else instance

    def saved_by(self, delivery: Delivery) -> bool:
        """Whether the run of this delivery has saved a checkpoint, so that the next one goes on with it."""
        return bool(self.checkpointed) and self.state == "run" and self.g == delivery.generation


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What to do; `deaths` is how many owners the task has lost by then."""

    action: Action
    deaths: int = 0


def judge(fence: FenceRecord, delivery: Delivery, *, instance: str, owner_lives: bool, died: bool,
          deaths_limit: int) -> Verdict:
    """What becomes of `delivery`, which `instance` held.

    `died`: the instance is gone (and not only its knowledge of this delivery), so that the task may
    have ended it. The first death makes everything that its worker had claimed a suspect; from then
    on only a run whose body is known to have begun counts, so that neighbours are not blamed.
    """
    deaths = int(fence.deaths) if fence.deaths.isdigit() else 0
    if fence.g > delivery.generation:
        return Verdict(action="drop", deaths=deaths)
    if fence.g == delivery.generation:
        if fence.state == "done":
            return Verdict(action="drop", deaths=deaths)
        if fence.state in ("run", "fin") and fence.owner not in ("", instance) and owner_lives:
            # Another has it: under this tag the entry is the one its run stands on.
            return Verdict(action="leave" if fence.tag == delivery.tag else "drop", deaths=deaths)
        if fence.state == "fin":
            return Verdict(action="answer", deaths=deaths)
        if fence.state == "run" and died and (not deaths or fence.body_began):
            deaths += 1
    return Verdict(action="aside" if deaths >= deaths_limit > 0 else "push", deaths=deaths)
