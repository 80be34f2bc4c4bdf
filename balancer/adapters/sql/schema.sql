-- The ledger's tables, version 3. Every statement may run again on a ledger that has them.
-- Times are UTC. Ratios are 0–1; other quantities end in their unit. Unknown is NULL, never 0.
-- A table's COMMENT may name its key ("key: a, b"): a row with the same key replaces
-- the one written before. Rows of the other tables are only ever added. After `balancer_ledger_days`
-- rows go, but not those of load_balancer_metrics (`ledger_retention`).

CREATE SEQUENCE IF NOT EXISTS load_balancer_metrics_id;

-- The seed's table, column for column: one row a tick. The sequence is what makes
-- inserts without an id work.
CREATE TABLE IF NOT EXISTS load_balancer_metrics (
    id INTEGER PRIMARY KEY DEFAULT nextval('load_balancer_metrics_id'),
    timestamp TIMESTAMP,
    system_load FLOAT,
    threshold_high FLOAT,
    threshold_low FLOAT,
    imbalance_score FLOAT,
    migrations_initiated INTEGER,
    migrations_successful INTEGER,
    prediction_accuracy FLOAT,
    metrics JSON
);

-- One row a worker and tick: what its last report said. `load` is its fullest dimension.
CREATE TABLE IF NOT EXISTS worker_samples (
    timestamp TIMESTAMP,
    worker VARCHAR,
    instance VARCHAR,
    hardware VARCHAR,
    hardware_class VARCHAR,
    emulated BOOLEAN,
    telemetry VARCHAR,
    health VARCHAR,
    slots INTEGER,
    busy INTEGER,
    reserved INTEGER,
    load DOUBLE,
    cpu DOUBLE,
    memory DOUBLE,
    gpu DOUBLE,
    gpu_memory DOUBLE,
    pressure DOUBLE,
    disk_bytes_per_s DOUBLE,
    network_bytes_per_s DOUBLE,
    temperature_celsius DOUBLE,
    power_w DOUBLE,
    reported_at TIMESTAMP,
    io DOUBLE
);
-- Version 1 had no `io`.
ALTER TABLE worker_samples ADD COLUMN IF NOT EXISTS io DOUBLE;

-- What each tick found, chose and refused. `kind` is imbalance, move, refused, set_aside or note;
-- `cost` (0–10) and `benefit` (0 and more) are on the seed's scale, `parts` holds their factors.
CREATE TABLE IF NOT EXISTS decisions (
    timestamp TIMESTAMP,
    strategy VARCHAR,
    kind VARCHAR,
    reason VARCHAR,
    detail VARCHAR,
    move_id VARCHAR,
    task_id VARCHAR,
    profile VARCHAR,
    move_kind VARCHAR,
    source VARCHAR,
    target VARCHAR,
    proactive BOOLEAN,
    tasks INTEGER,
    cost DOUBLE,
    benefit DOUBLE,
    cost_s DOUBLE,
    benefit_s DOUBLE,
    parts JSON
);

-- One row a move, as it stands: requested, handed_over, completed, refused, stale or cancelled.
CREATE TABLE IF NOT EXISTS moves (
    move_id VARCHAR,
    task_id VARCHAR,
    profile VARCHAR,
    kind VARCHAR,
    source VARCHAR,
    target VARCHAR,
    target_queue VARCHAR,
    reason VARCHAR,
    proactive BOOLEAN,
    state VARCHAR,
    detail VARCHAR,
    decided_at TIMESTAMP,
    requested_at TIMESTAMP,
    handed_over_at TIMESTAMP,
    started_at TIMESTAMP,
    ended_at TIMESTAMP,
    asked INTEGER,
    moved INTEGER,
    state_bytes BIGINT,
    cost DOUBLE,
    benefit DOUBLE,
    cost_s DOUBLE,
    benefit_s DOUBLE,
    parts JSON
);
COMMENT ON TABLE moves IS 'key: move_id';

-- One row a forecast; `truth`, `accuracy` and `inside` come when it is due and was judged.
CREATE TABLE IF NOT EXISTS forecasts (
    subject VARCHAR,
    made_at TIMESTAMP,
    due_at TIMESTAMP,
    method VARCHAR,
    value DOUBLE,
    low DOUBLE,
    high DOUBLE,
    confidence DOUBLE,
    truth DOUBLE,
    accuracy DOUBLE,
    inside BOOLEAN
);
COMMENT ON TABLE forecasts IS 'key: due_at, made_at, subject';

-- One row a finished run of a task's body. `joules` is an estimate; `joules_from` says of what. `ready_at` is
-- when the task was published, or its ETA came, by its publisher's clock.
CREATE TABLE IF NOT EXISTS runs (
    task_id VARCHAR,
    profile VARCHAR,
    worker VARCHAR,
    hardware_class VARCHAR,
    emulated BOOLEAN,
    epoch INTEGER,
    outcome VARCHAR,
    started_at TIMESTAMP,
    ended_at TIMESTAMP,
    duration_s DOUBLE,
    size DOUBLE,
    share DOUBLE,
    joules DOUBLE,
    joules_from VARCHAR
);
ALTER TABLE runs ADD COLUMN IF NOT EXISTS ready_at TIMESTAMP;
COMMENT ON TABLE runs IS 'key: ended_at, task_id, epoch';

-- One row: the version of these tables.
CREATE TABLE IF NOT EXISTS schema_version (version INTEGER);
