-- The same from the seed's table alone, for a ledger without the table of moves.
WITH bucket AS (
    SELECT time_bucket(to_seconds($bucket_s), timestamp) AS bucket,
           sum(migrations_initiated) AS initiated,
           least(sum(migrations_successful), sum(migrations_initiated)) AS successful
    FROM load_balancer_metrics
    WHERE timestamp BETWEEN make_timestamp($since_us) AND make_timestamp($until_us)
    GROUP BY 1
)
SELECT epoch_ms(bucket) AS start, strftime(bucket, '%Y-%m-%d %H:%M:%S') AS "when", outcome,
       moves::BIGINT AS moves, moves::BIGINT AS tasks, NULL AS proactive, NULL AS seconds
FROM bucket, LATERAL (VALUES ('completed', successful), ('not completed', initiated - successful)) AS o(outcome, moves)
WHERE moves > 0
ORDER BY start, outcome
