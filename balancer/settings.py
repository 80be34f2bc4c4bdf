"""Every option of the balancer as one frozen record, with its range.

Pure: it is given mappings and never reads the environment itself (`balancer.wiring` does).
Each field's metadata says what `celery balancer` and the option table in the docs print.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any


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
    check_interval: float = option(30.0, "Seconds between whole ticks", low=0.1, high=86400, unit="s", seed=True)
    utilization_threshold_high: float = option(0.85, "Initial threshold for high utilization", low=0, high=1, seed=True)
    utilization_threshold_low: float = option(0.2, "Initial threshold for low utilization", low=0, high=1, seed=True)
    performance_window: float = option(5.0, "Window of performance measurements", low=0.1, high=1440, unit="min", seed=True)
    enable_task_migration: bool = option(True, "Move tasks at all", seed=True)
    max_simultaneous_migrations: int = option(2, "Running tasks in flight at once", low=0, high=10000, seed=True)
    enable_dynamic_thresholds: bool = option(True, "Adjust the thresholds to load and trend", seed=True)
    enable_predictive_balancing: bool = option(True, "Forecast load and act before it comes", seed=True)
    enable_cost_benefit_analysis: bool = option(True, "Weigh the cost of each move against its benefit", seed=True)
    enable_hardware_specific_strategies: bool = option(True, "Use what each kind of hardware is good at", seed=True)
    enable_resource_efficiency: bool = option(True, "Count energy and heat", seed=True)
    threshold_adjustment_rate: float = option(0.05, "Step of a threshold adjustment", low=0, high=1, seed=True)
    prediction_window: float = option(3.0, "How far ahead load is forecast", low=0.01, high=1440, unit="min", seed=True)
    # Ours.
    strategy: str = option("priced", "How to decide: static, fixed, adaptive, priced or an import path (module:Class)")
    price_interval: float = option(1.0, "Seconds between prices and orders", low=0.05, high=3600, unit="s")
    imbalance_threshold: float = option(0.3, "Least max − min utilization that counts as imbalance", low=0, high=1)
    prediction_confidence: float = option(0.7, "Least confidence for acting on a forecast", low=0, high=1)
    trip_samples: int = option(3, "Bad samples in a row before an imbalance counts", low=1, high=100)
    clear_samples: int = option(2, "Good samples in a row before it is over", low=1, high=100)
    tie_ratio: float = option(0.15, "Lanes within this share of the best are served as ties, by age", low=0, high=1)
    starvation_factor: float = option(4.0, "A lane whose head waited this many times the fleet's mean wait goes first", low=1, high=1000)
    lanes_limit: int = option(200, "Lanes a fleet may have before new profiles share their task's lane", low=1, high=100000)
    move_cooldown: float = option(30.0, "Seconds before the same task moves again; doubles with each move", low=0, high=86400, unit="s")
    move_timeout: float = option(60.0, "Seconds before a move that nobody answered is stale", low=0.1, high=86400, unit="s")
    handover_cost: float = option(0.1, "Seconds a hand-over is assumed to cost until moves were measured", low=0, high=3600, unit="s")
    heartbeat_interval: float = option(1.0, "Seconds between a worker's reports", low=0.05, high=60, unit="s")
    heartbeat_ttl: float = option(10.0, "Seconds after which a silent worker is taken for dead", low=0.5, high=3600, unit="s")
    order_ttl: float = option(30.0, "Seconds a worker follows an order that is not renewed", low=1, high=86400, unit="s")
    visibility_timeout: float = option(0.0, "Broker's visibility timeout for a balanced fleet; 0 leaves it as it is", low=0, high=604800, unit="s")
    fence_ttl: float = option(86400.0, "Seconds a finished task's fence is remembered", low=60, high=2592000, unit="s")
    state_limit: int = option(512 * 1024 * 1024, "Largest checkpoint that is saved", low=1024, high=2**40, unit="bytes")
    result_kept_limit: int = option(65536, "Largest return value kept until the ack", low=0, high=2**30, unit="bytes")
    energy_slack: float = option(0.0, "Seconds a task may wait for frugal hardware", low=0, high=86400, unit="s")
    dry_run: bool = option(False, "Decide and record, but move nothing")
    namespace: str = option("balancer", "First part of every key in Redis")
    redis_url: str = option("", "Redis of fleet and fence; empty: the broker")
    db_path: str = option("./benchmark_db.duckdb", "The ledger's DuckDB file; empty: no ledger")
    ledger_backlog: int = option(100_000, "Rows kept in memory while the ledger cannot be written", low=0, high=10**8)
    hardware: str = option("auto", "What a worker runs on when --hardware is not given")
    tasks: Mapping[str, Any] = option({}, "What tasks need, by task name, for tasks whose code one cannot touch")
    hints: Mapping[str, Any] = option({}, "Expected seconds for size 1, {profile: {hardware class or kind: seconds}}")
