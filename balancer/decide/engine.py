"""The tick on one page: memory and fleet in, memory and decision out.

`decide` is the seed's decision flow, its steps 1–6 in their order; step 1, collecting, made the
fleet, and steps 7 (ended moves) and 8 (the record) are the loop's, which also acts. `between` is
the short turn between whole ticks. Pure: the time is `fleet.at`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from balancer.decide import detect, energy, forecast, plan, rest, thresholds
from balancer.decide.aptitude import crowded
from balancer.decide.columns import Columns, columns
from balancer.decide.fairness import accounted
from balancer.decide.forecast import Foresight, Records
from balancer.decide.foreseen import SYSTEM, confident
from balancer.decide.load import system_load, utilisations
from balancer.decide.memory import Memory
from balancer.decide.rooms import kept_free
from balancer.decide.series import Series
from balancer.decide.situation import Situation, Strategy
from balancer.decide.trend import TREND_RECORDS, workload_trend
from balancer.model import (
    Decision,
    Fleet,
    Forecast,
    Imbalance,
    JudgedForecast,
    Move,
    Order,
    ShortTurn,
    SystemLoad,
    Thresholds,
)
from balancer.model.table import in_columns
from balancer.settings import Settings

#: Records of load kept at most, however long the performance window.
RECORDS_LIMIT: Final = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """What step 4 found: forecasts made now, and those that came due."""

    forecasts: Sequence[Forecast] = ()
    judged: Sequence[JudgedForecast] = ()


def decide(
    memory: Memory, fleet: Fleet, settings: Settings, strategy: Strategy, in_flight: Sequence[Move]
) -> tuple[Memory, Decision]:
    """One whole tick. `in_flight` are the moves that have not ended; they count against the limits."""
    fleet = in_columns(fleet)
    values = utilisations(fleet)
    memory, load = observe(memory, fleet, settings, values)
    memory = replace(memory, history=memory.history.forget(fleet.at))
    memory, bounds = adjust(memory, settings, strategy)
    memory, outlook = predict(memory, settings)
    memory, imbalance, notes = find_imbalance(
        memory, fleet, settings, strategy, values, load, outlook.forecasts)
    seen = columns(fleet, memory.estimates)
    memory, orders = price(memory, fleet, settings, strategy, seen)
    now = situation(
        memory, fleet, settings, in_flight=in_flight, imbalance=imbalance, forecasts=outlook.forecasts
    )
    # Step 6: what the strategy suggests, through the one choke point.
    suggestions = strategy.suggest(replace(now, orders=orders, columns=seen))
    moves, rejected = plan.admit(suggestions, now)
    asleep, news = rest.asleep(memory.asleep, seen, memory.needs, fleet.at, settings)
    memory, system = replace(memory, asleep=asleep), memory.foresight.track(SYSTEM)
    return memory, Decision(
        at=fleet.at,
        strategy=strategy.name,
        load=load,
        thresholds=bounds,
        trend=workload_trend(memory.loads),
        forecasts=outlook.forecasts,
        judged=outlook.judged,
        accuracy=None if system is None else system.accuracy,
        imbalance=imbalance,
        orders=kept_free(orders, now, moves),
        moves=moves,
        rejected=rejected,
        set_aside=fleet.set_aside,
        power=energy.class_power(memory.power, fleet),
        notes=(*notes, *suggestions.notes, *news, *crowded(memory.estimates.aptitudes)),
    )


def price(
    memory: Memory, fleet: Fleet, settings: Settings, strategy: Strategy, seen: Columns | None = None
) -> tuple[Memory, tuple[Order, ...]]:
    """One order for each hardware class, and their prices remembered. `seen` are the fleet's columns where
    they are made already."""
    seen = seen or columns(fleet, memory.estimates)
    memory = replace(memory, account=accounted(memory.account, seen, fleet, settings))
    orders = strategy.orders(replace(situation(memory, fleet, settings), columns=seen))
    prices = {order.hardware_class: order.price for order in orders}
    return replace(memory, prices=MappingProxyType(prices)), orders


def between(
    memory: Memory, fleet: Fleet, settings: Settings, strategy: Strategy, in_flight: Sequence[Move]
) -> tuple[Memory, ShortTurn]:
    """The short turn: prices and orders and, of a strategy that is `eager`, the moves it suggests now.

    Refusals are told by the whole tick alone. A dry run suggests nothing here: nothing would come of it, and
    each turn would say the same.
    """
    fleet = in_columns(fleet)
    seen = columns(fleet, memory.estimates)
    memory, orders = price(memory, fleet, settings, strategy, seen)
    moves: tuple[Move, ...] = ()
    now = replace(situation(memory, fleet, settings, in_flight=in_flight), orders=orders, columns=seen)
    if getattr(strategy, "eager", False) and not settings.dry_run:
        moves, _ = plan.admit(strategy.suggest(now), now)
    return memory, ShortTurn(
        at=fleet.at, strategy=strategy.name, orders=kept_free(orders, now, moves), moves=moves)


def observe(
    memory: Memory, fleet: Fleet, settings: Settings, values: Mapping[str, float]
) -> tuple[Memory, SystemLoad]:
    """Step 2: the load now, of the utilisations by worker, appended to the records of the performance window.

    A fleet of which nothing is known leaves no record: no workers is not a load of zero. Records
    from the future (the server's clock was set back) are dropped.
    """
    load = system_load(fleet.at, values)
    oldest = fleet.at - max(60.0 * settings.performance_window, TREND_RECORDS * settings.check_interval)
    places = [i for i, record in enumerate(memory.loads) if oldest <= record.at < fleet.at]
    places = places[-RECORDS_LIMIT + 1:]
    loads = [memory.loads[i] for i in places]
    series = Series.of(memory.worker_loads, len(memory.loads))
    if values:
        loads.append(load)
    kept = series.then(places, values) if values else series.at(places)
    return replace(memory, loads=tuple(loads), worker_loads=kept), load


def adjust(memory: Memory, settings: Settings, strategy: Strategy) -> tuple[Memory, Thresholds]:
    """Step 3: the thresholds, moved by the strategy's own rule or the tempered one.

    A strategy may bring a rule as an attribute `adjust(thresholds, loads, settings)`.
    """
    bounds = thresholds.current(memory.thresholds, settings)
    if settings.enable_dynamic_thresholds and strategy.moves_thresholds:
        rule = getattr(strategy, "adjust", thresholds.tempered)
        bounds = rule(bounds, memory.loads, settings)
    return replace(memory, thresholds=bounds), bounds


def predict(memory: Memory, settings: Settings) -> tuple[Memory, Outlook]:
    """Step 4: judge the forecasts that are due, then foresee the system and every worker."""
    if not settings.enable_predictive_balancing or not memory.loads:
        return replace(memory, foresight=Foresight()), Outlook()
    records = Records.of(memory.loads, memory.worker_loads)
    kept, made, verdicts = forecast.look_ahead(memory.foresight, records, settings)
    return replace(memory, foresight=kept), Outlook(forecasts=made, judged=verdicts)


def find_imbalance(
    memory: Memory, fleet: Fleet, settings: Settings, strategy: Strategy, values: Mapping[str, float],
    load: SystemLoad, forecasts: Sequence[Forecast],
) -> tuple[Memory, Imbalance | None, tuple[str, ...]]:
    """Step 5: an imbalance seen now in `values`, else one foreseen; told only once the alarm has tripped."""
    bounds = thresholds.current(memory.thresholds, settings)
    found = detect.current(fleet, values, bounds, settings)
    if found is None and settings.enable_predictive_balancing and strategy.foresees:
        found = detect.foreseen(fleet, forecasts, load, bounds, settings)
    alarm, act = detect.sound(memory.alarm, found is not None, settings)
    memory = replace(memory, alarm=alarm)
    if found is None:
        return memory, None, ()
    most, least = found.overloaded[0], found.underloaded[0]
    seen = f"{found.kind} imbalance {found.score:.2f}: {most} over, {least} under"
    if not act:
        return memory, None, (f"{seen}; sample {alarm.bad} of {settings.trip_samples}, waiting",)
    return memory, found, (seen,)


def situation(
    memory: Memory,
    fleet: Fleet,
    settings: Settings,
    *,
    in_flight: Sequence[Move] = (),
    imbalance: Imbalance | None = None,
    forecasts: Sequence[Forecast] = (),
) -> Situation:
    """What a strategy is given, from the memory and the fleet."""
    return Situation(
        fleet=fleet,
        settings=settings,
        estimates=memory.estimates,
        history=memory.history,
        thresholds=thresholds.current(memory.thresholds, settings),
        profiles=memory.profiles,
        prices=memory.prices,
        power=memory.power,
        needs=memory.needs,
        ahead_s=memory.account.ahead_s if memory.account else {},
        warming=memory.warming,
        imbalance=imbalance,
        forecasts=forecasts,
        foreseen=confident(forecasts) if imbalance and imbalance.kind == "predicted" else {},
        in_flight=tuple(in_flight),
    )
