"""The course of one demo: publish, disturb, collect, show, until every result is there or time is up.

One thread, so that every child is started by the thread the kernel ties its life to.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Final

from balancer.demo.children import Child
from balancer.demo.crew import Member
from balancer.demo.display import Display, Scene
from balancer.demo.disturb import PATIENCE_SHARE, SLOWED, Disturbance, capacity, happened
from balancer.demo.place import foreign_load
from balancer.demo.results import Results
from balancer.demo.stage import Stage
from balancer.demo.workload import Workload
from balancer.errors import BalancerError
from balancer.simulate.bound import makespan_bound

#: Seconds between two looks at the clock, and between two looks for results.
TURN_S: Final = 0.05
COLLECT_S: Final = 1.0

#: Seconds that workers and beat have to come up.
READY_S: Final = 90.0

#: A demo gives up on missing results after this many bounds, and no sooner than these seconds after one.
GIVE_UP: Final = 3.0
GIVE_UP_S: Final = 60.0


class Course:
    """One demo in time. Seconds count from the first publish."""

    def __init__(
        self, stage: Stage, workload: Workload, members: Sequence[Member], plan: Sequence[Disturbance],
        display: Display,
    ) -> None:
        self.stage = stage
        self.workload = workload
        self.members = members
        self.display = display
        self.results = Results(stage.app)
        self.plan = deque(plan)
        self.happened: list[Disturbance] = []
        self.began = 0.0

    @property
    def elapsed_s(self) -> float:
        return time.time() - self.began

    def gather(self) -> None:
        """Wait for those workers that are there from the beginning.

        Raises `BalancerError` naming the log of what did not come up.
        """
        awaited = [member.name for member in self.members if not member.joins_later]
        deadline = time.monotonic() + READY_S
        missing = set(awaited)
        while missing:
            missing = set(awaited) - self.stage.watch.readiness().keys()
            fallen = [child for child in self.stage.children.all if not child.alive]
            if fallen or time.monotonic() > deadline:
                child = fallen[0] if fallen else self._child(next(iter(missing)))
                raise BalancerError(f"{child.name} did not come up; its log: {child.log}\n{_tail(child)}")
            time.sleep(TURN_S)

    def run(self) -> None:
        """From the first publish until every result is there, or the demo gives up."""
        jobs = deque(self.workload.jobs)
        bound_s = self.workload.planned_bound_s
        limit_s = max(GIVE_UP * bound_s, bound_s + GIVE_UP_S)
        self.began, collected = time.time(), 0.0
        while jobs or self.results.pending:
            while jobs and jobs[0].at_s <= self.elapsed_s:
                self.results.publish(jobs.popleft())
            while self.plan and self.plan[0].at_s <= self.elapsed_s and self._disturb(self.plan[0]):
                self.plan.popleft()
            if time.monotonic() - collected >= COLLECT_S:
                self.results.collect()
                collected = time.monotonic()
            self.display.show(self._scene())
            if self.elapsed_s > limit_s:
                self.display.say(f"giving up on {self.results.pending} results", self.elapsed_s)
                break
            time.sleep(TURN_S)
        self.results.collect()
        self.display.show(self._scene(), at_once=True)

    def makespan_s(self) -> float:
        """Seconds from the first publish to the last result."""
        return max((found.at for found in self.results.finished.values()), default=self.began) - self._first()

    def bound_s(self) -> float:
        """What no schedule could beat: true sizes, true times of publishing, joining, killing and slowing."""
        first = self._first()
        released = [at - first for _job, at in self.results.published.values()]
        ready_s = {name: at - first for name, at in self.stage.watch.readiness().items()}
        shifted = [happened(d, d.at_s + self.began - first) for d in self.happened]
        return makespan_bound(
            self.workload.bound_jobs(released), capacity(self.members, ready_s, shifted)
        )

    def _first(self) -> float:
        return min((at for _job, at in self.results.published.values()), default=self.began)

    def _disturb(self, disturbance: Disturbance) -> bool:
        """Do it; `False` when a worker that is to be killed is idle and may be waited for."""
        idle = disturbance.kind == "kill" and not self._in_the_middle(disturbance.target)
        patience_s = PATIENCE_SHARE * self.workload.planned_bound_s
        if idle and self.elapsed_s < disturbance.at_s + patience_s:
            return False
        if disturbance.kind == "join":
            self.stage.start_worker(next(m for m in self.members if m.name == disturbance.target))
        elif disturbance.kind == "slow":
            path = foreign_load(self.stage.place.folder, disturbance.target)
            if path is not None:
                path.write_text(f"{SLOWED:g}")
        elif disturbance.kind == "second_beat":
            self.stage.start_beat(disturbance.target)
        else:
            self._child(disturbance.target).kill()
        done = happened(disturbance, self.elapsed_s, idle=idle)
        self.happened.append(done)
        self.display.say(done.sentence(), done.at_s)
        return True

    def _in_the_middle(self, worker: str) -> bool:
        """Whether a worker is in a task that has made a checkpoint."""
        now = self.stage.watch.now().get(worker)
        return now is not None and bool(now.task_id) and now.share > 0

    def _child(self, name: str) -> Child:
        return next(child for child in self.stage.children.all if child.name == name)

    def _scene(self) -> Scene:
        return Scene(
            elapsed_s=self.elapsed_s, total=len(self.workload.jobs), published=len(self.results.published),
            done=len(self.results.finished), now=self.stage.watch.now(), states=self._states(),
            left=self.stage.watch.left(),
        )

    def _states(self) -> Mapping[str, str]:
        ready = self.stage.watch.readiness()
        states = {m.name: "not here yet" for m in self.members if m.name not in ready}
        for disturbance in self.happened:
            if disturbance.kind in ("slow", "kill"):
                states[disturbance.target] = "slowed" if disturbance.kind == "slow" else "killed"
        return states


def _tail(child: Child, lines: int = 15) -> str:
    """The last lines of a child's log."""
    return "\n".join(child.log.read_text(errors="replace").splitlines()[-lines:])
