"""The twin's clock: plays a scenario against a strategy, event by event, in virtual time.

Deterministic: the same scenario and strategy give the same history. There is no wall clock here and no
chance; what is random was drawn when the scenario was made.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import count
from typing import Any, Final

from balancer.decide.history import ASSUMED_BYTES_PER_S
from balancer.decide.situation import Strategy
from balancer.decide.stranded import unserved
from balancer.migration import Request
from balancer.model import Event, Fleet, HandedOver, Move, Refused, RunFinished, RunStarted
from balancer.routing import direct_queue, lane_queue
from balancer.settings import Settings
from balancer.simulate.governor import Governor
from balancer.simulate.history import History, Span, Wait
from balancer.simulate.node import Node, Run
from balancer.simulate.queues import Waiting
from balancer.simulate.scenario import Job, Scenario
from balancer.simulate.world import Taken, World

#: A run is given up when it takes this many times what all work would take one after the other, spread over
#: the slots that there are.
PATIENCE: Final = 20.0


def play(scenario: Scenario, strategy: Strategy, settings: Settings, *, ahead: int = 0) -> History:
    """All jobs to their end, or until the twin's patience is over (then some are not in `ended`)."""
    return Twin(scenario, strategy, settings, ahead).run()


class Twin:
    """One simulation. Each `_on_…` handles one kind of event."""

    __slots__ = ("_events", "_numbers", "_orphans", "_silent", "governor", "history", "scenario", "world")

    def __init__(self, scenario: Scenario, strategy: Strategy, settings: Settings, ahead: int) -> None:
        self.scenario = scenario
        self.world = World(scenario, ahead)
        self.governor = Governor(strategy, settings)
        self.history = History()
        self._events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._numbers = count()
        self._orphans: dict[str, list[Waiting]] = {}
        self._silent: list[str] = []

    def run(self) -> History:
        """Plays everything."""
        for node in self.world.nodes.values():
            self._plan(node)
        for job in self.scenario.jobs:
            self._at(job.release_s, self._on_release, job)
        self._at(0.0, self._on_turn, 0)
        jobs, patience = len(self.scenario.jobs), _patience(self.scenario)
        now = 0.0
        over = self.history.ended, self.history.expired
        while self._events and sum(map(len, over)) < jobs and now <= patience:
            now = self._events[0][0]
            while self._events and self._events[0][0] <= now:
                _, _, handle, subject = heapq.heappop(self._events)
                handle(now, *subject)
            self._pull(now)
        for node in self.world.nodes.values():
            node.account(now)
            self.history.joules += node.spent[1]
            self.history.spans += [self._span(node, run, now, done=False) for run in node.runs.values()]
        self.history.until_s = now
        for ended in self.governor.ended:
            if ended.successful:
                self.history.moves[ended.move.kind] += max(1, ended.moved)
                self.history.moves["proactive"] += ended.move.proactive
        return self.history

    def _at(self, when: float, handle: Callable[..., None], *subject: Any) -> None:
        heapq.heappush(self._events, (when, next(self._numbers), handle, subject))

    def _plan(self, node: Node) -> None:
        """A machine's joining, slowing down and loss."""
        machine = node.machine
        self._at(machine.from_s, self._on_join, node)
        if machine.until_s != float("inf"):
            self._at(machine.until_s, self._on_loss, node)
        for part in machine.slowdowns:
            for when in (part.from_s, part.until_s):
                if when != float("inf"):
                    self._at(when, self._on_speed, node)

    def _on_release(self, now: float, job: Job) -> None:
        self.world.queues.put(lane_queue(job.profile), Waiting(job=job, since=now))

    def _on_join(self, now: float, node: Node) -> None:
        node.account(now)
        node.alive, node.idle_since = True, now

    def _on_speed(self, now: float, node: Node) -> None:
        """The speed of everything that runs there has changed."""
        node.account(now)
        for run in node.runs.values():
            run.save(now, self.scenario.costs.checkpoint_s)
            run.share, run.since = run.share_at(now), max(now, run.since)
            self._schedule(node, run, now)

    def _on_turn(self, now: float, number: int) -> None:
        """A turn of the balancer; every so many it is a whole tick."""
        settings = self.governor.settings
        for node in self.world.nodes.values():
            node.account(now)
            if node.throttles():
                self._on_speed(now, node)
        fleet = self.world.observe(now, settings.heartbeat_ttl, tuple(self._silent))
        if not any(begin <= now < end for begin, end in self.scenario.away):
            each = max(1, round(settings.check_interval / settings.price_interval))
            self._govern(now, fleet, whole=number % each == 0)
        elif any(now - order.at > settings.order_ttl for order in self.world.orders.values()):
            self.world.follow({})
        # Any worker sees to this, with a balancer or without.
        self._free(now, unserved(fleet))
        self._at(now + settings.price_interval, self._on_turn, number + 1)

    def _govern(self, now: float, fleet: Fleet, *, whole: bool) -> None:
        """What the balancer decides is followed."""
        self._silent = []
        turn = self.governor.turn(fleet, whole=whole)
        self.world.follow(turn.orders)
        for command in turn.commands:
            if isinstance(command, Request):
                self._request(now, command.move)
            else:
                self._withdraw(command.move)

    def _request(self, now: float, move: Move) -> None:
        """What the hand-over does with a move."""
        if move.kind == "queued":
            moved = self.world.queues.remove(move.source, move.task_id, move.count)
            for message in moved:
                self._waited(now, move.source, message)
                self._send(now, move.target_queue, message)
            self.governor.settle(move, len(moved), now)
            return
        node = self.world.nodes[move.source]
        if move.kind == "reserved":
            self._give_back(now, node, move)
        elif (run := node.runs.get(move.task_id)) is not None:
            run.left_by = move
            when = now if move.preempt else run.next_save_at(now, self.scenario.costs.checkpoint_s)
            self._at(when, self._on_leave, node, run, move)

    def _withdraw(self, move: Move) -> None:
        node = self.world.nodes.get(move.source)
        run = node.runs.get(move.task_id) if node else None
        if run is not None and run.left_by is not None and run.left_by.move_id == move.move_id:
            run.left_by = None

    def _give_back(self, now: float, node: Node, move: Move) -> None:
        """A reserved task leaves, unless it runs by now."""
        held = next((m for m in node.reserved if m.job.task_id == move.task_id), None)
        if held is None:
            self.governor.hear(Refused(at=now, move_id=move.move_id, task_id=move.task_id, worker=node.name,
                                       reason="running"))
            return
        node.reserved.remove(held)
        self._left(now, node, held, move)

    def _on_leave(self, now: float, node: Node, run: Run, move: Move) -> None:
        """A running task at its next checkpoint after the wish; one that is interrupted, where it is."""
        if node.runs.get(run.job.task_id) is not run or run.left_by is not move:
            return
        node.account(now)
        share = self._kept(now, run) if move.preempt else run.share_at(now)
        self._ended(now, node, run, share, "moved")
        self._left(now, node, replace(run.message, share=share, begun=True), move)

    def _left(self, now: float, node: Node, message: Waiting, move: Move) -> None:
        self._tell(HandedOver(at=now, move_id=move.move_id, task_id=message.job.task_id, worker=node.name,
                              queue=move.target_queue, state_bytes=self.scenario.costs.state_bytes))
        self._send(now, move.target_queue, replace(message, epoch=message.epoch + 1))

    def _send(self, now: float, queue: str, message: Waiting) -> None:
        self._at(now + self.scenario.costs.handover_s, self._on_arrival, queue, message)

    def _on_arrival(self, now: float, queue: str, message: Waiting) -> None:
        """A moved message; if the worker that it was sent to is gone, it goes back to its lane."""
        owners = {direct_queue(name): node for name, node in self.world.nodes.items()}
        front = queue in owners and not owners[queue].alive
        queue = lane_queue(message.job.profile) if front else queue
        self.world.queues.put(queue, replace(message, since=now), front=front)

    def _on_loss(self, now: float, node: Node) -> None:
        """A worker is killed. What it held is found when its heartbeat is missed."""
        node.account(now)
        orphans = list(node.reserved)
        for run in node.runs.values():
            kept = self._kept(now, run)
            self.history.spans.append(self._span(node, run, now, done=False))
            orphans.append(replace(run.message, share=kept, epoch=run.message.epoch + 1,
                                   begun=run.message.begun or run.saved is not None))
        node.alive = False
        node.runs, node.reserved = {}, []
        self._orphans[node.name] = orphans
        self._at(now + self.governor.settings.heartbeat_ttl, self._on_missed, node)

    def _kept(self, now: float, run: Run) -> float:
        """The share that is left of a body which ends where it is: that of its last checkpoint."""
        kept = 0.0
        if self.scenario.profiles[run.job.profile].checkpoints:
            run.save(now, self.scenario.costs.checkpoint_s)
            kept = run.saved[1] if run.saved else run.message.share
        self.history.lost_s += (run.share_at(now) - kept) / run.rate if run.rate > 0 else 0.0
        return kept

    def _on_missed(self, now: float, node: Node) -> None:
        """Its direct queue and its deliveries go back to the front of their lanes."""
        self._free(now, [direct_queue(node.name)])
        self._to_front(now, self._orphans.pop(node.name, ()))
        self._silent.append(node.name)

    def _free(self, now: float, queues: Sequence[str]) -> None:
        """What lies where nobody serves it goes back to the front of its lane."""
        for queue in queues:
            self._to_front(now, self.world.queues.remove(queue, "", self.world.queues.waiting.get(queue, 0)))

    def _to_front(self, now: float, messages: Sequence[Waiting]) -> None:
        for message in reversed(messages):
            self.world.queues.put(lane_queue(message.job.profile), replace(message, since=now), front=True)

    def _pull(self, now: float) -> None:
        """Every node that has room takes what it may; those that reserve begin with what they hold."""
        for taken in self.world.takes(now):
            self._waited(now, taken.queue, taken.message)
            self._hold(now, taken)

    def _hold(self, now: float, taken: Taken) -> None:
        node, due = taken.node, taken.message.expires_at
        if due is not None and due < now:
            self.history.expired[taken.message.job.task_id] = now
        elif len(node.runs) < node.machine.slots:
            self._start(now, node, taken.message, taken.queue)
        else:
            node.reserved.append(taken.message)

    def _start(self, now: float, node: Node, message: Waiting, queue: str = "") -> None:
        node.account(now)
        job, began = message.job, now + self._opening_s(message)
        run = Run(message=message, taken_at=now, started_at=began, since=began, share=message.share, rate=0.0)
        node.runs[job.task_id] = run
        self._schedule(node, run, now)
        self._tell(RunStarted(
            at=now, task_id=job.task_id, profile=job.profile, worker=node.name, queue=queue,
            hardware_class=node.machine.hardware.hardware_class, epoch=message.epoch,
            resumed=message.share > 0))

    def _opening_s(self, message: Waiting) -> float:
        """Seconds of a slot from taking a message to its body: the state of a moved one is loaded."""
        costs = self.scenario.costs
        return costs.dispatch_s + (costs.state_bytes / ASSUMED_BYTES_PER_S if message.share > 0 else 0.0)

    @staticmethod
    def _span(node: Node, run: Run, now: float, *, done: bool) -> Span:
        return Span(worker=node.name, task_id=run.job.task_id, from_s=run.taken_at, until_s=now, done=done)

    def _schedule(self, node: Node, run: Run, now: float) -> None:
        """When the body ends, at the speed of this moment."""
        whole_s = self.scenario.whole_s(run.job, node.machine.hardware.hardware_class)
        run.rate = node.speed(now, run.job.profile) / whole_s
        if run.rate > 0:
            self._at(run.since + (1.0 - run.share) / run.rate, self._on_end, node, run, run.rate, run.since)

    def _on_end(self, now: float, node: Node, run: Run, rate: float, since: float) -> None:
        if node.runs.get(run.job.task_id) is not run or (run.rate, run.since) != (rate, since):
            return  # planned before its speed changed
        node.account(now)
        self._ended(now, node, run, 1.0, "success")
        self.history.ended[run.job.task_id] = now

    def _ended(self, now: float, node: Node, run: Run, share: float, outcome: str) -> None:
        """A body is over: its slot is free, and its worker tells how long it took."""
        del node.runs[run.job.task_id]
        node.idle_since = now
        self.history.spans.append(self._span(node, run, now, done=outcome == "success"))
        self._tell(RunFinished(
            at=now, task_id=run.job.task_id, profile=run.job.profile, worker=node.name, outcome=outcome,
            hardware_class=node.machine.hardware.hardware_class, epoch=run.message.epoch,
            duration_s=max(1e-9, now - run.started_at), size=run.job.size, share=share - run.message.share))
        if node.reserved:
            self._start(now, node, node.reserved.pop(0))

    def _waited(self, now: float, queue: str, message: Waiting) -> None:
        self.history.waits.append(
            Wait(task_id=message.job.task_id, queue=queue, from_s=message.since, until_s=now))

    def _tell(self, event: Event) -> None:
        self.governor.hear(event)


def _patience(scenario: Scenario) -> float:
    """When to give up (s)."""
    slowest = sum(max(by_class.values()) * job.work for job in scenario.jobs
                  if (by_class := scenario.seconds[job.profile]))
    slots = max(1, sum(machine.slots for machine in scenario.machines))
    return scenario.until_s + 600.0 + PATIENCE * slowest / slots
