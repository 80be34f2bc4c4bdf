-- What the ticks saw, in one row.
SELECT count(*) AS ticks, avg(system_load) AS load, max(system_load) AS peak, avg(imbalance_score) AS imbalance,
       avg(TRY_CAST(metrics->>'load_deviation' AS DOUBLE)) AS deviation,
       max(TRY_CAST(metrics->>'worker_count' AS INTEGER)) AS workers,
       string_agg(DISTINCT metrics->>'strategy', ', ' ORDER BY metrics->>'strategy') AS strategies,
       bool_or(TRY_CAST(metrics->>'dry_run' AS BOOLEAN)) AS dry_run,
       min(threshold_high) AS high_least, max(threshold_high) AS high_greatest,
       min(threshold_low) AS low_least, max(threshold_low) AS low_greatest,
       sum(migrations_initiated)::BIGINT AS initiated, sum(migrations_successful)::BIGINT AS successful,
       arg_max(prediction_accuracy, timestamp) AS accuracy
FROM load_balancer_metrics
WHERE timestamp BETWEEN make_timestamp($since_us) AND make_timestamp($until_us)
