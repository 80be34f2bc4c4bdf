"""The Celery settings of the demo's fleet: an ordinary fleet's, with quicker rhythms.

What is shorter than its default is so because the whole demo lasts two minutes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from balancer.demo.place import Place
from balancer.demo.workload import seconds_table

#: The ledger of a demo, in its folder.
LEDGER: Final = "ledger.duckdb"


def conf(place: Place) -> dict[str, Any]:
    """Settings for `app.conf`, the same in every process of the demo."""
    return {
        # Celery's own.
        "task_acks_late": True,
        "worker_prefetch_multiplier": 1,
        "worker_send_task_events": True,
        "task_send_sent_event": True,
        "broker_connection_retry_on_startup": True,
        "result_expires": 3600,
        "worker_hijack_root_logger": True,
        # A killed worker's tasks: looked for each second, given back after the timeout below.
        "broker_transport_options": {"unacked_restore_interval": 1},
        # The balancer's.
        "balancer_strategy": place.strategy,
        "balancer_check_interval": 5.0,
        "balancer_price_interval": 1.0,
        "balancer_performance_window": 1.0,
        "balancer_prediction_window": 0.25,
        "balancer_heartbeat_interval": 0.5,
        "balancer_heartbeat_ttl": 5.0,
        "balancer_visibility_timeout": 10.0,
        "balancer_move_cooldown": 10.0,
        "balancer_move_timeout": 15.0,
        "balancer_db_path": str(Path(place.folder) / LEDGER) if place.folder else LEDGER,
        "balancer_hints": seconds_table(place.block_s) if place.warm else {},
    }
