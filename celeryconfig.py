"""The operator's settings of a balanced fleet: copy this file, change what differs, and load it.

    app = Celery("proj")
    app.config_from_object("celeryconfig")
    workers.install(app)

Only the broker is needed; everything else has a default. What is commented out shows it. All
options, with ranges: docs/options.md. Precedence: command line > environment
(BALANCER_CHECK_INTERVAL=15) > this file > default. An unknown or impossible `balancer_*` value is
refused when a worker, beat or client starts.

This file is for an operator's checkout and image. It is not part of the installed package.
"""

import os

# --- Celery's own -------------------------------------------------------------------------------

#: One Redis for messages, results, and what the balancer keeps. Redis 6.2 or later, or Valkey.
broker_url = os.environ.get("CELERY_BROKER_URL", "redis://127.0.0.1:6379/0")
result_backend = os.environ.get("CELERY_RESULT_BACKEND", broker_url)

#: Balanced tasks are acknowledged when they are done (their base class sees to it). Say the same
#: for all others if a killed worker should lose none of theirs either.
# task_acks_late = True

#: One message ahead for each slot: a task that waits in a busy worker cannot go where a slot is
#: free. `workers.install` sets this unless it is set here.
# worker_prefetch_multiplier = 1

#: For Flower.
worker_send_task_events = True
task_send_sent_event = True

broker_connection_retry_on_startup = True

# --- The tick -----------------------------------------------------------------------------------

#: How to decide: "priced" (the default), "adaptive" (the original algorithm), "fixed", "static",
#: or a strategy of your own as "module:Class".
# balancer_strategy = "priced"

#: Seconds between whole ticks, and between prices and orders.
# balancer_check_interval = 30
# balancer_price_interval = 1

#: First bounds of high and low utilization (0–1); moved with the load unless that is switched off.
# balancer_utilization_threshold_high = 0.85
# balancer_utilization_threshold_low = 0.2
# balancer_enable_dynamic_thresholds = True
# balancer_threshold_adjustment_rate = 0.05

#: Minutes that are looked back on, and ahead.
# balancer_performance_window = 5
# balancer_prediction_window = 3
# balancer_enable_predictive_balancing = True

#: Shares of the slots while several groups of tasks wait (docs/order.md, Groups of tasks). Empty: off.
# balancer_group_weights = {"research": 3, "nightly": 1}

# --- Moving tasks -------------------------------------------------------------------------------

# balancer_enable_task_migration = True
# balancer_max_simultaneous_migrations = 2
# balancer_enable_cost_benefit_analysis = True
# balancer_enable_hardware_specific_strategies = True
# balancer_enable_resource_efficiency = True

#: Seconds before the same task may move again; doubles with each move.
# balancer_move_cooldown = 30

#: Decide and record, but move nothing: for a first look at what it would do.
# balancer_dry_run = True

# --- Dead workers -------------------------------------------------------------------------------

#: Seconds after which a worker that is silent is taken for dead.
# balancer_heartbeat_ttl = 10

#: Seconds until a dead worker's tasks are given to others. Live workers renew what they hold, so it
#: may be short; but only when every worker on this broker is a balanced one. 0: Celery's own hour.
balancer_visibility_timeout = 60

# --- What is kept -------------------------------------------------------------------------------

#: The ledger of everything that was measured, decided and moved. Empty: none.
balancer_db_path = "./benchmark_db.duckdb"

# --- What tasks need, and how long they take ----------------------------------------------------

#: For tasks whose code cannot be touched; others say it in their decorator.
# balancer_tasks = {
#     "proj.train": {"hardware": ("cuda", "cpu"), "gpu_memory": "12GB", "checkpoints": True},
#     "proj.thumbnail": {"hardware": ("cpu",), "profile": "thumbnail"},
# }

#: Seconds that are expected for size 1, until runs say otherwise.
# balancer_hints = {"proj.train": {"cuda-V100": 40.0, "cuda-K80": 310.0}}
