-- First and last time of anything in the ledger (epoch seconds), the first of anything but ticks, how many
-- ticks it holds and the usual seconds between two.
WITH tick AS (
    SELECT timestamp, epoch(timestamp) - epoch(lag(timestamp) OVER (ORDER BY timestamp)) AS gap
    FROM load_balancer_metrics
)
SELECT epoch(min(least)) AS first, epoch(max(greatest)) AS last,
       epoch(min(least) FILTER (source <> 'tick')) AS detailed,
       (SELECT count(*) FROM tick) AS ticks, (SELECT median(gap) FROM tick) AS tick_s
FROM (
    SELECT 'tick' AS source, min(timestamp) AS least, max(timestamp) AS greatest FROM tick
    UNION ALL SELECT 'worker_samples', min(timestamp), max(timestamp) FROM worker_samples
    UNION ALL SELECT 'decisions', min(timestamp), max(timestamp) FROM decisions
    UNION ALL SELECT 'runs', min(ended_at), max(ended_at) FROM runs
    UNION ALL SELECT 'moves', min(decided_at), max(decided_at) FROM moves
)
