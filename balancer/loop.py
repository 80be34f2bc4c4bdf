"""`AdaptiveLoadBalancer`: observe → decide → act → record, turn after turn, under one lease.

All that is chosen is chosen by the pure core (`balancer.decide`, `balancer.migration`); this class
keeps what must survive a turn, writes it down before anything is asked of a worker, and survives
whatever its ports do. Two rhythms: prices, orders and moves that cannot wait every `price_interval`, the
whole tick every `check_interval`. Its methods bear the seed's names.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from threading import RLock
from typing import Any, Final

from balancer import in_event_loop, ledger_rows, migration, state
from balancer.decide import benefit, candidates, cost, engine, learn
from balancer.decide.candidates import Candidate
from balancer.decide.situation import Situation, Strategy
from balancer.decide.stranded import unserved
from balancer.errors import StoreError
from balancer.in_effect import InEffect
from balancer.migration import Cancel, Command, Request
from balancer.model import (
    Decision,
    Event,
    Fleet,
    Forecast,
    GivenUp,
    Imbalance,
    Migration,
    Move,
    Order,
    SetAside,
    ShortTurn,
    Thresholds,
    Worker,
)
from balancer.outside import Outside
from balancer.settings import Settings
from balancer.standing import Keeper, Ports, Schedule, Standing, statistics
from balancer.state import State

log = logging.getLogger("balancer")

#: Longest pause after turns that fail (s); the first is a rhythm long, then it doubles.
LONGEST_PAUSE_S: Final = 30.0


class AdaptiveLoadBalancer:
    """A balancer of one fleet. Any number may run; the one that holds the lease works.

    Turns are driven by `start_balancing` (`stop` ends it from any thread) or one at a time by `turn`. A turn
    that raises has asked nothing of a worker that is not written down.
    """

    def __init__(self, ports: Ports, settings: Settings, strategy: Strategy) -> None:
        self.ports = ports
        self.settings = settings
        self.strategy = strategy
        self._outside = Outside()
        self._standing = Standing(state=state.fresh(settings))
        self._lock = RLock()
        self._keeper = Keeper(ports.store, settings)
        self._last_fault = ""

    @property
    def standing(self) -> Standing:
        """What is known at this moment: a record, to look at."""
        return self._standing

    def start_balancing(self) -> Coroutine[Any, Any, None] | None:
        """Take turns until `stop` is called; no fault of a turn ends it. Blocks; called where an event loop
        runs it returns what does so in a thread, until it is cancelled (`asyncio.create_task`)."""
        if in_event_loop.runs_here():
            return in_event_loop.until_cancelled(self._balance, self.stop)
        self._balance()
        return None

    def _balance(self) -> None:
        schedule = Schedule(check_interval=self.settings.check_interval)
        log.info("the balancer starts: strategy %s, prices every %g s, ticks every %g s%s",
                 self.strategy.name, self.settings.price_interval, self.settings.check_interval,
                 ", dry run" if self.settings.dry_run else "")
        faults = 0
        try:
            while True:
                began = self.ports.clock.now()
                faults = 0 if self._take_turn(schedule, began) else faults + 1
                if self.ports.clock.wait(self._pause(began, faults)):
                    return
        finally:
            self._leave()

    def stop(self) -> None:
        """End `start_balancing` after the turn it is in."""
        self.ports.clock.stop()

    def turn(self, *, whole: bool = True) -> bool:
        """One turn: prices, orders and moves that cannot wait, and with `whole` the whole tick. `False` when
        another balancer holds the lease (then nothing was changed). Raises what a port raises."""
        with self._lock:
            if not self._hold_lease():
                return False
            fleet = self.update_performance_metrics()
            events, commands = self._follow_moves(fleet)
            chosen = self._choose(fleet, whole=whole)
            commands = (*commands, *self._start_moves(chosen.moves, fleet))
            if not self._save(whole=whole):
                return False
            self._publish(chosen.orders, fleet)
            self._act(commands)
            self._record_metrics(events, chosen)
            return True

    def balance_load(self) -> Decision | None:
        """A whole tick now; what it found and chose, or `None` when another balancer holds the lease."""
        with self._lock:
            return self._standing.decision if self.turn(whole=True) else None

    # The steps of the seed's decision flow. `turn` takes them through the same pure functions.

    def update_performance_metrics(self) -> Fleet:
        """Step 1: the fleet as its workers report it, with metrics from outside over their own."""
        fleet = self._outside.overlay(self.ports.store.observe())
        skew_s = fleet.at - self.ports.clock.now()
        self._standing = replace(self._standing, fleet=fleet, skew_s=skew_s).with_aside(*fleet.set_aside)
        return fleet

    def _update_dynamic_thresholds(self) -> Thresholds:
        """Step 3: the bounds of utilization, as a tick at this moment adjusts them."""
        return self.preview().thresholds

    def _predict_future_load(self) -> Sequence[Forecast]:
        """Step 4: forecasts for the fleet and for each worker, with their confidence."""
        return self.preview().forecasts

    def detect_load_imbalance(self) -> Imbalance | None:
        """Step 5: the imbalance that is there or foreseen, if it is one to act upon."""
        return self.preview().imbalance

    def _find_migratable_tasks(self, worker: Worker) -> tuple[Candidate, ...]:
        """Step 6: the tasks that could leave this worker, the cheapest to move first."""
        orders = self.preview().orders
        return tuple(candidates.migratable_tasks(worker, self._situation(), orders))

    def _analyze_migration_costs(self, candidate: Candidate) -> float:
        """Step 6: what moving this task costs, on the seed's scale of 0–10."""
        return cost.analyze(candidate, self._situation()).points

    def _analyze_migration_benefit(self, candidate: Candidate, target: Worker) -> float:
        """Step 6: what running this task on `target` gains, on the seed's scale (≥ 0)."""
        return benefit.analyze(candidate, target, self._situation()).points

    def _migrate_task(self, move: Move) -> int:
        """Ask for a move that is written down; how many queued messages moved at once."""
        moved = self.ports.handover.request(move, self.settings.move_timeout)
        self._standing = replace(self._standing, initiated=self._standing.initiated + 1)
        self._change(move, lambda m: migration.settle(m, moved, self._now())[0])
        return moved

    def preview(self) -> Decision:
        """What a whole tick finds and would choose at this moment; it changes nothing."""
        with self._lock:
            fleet = self._standing.fleet or self.update_performance_metrics()
            now = self._standing
            if now.decision is not None and now.decision.at == fleet.at:
                return now.decision
            return engine.decide(now.state.memory, fleet, self.settings, self.strategy, now.in_flight)[1]

    def look(self) -> None:
        """Read the fleet and what the balancer that works has left, without the lease; changes nothing."""
        with self._lock:
            self._standing = replace(self._standing, state=self._stored_state())
            self.update_performance_metrics()

    def follow(self, settings: Settings, strategy: Strategy, whose: str, told_at: float | None) -> None:
        """Look on with these settings: `whose` they are is told, and when they were told."""
        self.settings, self.strategy = settings, strategy
        self._standing = replace(self._standing, settings_from=whose, told_at=told_at)

    def get_load_balancer_stats(self) -> dict[str, Any]:
        """Statistics in the shape of the seed's metrics JSON, and more (`balancer.standing.statistics`)."""
        with self._lock:
            decision = self.preview() if self._standing.fleet else None
            return statistics(self._standing, self.settings, self.strategy, decision,
                              self.ports.lease.holder())

    async def handle_task_cancelled_for_migration(self, task_id: str, source_worker_id: str) -> None:
        """The seed's call; see `task_cancelled_for_migration`, which waits for nothing either."""
        self.task_cancelled_for_migration(task_id, source_worker_id)

    async def update_worker_performance(self, worker_id: str, metrics: Mapping[str, Any]) -> None:
        """The seed's call; see `worker_performance`, which waits for nothing either."""
        self.worker_performance(worker_id, metrics)

    def task_cancelled_for_migration(self, task_id: str, source_worker_id: str) -> None:
        """A task was cancelled on its worker so that it can move: from the next turn on its move counts
        as handed over. Told before the move is written down, it is kept for a tick. Raises as below."""
        self._outside.tell_departure(task_id, source_worker_id, self._now(), self._standing.fleet)

    def worker_performance(self, worker_id: str, metrics: Mapping[str, Any]) -> None:
        """Let metrics from outside stand over the worker's own, for a whole tick and a heartbeat's age
        limit. Names are those of `balancer.model.Reading`.

        Raises `BalancerError` for garbage, and for a worker that is not there while the fleet is known.
        """
        lasts_s = self.settings.check_interval + self.settings.heartbeat_ttl
        self._outside.tell_reading(worker_id, metrics, self._now() + lasts_s, self._standing.fleet)

    def _take_turn(self, schedule: Schedule, now: float) -> bool:
        """A turn that may fail: `False` when it raised, which is logged, a new fault with its traceback."""
        whole = schedule.whole_due(now)
        try:
            if self.turn(whole=whole) and whole:
                schedule.whole_done(now)
        except Exception as error:
            fault = f"{type(error).__name__}: {error}"
            log.error("a turn of the balancer failed; it goes on with the next (%s)", fault,
                      exc_info=fault != self._last_fault)
            self._last_fault = fault
            return False
        self._last_fault = ""
        return True

    def _pause(self, began: float, faults: int) -> float:
        """Seconds to the next turn: the rest of the shorter rhythm, or ever longer after faults."""
        rhythm = min(self.settings.price_interval, self.settings.check_interval)
        if faults:
            return min(LONGEST_PAUSE_S, rhythm * 2.0 ** min(faults - 1, 16))
        return max(0.0, min(rhythm, began + rhythm - self.ports.clock.now()))

    def _leave(self) -> None:
        for name, end in (("lease", self.ports.lease.release), ("ledger", self.ports.ledger.close)):
            try:
                end()
            except Exception:
                log.exception("the balancer could not give its %s back", name)
        self._standing = replace(self._standing, fence=None)
        log.info("the balancer has stopped")

    def _hold_lease(self) -> bool:
        """Take or renew the lease; a new holder reads what the one before it has left."""
        fence = self.ports.lease.acquire()
        if fence is None:
            holder = self.ports.lease.holder() or "another balancer"
            if self._standing.waits_for != holder:
                log.warning("%s balances this fleet; this balancer waits and changes nothing", holder)
            self._standing = replace(self._standing, fence=None, waits_for=holder)
            return False
        if fence != self._standing.fence:
            log.info("this balancer holds the lease (fence %d)", fence)
            stored = self._stored_state()
            self._standing = replace(self._standing, state=stored, fence=fence, events=())
        self._standing = replace(self._standing, waits_for=None)
        return True

    def _stored_state(self) -> State:
        try:
            return self._keeper.load()
        except StoreError as error:
            log.warning("what the last balancer kept cannot be read and is set aside: %s", error)
            self._standing = self._standing.with_aside(
                SetAside(source="memory", reason="unreadable state", detail=str(error)))
            return state.fresh(self.settings)

    def _follow_moves(self, fleet: Fleet) -> tuple[tuple[Event, ...], tuple[Command, ...]]:
        """Step 7: hear what workers say, learn from it, and end moves that have ended or never will."""
        cursor, heard = self.ports.store.events(self._standing.state.memory.cursor)
        self._keeper.heard(len(heard))
        self._hear_outsiders(heard, fleet)
        now = self._standing
        told = self._outside.answers(now.state.migrations, fleet.at, self.settings.check_interval)
        events = (*heard, *told)
        followed, commands = migration.follow(
            now.state.migrations, events, now=fleet.at, timeout=self.settings.move_timeout,
            alive=fleet.names)
        memory = learn.learn(now.state.memory, events, fleet, self.settings)
        ended = [m for m in followed if not m.in_flight]
        memory = learn.learn_migrations(memory, ended, self.settings)
        since = fleet.at - self.settings.heartbeat_ttl
        self._standing = replace(
            now,
            state=State(memory=replace(memory, cursor=cursor),
                        migrations=tuple(m for m in followed if m.in_flight)),
            events=tuple(e for e in (*now.events, *events) if e.at >= since),
            changed=(*now.changed, *(m for m in followed if m not in now.state.migrations)),
            successful=now.successful + sum(m.successful for m in ended),
        )
        return events, commands

    def _hear_outsiders(self, events: Sequence[Event], fleet: Fleet) -> None:
        """Take what other processes told through the stream; what cannot be used is said, once a tick."""
        lasts_s = self.settings.check_interval + self.settings.heartbeat_ttl
        unusable = self._outside.hear(events, fleet, lasts_s)
        for one in unusable:
            if one not in self._standing.asides:
                log.warning("set aside: %s: %s", one.source, one.reason)
        given_up = (SetAside(source=f"task {event.task_id}", reason=event.reason)
                    for event in events if isinstance(event, GivenUp))
        self._standing = self._standing.with_aside(*unusable, *given_up)

    def _choose(self, fleet: Fleet, *, whole: bool) -> Decision | ShortTurn:
        """Steps 2 to 6, or what cannot wait for them. What was set aside since the last whole tick goes into
        this one's record."""
        now, turn = self._standing, engine.decide if whole else engine.between
        memory, chosen = turn(now.state.memory, fleet, self.settings, self.strategy, now.in_flight)
        now = replace(now, state=replace(now.state, memory=memory))
        if isinstance(chosen, Decision):
            asides = tuple(dict.fromkeys((*chosen.set_aside, *now.asides)))
            chosen = replace(chosen, set_aside=asides)
            now = replace(now, decision=chosen, asides=())
        self._standing = now
        return chosen

    def _start_moves(self, moves: Sequence[Move], fleet: Fleet) -> tuple[Command, ...]:
        """Write the moves down; what was already heard of their tasks may end some before they begin."""
        if self.settings.dry_run:
            return ()
        started = [migration.start(move, fleet.at)[0] for move in moves]
        known, commands = migration.advance_all(started, self._standing.events)
        now = self._standing
        self._standing = replace(
            now, state=replace(now.state, migrations=(*now.state.migrations, *known)),
            changed=(*now.changed, *known))
        return (*commands, *(Request(move=m.move) for m in known if m.state == "requested"))

    def _save(self, *, whole: bool) -> bool:
        """Keep the state under the fence; `False` when a later holder of the lease has written."""
        now = self._standing
        told = replace(now.state, in_effect=InEffect.of(self.settings, self._now()))
        if now.fence is not None and self._keeper.save(told, now.fence, whole=whole):
            return True
        log.warning("another balancer has taken over; this one drops its turn and waits")
        self._standing = replace(now, fence=None)
        return False

    def _publish(self, orders: Sequence[Order], fleet: Fleet) -> None:
        """Tell workers what to serve, and free what waits for workers that are gone."""
        self._standing = replace(self._standing, orders=tuple(orders))
        if self.settings.dry_run:
            return
        self.ports.store.publish_orders(orders, self.settings.order_ttl)
        if self.ports.recovery is not None:
            self._standing = self._standing.with_aside(*self.ports.recovery.recover())
        if (left := unserved(fleet)) and (returned := self.ports.handover.return_stranded(left)):
            log.info("%d messages went back to their lanes from queues that nobody serves any more: %s",
                     returned, ", ".join(left))

    def _act(self, commands: Sequence[Command]) -> None:
        """Step 6's end: enact what is written down. One that fails ends its move and no other."""
        for command in commands:
            try:
                if isinstance(command, Cancel):
                    self.ports.handover.cancel(command.move)
                else:
                    self._migrate_task(command.move)
            except Exception as error:
                log.exception("the move %s could not be asked for", command.move.move_id)
                self._give_up(command.move, f"{type(error).__name__}: {error}")

    def _give_up(self, move: Move, why: str) -> None:
        self._change(move, lambda m: migration.cancel(m, self._now(), why)[0])

    def _change(self, move: Move, step: Callable[[Migration], Migration]) -> None:
        """Put a migration's next state in place of the one that is kept."""
        now = self._standing
        kept = tuple(step(m) if m.move.move_id == move.move_id else m for m in now.state.migrations)
        changed = tuple(m for m in kept if m not in now.state.migrations)
        self._standing = replace(now, state=replace(now.state, migrations=kept),
                                 changed=(*now.changed, *changed))

    def _record_metrics(self, events: Sequence[Event], chosen: Decision | ShortTurn) -> None:
        """Step 8: what happened in this turn, to the ledger; after a whole tick its row of metrics."""
        now = self._standing
        fleet = now.fleet
        if fleet is None:
            return
        rows = ledger_rows.merge(ledger_rows.run_rows(events, fleet), ledger_rows.move_rows(now.changed))
        self._standing = replace(now, changed=())
        if not isinstance(chosen, Decision):
            rows = ledger_rows.merge(rows, ledger_rows.made_rows(chosen))
        else:
            rows = ledger_rows.merge(rows, ledger_rows.sample_rows(fleet), ledger_rows.tick_rows(
                chosen, fleet, now.state.migrations, self.settings,
                initiated=now.initiated, successful=now.successful))
            self._standing = replace(self._standing, initiated=0, successful=0)
        if rows:
            self.ports.ledger.record(rows)

    def _situation(self) -> Situation:
        """The fleet at this moment, as strategies, costs and benefits see it."""
        fleet, now = self._standing.fleet or self.update_performance_metrics(), self._standing
        return engine.situation(now.state.memory, fleet, self.settings, in_flight=now.in_flight)

    def _now(self) -> float:
        """The Redis server's clock, as far as the last look tells."""
        return self.ports.clock.now() + self._standing.skew_s
