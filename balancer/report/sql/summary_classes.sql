-- Runs by hardware class; a class that was there and ran nothing is shown too.
WITH run AS (
    SELECT hardware_class, bool_or(emulated) AS emulated, count(*) AS runs,
           count(*) FILTER (outcome = 'success') AS succeeded, count(*) FILTER (outcome = 'failure') AS failed,
           count(*) FILTER (outcome = 'moved') AS moved,
           sum(duration_s) AS busy_s, median(duration_s) AS median_s, sum(joules) AS joules,
           count(joules) AS measured
    FROM runs
    WHERE ended_at BETWEEN make_timestamp($since_us) AND make_timestamp($until_us)
    GROUP BY 1
), seen AS (
    SELECT hardware_class, bool_or(emulated) AS emulated, count(DISTINCT worker) AS workers,
           avg(load) AS load, avg(power_w) AS power_w
    FROM worker_samples
    WHERE timestamp BETWEEN make_timestamp($since_us) AND make_timestamp($until_us)
    GROUP BY 1
)
SELECT coalesce(run.hardware_class, seen.hardware_class)
       || CASE WHEN coalesce(seen.emulated, run.emulated) THEN ' (emulated)' ELSE '' END AS class,
       coalesce(seen.emulated, run.emulated, false) AS emulated,
       workers, load, power_w, coalesce(runs, 0) AS runs, coalesce(succeeded, 0) AS succeeded,
       coalesce(failed, 0) AS failed, coalesce(moved, 0) AS moved, busy_s, median_s, joules,
       coalesce(measured, 0) AS measured
FROM run FULL JOIN seen USING (hardware_class)
ORDER BY class
