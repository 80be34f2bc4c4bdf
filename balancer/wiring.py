"""Builds a balancer from a Celery app: the only reader of the environment and of `app.conf`.

Beat, the command line, the scheduled tasks and the workers all come here, so that one app means
the same settings, the same Redis and the same names everywhere.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from celery import Celery
from celery.utils.imports import import_from_cwd

from balancer.adapters.redis_connection import Connection, connect
from balancer.errors import SettingError
from balancer.option_values import near
from balancer.settings import PREFIX, STRATEGIES, Settings, from_sources

if TYPE_CHECKING:
    from balancer.adapters.redis_handover import Control
    from balancer.decide.situation import Strategy
    from balancer.loop import AdaptiveLoadBalancer
    from balancer.standing import Ports

# What only a balancer needs (numpy, DuckDB) is imported where one is built: a worker comes here for its
# settings, and would pay for the rest in every process of its pool.

#: Least time to live of the lease (s), and how many rhythms it outlives: a killed balancer is
#: replaced this late, a slow one is not thrown out by a turn that takes a little longer.
LEASE_TTL_S: Final = 5.0
LEASE_RHYTHMS: Final = 4.0


def settings_of(app: Celery, command_line: Mapping[str, Any] | None = None) -> Settings:
    """The settings of `app`: command line > environment > conf > default. Raises `SettingError`."""
    return from_sources(conf_of(app), os.environ, command_line or {})


def conf_of(app: Celery) -> dict[str, Any]:
    """The `balancer_*` keys of the app's configuration, without the namespace it was read with.

    Celery accepts keys it does not know and keeps them as they are written, with a prefix where
    `config_from_object(…, namespace="CELERY")` was used, so all of them are looked at.
    """
    prefix = (app.conf.prefix or "").lower()
    found: dict[str, Any] = {}
    for key in list(app.conf):
        name = str(key).lower().removeprefix(prefix).removeprefix("celery_")
        if name.startswith(PREFIX):
            found[name] = app.conf[key]
    return found


def strategy_of(settings: Settings) -> Strategy:
    """The strategy by name, or the object at its import path, which may begin in the working directory (a
    class is called without arguments). Raises `SettingError` for what is none."""
    if settings.strategy in STRATEGIES:
        from balancer.decide import strategies

        return strategies.by_name(settings.strategy)
    where = f"{PREFIX}strategy = {settings.strategy!r}"
    module, _, attribute = settings.strategy.partition(":")
    try:
        found = getattr(import_from_cwd(module), attribute)
        made = found() if isinstance(found, type) else found
    except (ImportError, AttributeError) as error:
        raise SettingError(f"{where}: {error}{near(settings.strategy, STRATEGIES)}") from error
    except Exception as error:
        raise SettingError(f"{where}: {type(error).__name__}: {error}") from error
    lacks = [a for a in ("name", "moves_thresholds", "foresees", "orders", "suggest") if not hasattr(made, a)]
    if lacks:
        raise SettingError(f"{where}: a strategy has {', '.join(lacks)} too; see balancer.decide.situation")
    idle = [a for a in ("orders", "suggest", "adjust") if not callable(getattr(made, a, len))]
    if idle:
        raise SettingError(f"{where}: {', '.join(idle)} cannot be called")
    from balancer.decide.strategies.own import Own

    return Own(made, where)


def identity() -> str:
    """How this balancer calls itself to a person; the lease makes it unique."""
    return f"{socket.gethostname()}:{os.getpid()}"


def lease_ttl_s(settings: Settings) -> float:
    """Seconds after which a silent holder of the lease is replaced."""
    rhythm = min(settings.price_interval, settings.check_interval)
    return max(LEASE_TTL_S, LEASE_RHYTHMS * rhythm)


def build(app: Celery, command_line: Mapping[str, Any] | None = None) -> AdaptiveLoadBalancer:
    """A balancer over the app's Redis. Raises `SettingError` or `StoreError` (Redis does not answer)."""
    from balancer.loop import AdaptiveLoadBalancer

    settings = settings_of(app, command_line)
    strategy = strategy_of(settings)
    return AdaptiveLoadBalancer(ports_over(app, connection_of(app, settings), settings), settings, strategy)


def onlooker(app: Celery) -> AdaptiveLoadBalancer:
    """A balancer that has looked and takes no lease, with what the one that runs was started with: that is
    what the fleet does now. Where none runs it has the app's own settings. Raises as `build`."""
    from balancer.standing import OWN, RUNNING

    balancer = build(app)
    balancer.look()
    told = balancer.standing.state.in_effect
    if told is None or balancer.ports.lease.holder() is None:
        return balancer
    try:
        settings = told.over(balancer.settings)
        balancer.follow(settings, strategy_of(settings), RUNNING, told.at)
    except SettingError as error:  # its strategy may be nowhere on the path of this process
        whose = f"{OWN}, as those of {RUNNING} cannot be used here: {error}"
        balancer.follow(balancer.settings, balancer.strategy, whose, None)
    return balancer


def connection_of(app: Celery, settings: Settings) -> Connection:
    """A connection of its own to the fleet's Redis. Raises `StoreError` when it does not answer."""
    return connect(app, settings.redis_url, namespace=settings.namespace)


def ports_over(app: Celery, connection: Connection, settings: Settings) -> Ports:
    """The real adapters over one connection."""
    from balancer.adapters.duckdb_ledger import DuckDBLedger
    from balancer.adapters.redis_handover import RedisHandOver
    from balancer.adapters.redis_lease import RedisLease
    from balancer.adapters.redis_store import RedisFleetStore
    from balancer.adapters.system_clock import SystemClock
    from balancer.recovery import FleetRecovery
    from balancer.standing import Ports

    def command(name: str) -> Control:
        return lambda worker, arguments: app.control.broadcast(
            name, arguments=arguments, destination=[worker], reply=False)

    return Ports(
        store=RedisFleetStore(connection, heartbeat_ttl_s=settings.heartbeat_ttl),
        handover=RedisHandOver(connection, command("balancer_relinquish"), command("balancer_preempt")),
        lease=RedisLease(connection, holder=identity(), ttl_s=lease_ttl_s(settings)),
        ledger=DuckDBLedger(settings.db_path, settings.ledger_backlog, days=settings.ledger_days),
        clock=SystemClock(),
        recovery=FleetRecovery(app, connection, settings),
    )
