"""How a run ends without a result: exceptions between a task's body, its tracer and its request.

`Leave` is private to a body and no `Exception`, so that `except Exception` in a task does not
swallow it; the others are Celery's `Ignore`, so that the tracer writes nothing to the backend.
"""

from __future__ import annotations

from celery.exceptions import Ignore


class Leave(BaseException):
    """Raised by `checkpoint()` inside a body that is wanted elsewhere: unwind, state is saved."""

    def __init__(self, move_id: str, queue: str) -> None:
        super().__init__(move_id, queue)
        self.move_id = move_id
        self.queue = queue


class HandedOver(Ignore):  # type: ignore[misc]
    """The message is in another queue: this delivery has ended and is acknowledged locally."""


class RefusedDelivery(Ignore):  # type: ignore[misc]
    """The fence refused this copy ("held", "stale", "done").

    With `same_tag` the broker's entry under this tag backs the copy that has the claim: the
    delivery is then forgotten locally and not acknowledged.
    """

    def __init__(self, verdict: str, same_tag: bool) -> None:
        super().__init__(verdict, same_tag)
        self.verdict = verdict
        self.same_tag = same_tag
