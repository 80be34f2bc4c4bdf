"""Makes a Celery app a balanced one: `workers.install(app)`.

The same call in the worker, in beat and in every client that publishes. What an operator set on
purpose is left as it is; what is not declared balanced runs as plain Celery runs it.
"""

from __future__ import annotations

from typing import Any

import click
from celery import Celery, signals
from celery.utils.log import get_logger

from balancer import beat_program, tasks, wiring
from balancer.errors import HardwareError, SettingError
from probes.detect import parse_hardware, resolve
from workers.balance import balance_declared
from workers.publish import LaneRouter
from workers.pulse import Pulse
from workers.receiving import Receiving
from workers.reporter import Reporter

logger = get_logger(__name__)

#: The path under which kombu finds our order of queues.
ORDER = "workers.lanes:LaneCycle"


def install(app: Celery) -> Celery:
    """Make `app` a balanced one and return it. Installing twice is the same as once.

    Raises `SettingError` when a `balancer_*` setting is unknown or impossible, at the latest when
    the app's configuration is first used.
    """
    if getattr(app, "balancer_installed", False):
        return app
    app.balancer_installed = True
    import workers.handover
    import workers.preempt  # noqa: F401  both register their control commands
    from workers.drain import HandOn

    app.user_options["worker"].add(
        click.Option(
            ["--hardware"],
            callback=check_options,
            help="What this worker runs on: auto|cpu|cuda[:index]|rocm|mps|openvino|qnn|webnn|webgpu"
            "[,label=value…]",
        )
    )
    app.steps["consumer"].update((HandOn, Pulse, Reporter, Receiving))
    beat_program.install_beat(app)
    tasks.register(app)
    if app.configured:
        configure(app)
    else:
        app.on_after_configure.connect(lambda sender, **_: configure(sender), weak=False)
    app.on_after_finalize.connect(lambda sender, **_: balance_declared(sender), weak=False)
    return app


def check_options(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """An impossible `--hardware` or `balancer_*` option is refused before the worker starts."""
    try:
        if value is not None:
            resolve(parse_hardware(value))
        wiring.settings_of(context.obj.app)
    except HardwareError as error:
        raise click.BadParameter(str(error)) from error
    except SettingError as error:
        raise click.UsageError(str(error)) from error
    return value


def configure(app: Celery) -> None:
    """Put the router, the order of queues and the defaults that late binding needs in place."""
    settings = wiring.settings_of(app)
    conf = app.conf
    router = app.balancer_router = LaneRouter(app, settings)
    routes = conf.task_routes
    listed = list(routes) if isinstance(routes, list | tuple) else [routes] if routes else []
    conf.task_routes = [*listed, router]
    signals.before_task_publish.connect(
        lambda headers=None, body=None, **_: (
            router.mark(headers, body) if isinstance(headers, dict) else None
        ),
        weak=False,
        dispatch_uid=f"balancer-{id(app)}",
    )
    options: dict[str, Any] = dict(conf.broker_transport_options or {})
    options.setdefault("queue_order_strategy", ORDER)
    # For the balanced transport; the stock one takes no notice.
    options["balancer"] = {
        "namespace": settings.namespace,
        "heartbeat_ttl": settings.heartbeat_ttl,
        "fence_ttl": settings.fence_ttl,
    }
    if settings.visibility_timeout:
        # kombu looks for lapsed deliveries only every tenth time of every tenth second by default. The
        # timeout itself is shortened by `workers.visibility`, when no worker speaks against it.
        options.update(
            unacked_restore_throttle=1,
            unacked_restore_interval=max(0.5, settings.visibility_timeout / 4),
            unacked_restore_limit=1000,
        )
    conf.broker_transport_options = options
    if not conf.value_set_for("broker_channel_error_retry"):
        # A worker would end for good on a Redis that refuses something for a while (it is full, say).
        conf.broker_channel_error_retry = True
    if not conf.value_set_for("worker_prefetch_multiplier"):
        # A task that waits in a busy worker cannot go where a slot is free.
        conf.worker_prefetch_multiplier = 1
