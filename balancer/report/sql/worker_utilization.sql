-- Quantiles of load (0-1) by worker; with more than $most_rows workers by hardware class.
WITH sample AS (
    SELECT worker, load, hardware_class || CASE WHEN emulated THEN ' (emulated)' ELSE '' END AS class
    FROM worker_samples
    WHERE timestamp BETWEEN make_timestamp($since_us) AND make_timestamp($until_us) AND load IS NOT NULL
), few AS (SELECT count(DISTINCT worker) <= $most_rows AS few FROM sample)
SELECT CASE WHEN few THEN worker ELSE class END AS row, class, count(*) AS samples, avg(load) AS mean,
       quantile_cont(load, 0.05) AS p05, quantile_cont(load, 0.25) AS p25, quantile_cont(load, 0.5) AS p50,
       quantile_cont(load, 0.75) AS p75, quantile_cont(load, 0.95) AS p95
FROM sample, few
GROUP BY 1, 2
ORDER BY class, row
