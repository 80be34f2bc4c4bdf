"""Every option of the balancer as one frozen record, with its range, and how it is read.

Pure: it is given mappings and never reads the environment itself (`balancer.wiring` does).
Each field's metadata says what `celery balancer options` and the table in the docs print.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields
from types import MappingProxyType
from typing import Any, Final

from balancer.errors import SettingError
from balancer.option_values import (
    as_bool,
    as_hints,
    as_integer,
    as_mapping,
    as_number,
    as_tasks,
    as_text,
    as_weights,
    near,
)

#: How options are called in `app.conf`, and in upper case in the environment.
PREFIX: Final = "balancer_"

#: Strategies that come with the package.
STRATEGIES: Final = ("static", "fixed", "adaptive", "priced")

#: Which running tasks are interrupted when they move, and not waited for (`balancer.decide.way_out`).
PREEMPT: Final = ("restartable", "always", "never")

#: Least distance of the two thresholds (utilization): closer, every worker is over or under.
LEAST_SEPARATION: Final = 0.05

#: How the options that are mappings are read.
_MAPPINGS: Final[Mapping[str, Callable[[str, Any], Mapping[str, Any]]]] = {
    "tasks": as_tasks, "hints": as_hints, "group_weights": as_weights,
}

_IMPORT_PATH: Final = re.compile(r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")
_NAMESPACE: Final = re.compile(r"^[A-Za-z0-9_.:-]+$")


def option(default: Any, help: str, *, low: float | None = None, high: float | None = None,
           choices: tuple[str, ...] = (), unit: str = "", seed: bool = False) -> Any:
    """A field with its documentation and its range; `seed` marks the thirteen options of the seed."""
    metadata = {"help": help, "low": low, "high": high, "choices": choices, "unit": unit, "seed": seed}
    if isinstance(default, Mapping):
        return field(default_factory=lambda: MappingProxyType(dict(default)), metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The options, without their `balancer_` prefix."""

    # The seed's thirteen.
    check_interval: float = option(
        30.0, "Seconds between whole ticks", low=0.1, high=86400, unit="s", seed=True)
    utilization_threshold_high: float = option(
        0.85, "Initial threshold for high utilization", low=0, high=1, seed=True)
    utilization_threshold_low: float = option(
        0.2, "Initial threshold for low utilization", low=0, high=1, seed=True)
    performance_window: float = option(
        5.0, "Window of performance measurements", low=0.1, high=1440, unit="min", seed=True)
    enable_task_migration: bool = option(True, "Move tasks at all", seed=True)
    max_simultaneous_migrations: int = option(
        2, "Running tasks in flight at once", low=0, high=10000, seed=True)
    enable_dynamic_thresholds: bool = option(True, "Adjust the thresholds to load and trend", seed=True)
    enable_predictive_balancing: bool = option(True, "Forecast load and act before it comes", seed=True)
    enable_cost_benefit_analysis: bool = option(
        True, "Weigh the cost of each move against its benefit", seed=True)
    enable_hardware_specific_strategies: bool = option(
        True, "Use what each kind of hardware is good at", seed=True)
    enable_resource_efficiency: bool = option(True, "Count energy and heat", seed=True)
    threshold_adjustment_rate: float = option(
        0.05, "Step of a threshold adjustment; where earlier ones led is kept in Redis and gone on from, "
        "also with 0", low=0, high=1, seed=True)
    prediction_window: float = option(
        3.0, "How far ahead load is forecast", low=0.01, high=1440, unit="min", seed=True)
    # Ours.
    strategy: str = option(
        "priced", "How to decide: static, fixed, adaptive, priced or an import path (module:Class)")
    price_interval: float = option(
        1.0, "Seconds between prices, orders and rescues", low=0.05, high=3600, unit="s")
    imbalance_threshold: float = option(
        0.3, "Least max − min utilization that counts as imbalance", low=0, high=1)
    prediction_confidence: float = option(
        0.7, "Least confidence for acting on a forecast", low=0, high=1)
    trip_samples: int = option(3, "Bad samples in a row before an imbalance counts", low=1, high=100)
    clear_samples: int = option(2, "Good samples in a row before it is over", low=1, high=100)
    tie_ratio: float = option(
        0.15, "Lanes within this share of the best are served as ties, by age", low=0, high=1)
    backlog_weight: float = option(
        0.0, "How far lanes are ordered by backlog over seconds (1: MaxWeight, a lower mean and a longer "
        "tail) instead of by price (0)", low=0, high=1)
    starvation_factor: float = option(
        4.0, "A lane whose head waited this many times the fleet's mean wait goes first", low=1, high=1000)
    lanes_limit: int = option(
        200, "Lanes a fleet may have before new profiles share their task's lane", low=1, high=100000)
    move_cooldown: float = option(
        30.0, "Seconds, 1 at least, before the same task moves again; doubles with each move", low=0,
        high=86400, unit="s")
    move_timeout: float = option(
        60.0, "Seconds before a move that nobody answered is stale", low=0.1, high=86400, unit="s")
    preempt: str = option(
        "restartable", "Running tasks that are interrupted to move: those that cannot checkpoint but may be "
        "restarted, always (checkpointing ones, too), never", choices=PREEMPT)
    preempt_grace: float = option(
        1.0, "Seconds before the process of a pre-empted task that does not leave is killed",
        low=0.05, high=3600, unit="s")
    drain_on_stop: bool = option(
        True, "A worker that is told to stop hands on what it holds, and lets running tasks leave at a "
        "checkpoint")
    handover_cost: float = option(
        0.1, "Seconds a hand-over is assumed to cost until moves were measured", low=0, high=3600, unit="s")
    heartbeat_interval: float = option(
        1.0, "Seconds between a worker's reports", low=0.05, high=60, unit="s")
    heartbeat_ttl: float = option(
        10.0, "Seconds after which a silent worker is taken for dead", low=0.5, high=3600, unit="s")
    deaths_limit: int = option(
        3, "Workers that may die while they run a task before it is set aside (`balancer failed`); 0: never",
        low=0, high=1000)
    order_ttl: float = option(
        30.0, "Seconds a worker follows an order that is not renewed", low=1, high=86400, unit="s")
    visibility_timeout: float = option(
        0.0, "Visibility timeout of a fleet whose workers all have the plug-in; 0 leaves the broker's",
        low=0, high=604800, unit="s")
    fence_ttl: float = option(
        86400.0, "Seconds a finished task's fence is remembered", low=60, high=2592000, unit="s")
    state_limit: int = option(
        512 * 1024 * 1024, "Largest checkpoint that is saved", low=1024, high=2**40, unit="bytes")
    result_kept_limit: int = option(
        65536, "Largest return value kept until the ack", low=0, high=2**30, unit="bytes")
    energy_slack: float = option(
        0.0, "Seconds a task may wait for frugal hardware, as the share of its joules that this saves",
        low=0, high=86400, unit="s")
    dry_run: bool = option(False, "Decide and record, but move nothing")
    namespace: str = option("balancer", "First part of every key in Redis")
    redis_url: str = option("", "Redis of fleet and fence; empty: the broker")
    db_path: str = option("./benchmark_db.duckdb", "The ledger's DuckDB file; empty: no ledger")
    ledger_backlog: int = option(
        100_000, "Rows kept in memory while the ledger cannot be written", low=0, high=10**8)
    ledger_days: float = option(
        30.0, "Days after which rows of the ledger are deleted, all but the one a tick; 0 keeps all",
        low=0, high=36500, unit="days")
    hardware: str = option("auto", "What a worker runs on when --hardware is not given")
    tasks: Mapping[str, Any] = option(
        {}, "What tasks need, by task name, for tasks whose code one cannot touch")
    group_weights: Mapping[str, Any] = option(
        {}, "Shares of the slots that groups of tasks have while several wait, {group: weight}; a group that "
        "is not named has 1; empty: off")
    hints: Mapping[str, Any] = option(
        {}, "Expected seconds for size 1, {profile: {hardware class or kind: seconds}}")


