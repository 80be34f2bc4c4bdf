"""How a running task can leave its worker: at its next checkpoint, or pre-empted at once.

Asked by the candidates of every strategy and once more when a move is admitted; pure.
"""

from __future__ import annotations

from typing import Final, Literal

from balancer.model import HeldTask, TaskProfile, Worker

#: Pools that run each body in a process of its own, which can be interrupted alone.
PREEMPTIBLE_POOLS: Final = ("prefork",)

WayOut = Literal["checkpoint", "preempted"]


def way_out(held: HeldTask, profile: TaskProfile | None, worker: Worker, policy: str) -> WayOut | None:
    """How `held` leaves `worker`; `None` when it must run to its end there.

    `policy` is `balancer_preempt`. A task that saves checkpoints loses nothing by waiting for the
    next; one that may only be started afresh has no other way than to be interrupted.
    """
    checkpoints = held.checkpoints or (profile is not None and profile.checkpoints)
    restartable = profile is not None and profile.restartable
    interruptible = policy != "never" and worker.pool in PREEMPTIBLE_POOLS and (checkpoints or restartable)
    if interruptible and (policy == "always" or not checkpoints):
        return "preempted"
    return "checkpoint" if checkpoints else None
