-- Mean load (0-1) by row of the heatmap and time bucket. A row is a worker; with more than
-- $most_rows workers it is a hardware class.
WITH sample AS (
    SELECT time_bucket(to_seconds($bucket_s), timestamp) AS bucket, worker, load, power_w,
           hardware_class || CASE WHEN emulated THEN ' (emulated)' ELSE '' END AS class
    FROM worker_samples
    WHERE timestamp BETWEEN make_timestamp($since_us) AND make_timestamp($until_us) AND load IS NOT NULL
), few AS (SELECT count(DISTINCT worker) <= $most_rows AS few FROM sample), cell AS (
    SELECT epoch_ms(bucket) AS start, strftime(bucket, '%Y-%m-%d %H:%M:%S') AS "when",
           CASE WHEN few THEN class || ' · ' || worker ELSE class END AS row,
           any_value(class) AS class, avg(load) AS load, max(load) AS peak,
           count(DISTINCT worker) AS workers, avg(power_w) AS power_w
    FROM sample, few
    GROUP BY bucket, row
)
-- A cell reaches to the next one, but no further than a bucket without a sample would: ticks are
-- not exactly as far apart as buckets are wide.
SELECT *, least(coalesce(lead(start) OVER (PARTITION BY row ORDER BY start), start + 1000 * $bucket_s),
                start + 2000 * $bucket_s) AS stop
FROM cell
ORDER BY row, start