@dataclass(frozen=True, slots=True, kw_only=True)
class OptionRow:
    """One option as the docs and the command line show it; `limits` is a text, empty for any value."""

    name: str
    kind: str
    default: Any
    limits: str
    unit: str
    help: str
    seed: bool

    @property
    def conf(self) -> str:
        return PREFIX + self.name

    @property
    def environment(self) -> str:
        return self.conf.upper()


def names() -> tuple[str, ...]:
    """All options, without prefix, in the order of the docs."""
    return tuple(f.name for f in fields(Settings))


def parse(values: Mapping[str, Any]) -> Settings:
    """Settings from values by name without prefix. Raises `SettingError`; nothing is guessed or clipped."""
    known = {f.name: f for f in fields(Settings)}
    for name in values:
        if name not in known:
            raise SettingError(_unknown(str(name)))
    settings = Settings(**{name: _value(known[name], value) for name, value in values.items()})
    _check_together(settings)
    return settings


def from_sources(conf: Mapping[str, Any], environ: Mapping[str, str],
                 command_line: Mapping[str, Any]) -> Settings:
    """Settings by precedence: command line > environment > conf > default.

    `conf` holds `balancer_*` keys among others (any case, also `CELERY_BALANCER_*`); `environ` the
    same in upper case; `command_line` names without prefix, where `None` means not given. An
    unknown key in conf is refused; in the environment, which is shared with strangers (a
    Kubernetes service called balancer sets BALANCER_PORT), only one that nearly is an option.
    """
    values: dict[str, Any] = {}
    for key, value in conf.items():
        name = _option_name(str(key))
        if name is not None:
            if name not in names():
                raise SettingError(_unknown(name))
            values[name] = value
    for key, text in environ.items():
        name = _option_name(key) if key.isupper() else None
        if name is None:
            continue
        if name in names():
            # An empty variable is how compose files and shells say "not set".
            if text != "" or _kind(name) == "str":
                values[name] = text
        elif guess := near(key, [PREFIX.upper() + n.upper() for n in names()], cutoff=0.9):
            raise SettingError(f"unknown option {key!r} in the environment{guess}")
    values.update({name: value for name, value in command_line.items() if value is not None})
    return parse(values)


