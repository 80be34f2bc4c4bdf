"""The one place where keys in Redis are named, ours and the broker's.

`Keys` is made from a live kombu channel, so that `global_keyprefix`, `sep`, `priority_steps` and
the names of `unacked` are the broker's own, whatever the operator set. The prefix is put in
front by hand, because kombu's client prefixes only the first key of an EVALSHA.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

#: kombu's defaults, for a `Keys` without a channel (twins, tests).
SEPARATOR: Final = "\x06\x16"
PRIORITY_STEPS: Final = (0, 3, 6, 9)


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """Key names of one fleet; every method returns the whole key as Redis sees it."""

    namespace: str = "balancer"
    prefix: str = ""
    sep: str = SEPARATOR
    priority_steps: tuple[int, ...] = PRIORITY_STEPS
    unacked: str = "unacked"
    unacked_index: str = "unacked_index"

    @classmethod
    def from_channel(cls, channel: Any, namespace: str) -> Keys:
        """Names as this kombu Redis channel uses them."""
        prefix = channel.global_keyprefix or ""
        return cls(
            namespace=namespace,
            prefix=prefix,
            sep=channel.sep,
            priority_steps=tuple(channel.priority_steps),
            unacked=prefix + channel.unacked_key,
            unacked_index=prefix + channel.unacked_index_key,
        )

    def ours(self, *parts: str) -> str:
        return self.prefix + ":".join((self.namespace, *parts))

    @property
    def lanes(self) -> str:
        return self.ours("lanes")

    @property
    def lanes_revision(self) -> str:
        return self.ours("lanes", "revision")

    @property
    def alive(self) -> str:
        return self.ours("alive")

    @property
    def workers(self) -> str:
        return self.ours("workers")

    @property
    def beats(self) -> str:
        return self.ours("beats")

    @property
    def holds(self) -> str:
        return self.ours("holds")

    @property
    def board(self) -> str:
        """A row for each worker (`redis_board.ROW`), so that one read shows the fleet."""
        return self.ours("board")

    @property
    def places(self) -> str:
        """Whose row of the board is which."""
        return self.ours("places")

    @property
    def places_free(self) -> str:
        """Rows of the board that were given back."""
        return self.ours("places", "free")

    @property
    def events(self) -> str:
        return self.ours("events")

    @property
    def memory(self) -> str:
        return self.ours("memory")

    @property
    def lease(self) -> str:
        return self.ours("lease")

    @property
    def lease_fence(self) -> str:
        return self.ours("lease", "fence")

    @property
    def asides(self) -> str:
        return self.ours("asides")

    @property
    def routed(self) -> str:
        return self.ours("routed")

    @property
    def cancelled(self) -> str:
        """Task ids that were cancelled for good, wherever their messages are."""
        return self.ours("cancelled")

    def held(self, instance: str) -> str:
        """The delivery tags that one worker holds; with `alive` it says what a dead one held."""
        return self.ours("held", instance)

    @property
    def cancelled_revision(self) -> str:
        """Counts changes of `cancelled`, so that workers look through what they hold only then."""
        return self.ours("cancelled", "revision")

    @property
    def failed(self) -> str:
        """Tasks that were set aside because they end the workers that run them."""
        return self.ours("failed")

    @property
    def failed_untold(self) -> str:
        """Ids of those whose client has not been told yet."""
        return self.ours("failed", "untold")

    @property
    def silence(self) -> str:
        """When somebody reported after nobody had for long: the others have a while to do so, too."""
        return self.ours("silence")

    @property
    def strangers(self) -> str:
        """What the last look for workers without the plug-in found."""
        return self.ours("strangers")

    def recovering(self, what: str) -> str:
        """The short lock of whoever gives back what a dead worker held, or tells of it."""
        return self.ours("recovering", what)

    def order(self, hardware_class: str) -> str:
        return self.ours("order", hardware_class)

    def fence(self, task_id: str) -> str:
        return self.ours("fence", task_id)

    def state(self, task_id: str) -> str:
        return self.ours("state", task_id)

    def drain(self, worker: str) -> str:
        """How far a worker has come that was told to drain."""
        return self.ours("drain", worker)

    def want(self, task_id: str) -> str:
        return self.ours("want", task_id)

    def queue_lists(self, queue: str) -> tuple[str, ...]:
        """The lists of a queue, the one that is served first at the front (kombu's `_q_for_pri`)."""
        return tuple(
            f"{self.prefix}{queue}{self.sep}{step}" if step else f"{self.prefix}{queue}"
            for step in self.priority_steps
        )
