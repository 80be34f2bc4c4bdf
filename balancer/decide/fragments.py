"""How much of a node's free GPUs the usual tasks cannot use: the measure of FGD (Weng et al., ATC '23).

F(M) = Σ_m p_m·F(m): all that is left free where task m cannot run on the node at all, else what is left on
GPUs that are too full for it. Who places a task where F grows least keeps room for those that come. Pure,
without numpy: workers ask it at every pop (`pull`), and so does the experiment of `simulate.placement`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from balancer.model import Footprint

#: Shares this close are the same.
SAME: Final = 1e-9

#: The usual tasks: how often each comes (Σ = 1), and what it takes.
Mix = tuple[tuple[float, Footprint], ...]


def left_bytes(total: int, promised: Iterable[int], read: float | None) -> float:
    """What is free of a device of `total` bytes that several slots share. A reading tells what tasks have
    taken by now, and one that has just begun takes the rest of what it was `promised` in a moment: what
    leaves less counts. Where nothing is read, what was promised."""
    free = float(total - sum(promised))
    return max(0.0, free if read is None else min(free, read))


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What is free of a node: `left` of each GPU (0–1 or bytes, as the tasks' shares), of its processor and
    memory, and tasks that may still join."""

    left: tuple[float, ...]
    cpu: float = float("inf")
    memory: float = float("inf")
    slots: float = float("inf")

    def runs(self, task: Footprint) -> bool:
        """Whether it has room for such a task."""
        if self.slots < 1 or task.cpu > self.cpu + SAME or task.memory > self.memory + SAME:
            return False
        if len(self.left) == 1:
            return task.gpus <= 1 and self.left[0] >= task.share - SAME
        return sum(left >= task.share - SAME for left in self.left) >= task.gpus

    def after(self, task: Footprint, gpus: Sequence[int]) -> Room:
        """With the task on these GPUs."""
        left = tuple(round(free - task.share, 6) if g in gpus else free for g, free in enumerate(self.left))
        return Room(left=left, cpu=self.cpu - task.cpu, memory=self.memory - task.memory,
                    slots=self.slots - 1)

    def places(self, task: Footprint) -> Iterator[tuple[int, ...]]:
        """The GPUs that the task could get: one of each fullness, or the first that are free enough."""
        if not self.runs(task):
            return
        if len(self.left) == 1:
            yield (0,)
            return
        fit = [g for g, left in enumerate(self.left) if left >= task.share - SAME]
        if task.gpus == 1:
            yield from {self.left[g]: (g,) for g in reversed(fit)}.values()
        else:
            yield tuple(fit[: task.gpus])


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """One way to take a task: by how much F grows, and what it leaves. Less growth is better, then less that
    is left (best fit)."""

    growth: float
    after: Room

    @property
    def rating(self) -> tuple[float, float]:
        return self.growth, sum(self.after.left)


def fragments(room: Room, mix: Mix) -> float:
    """Expected free GPU (in the unit of `room.left`) that is of no use to a task of the mix."""
    unusable, whole = 0.0, sum(room.left)
    if room.slots < 1 or whole == 0.0:
        return whole
    for weight, task in mix:
        if room.runs(task):
            unusable += weight * sum(left for left in room.left if left < task.share - SAME)
        else:
            unusable += weight * whole
    return unusable


def best_fit(room: Room, task: Footprint, mix: Mix, before: float) -> Fit | None:
    """The way to take the task that adds least to F, which is `before` without it; `None` where it does not
    fit."""
    fits = [Fit(growth=fragments(after, mix) - before, after=after)
            for gpus in room.places(task) for after in (room.after(task, gpus),)]
    return min(fits, key=lambda fit: fit.rating, default=None)