def describe() -> tuple[OptionRow, ...]:
    """One row an option, in order."""
    rows = []
    for f in fields(Settings):
        low, high = f.metadata["low"], f.metadata["high"]
        limits = ", ".join(f.metadata["choices"]) if low is None else f"{_plain(low)} – {_plain(high)}"
        default = {} if _kind(f.name) == "Mapping" else f.default
        rows.append(OptionRow(name=f.name, kind=_kind(f.name), default=default, limits=limits,
                              unit=f.metadata["unit"], help=f.metadata["help"], seed=f.metadata["seed"]))
    return tuple(rows)


def _option_name(key: str) -> str | None:
    lowered = key.lower().removeprefix("celery_")
    return lowered.removeprefix(PREFIX) if lowered.startswith(PREFIX) else None


def _unknown(name: str) -> str:
    if near(name, names()):
        return f"unknown option '{PREFIX}{name}'{near(PREFIX + name, [PREFIX + n for n in names()])}"
    return f"unknown option '{PREFIX}{name}'; the options are: {', '.join(PREFIX + n for n in names())}"


def _kind(name: str) -> str:
    annotation = next(str(f.type) for f in fields(Settings) if f.name == name)
    return annotation.split("[")[0]


def _value(f: Field[Any], value: Any) -> Any:
    where, kind = PREFIX + f.name, _kind(f.name)
    if kind == "bool":
        return as_bool(where, value)
    if kind in ("int", "float"):
        read = as_integer if kind == "int" else as_number
        return read(where, value, low=f.metadata["low"], high=f.metadata["high"], unit=f.metadata["unit"])
    if kind == "Mapping":
        return MappingProxyType(_MAPPINGS.get(f.name, as_mapping)(where, value))
    text = as_text(where, value)
    if (choices := f.metadata["choices"]) and text not in choices:
        raise SettingError(f"{where} = {value!r}: must be one of {', '.join(choices)}{near(text, choices)}")
    if f.name == "strategy" and text not in STRATEGIES and not _IMPORT_PATH.match(text):
        raise SettingError(f"{where} = {value!r}: must be one of {', '.join(STRATEGIES)} or an import path "
                           f"such as 'proj.policy:Mine'{near(text, STRATEGIES)}")
    if f.name == "namespace" and not _NAMESPACE.match(text):
        raise SettingError(f"{where} = {value!r}: must be letters, digits and any of _ . : -")
    if f.name == "hardware" and not text:
        raise SettingError(f"{where} = {value!r}: must name hardware, or be 'auto'")
    return text


def _check_together(s: Settings) -> None:
    """Options that each are possible but not beside each other."""
    high, low = s.utilization_threshold_high, s.utilization_threshold_low
    if high - low < LEAST_SEPARATION - 1e-9:
        raise SettingError(
            f"{PREFIX}utilization_threshold_high = {high:g} must be at least {LEAST_SEPARATION:g} above "
            f"{PREFIX}utilization_threshold_low = {low:g}")
    if s.heartbeat_ttl < 2 * s.heartbeat_interval:
        raise SettingError(
            f"{PREFIX}heartbeat_ttl = {s.heartbeat_ttl:g} s would take live workers for dead: it must be at "
            f"least twice {PREFIX}heartbeat_interval = {s.heartbeat_interval:g} s")
    # A turn comes at least every min(price, check): both rhythms renew the orders.
    renewed = min(s.price_interval, s.check_interval)
    if s.order_ttl <= renewed:
        raise SettingError(
            f"{PREFIX}order_ttl = {s.order_ttl:g} s ends before the next order is due: it must be more than "
            f"{PREFIX}price_interval = {s.price_interval:g} s")
    if 0 < s.visibility_timeout < 3 * s.heartbeat_interval:
        raise SettingError(
            f"{PREFIX}visibility_timeout = {s.visibility_timeout:g} s would run tasks twice: it must be 0 "
            f"(left as it is) or at least three times {PREFIX}heartbeat_interval = "
            f"{s.heartbeat_interval:g} s")


def _plain(number: float) -> str:
    return str(int(number)) if float(number).is_integer() else f"{number:g}"
